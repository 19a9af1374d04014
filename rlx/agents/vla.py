"""A vision-language-action model (pi0-FAST, Pertsch et al. 2025, arXiv 2501.09747; pi0, arXiv
2410.24164; pi0.5, arXiv 2504.16054): a decoder reads images and text, and says actions as tokens,
or a flow-matching expert beside it draws them, or both.

  tokens   L_b = -sum_i m_i log p(y_i | y_<i, prefix) / max(sum_i m_i, 1)
  flow     tau ~ 0.001 + 0.999 Beta(1.5, 1), x = tau eps + (1 - tau) a
           F_b = mean (v(x, tau, prefix) - (eps - a))**2
  both     L + flow_weight F; the expert reads the prefix through stop_gradient (`insulate`), sees
           no action token and is seen by none; actions are then drawn by the flow
One AdamW step on the mean over rows b; a row that was cut counts 0. Every parameter has a path
such as llm/layers/attention/q/w, img/head/kernel or expert/action_in/bias; those that `freeze`
names are kept apart, outside of gradients, optimiser and moving average.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from rlx.nn import vision_language as vl
from rlx.nn import vla_settings
from rlx.nn.action_expert import ActionExpert, draw_tau, flow_errors, sample_actions
from rlx.nn.speaking import choice_of, say_actions, vocabulary
from rlx.ops import masks, partition
from rlx.ops.accumulate import accumulated
from rlx.ops.action_tokens import Codec, Slots
from rlx.ops.adamw import adamw, begin
from rlx.ops.generate import greedy, sampler
from rlx.ops.learning import average
from rlx.ops.schedule import learning_rate
from rlx.ops.shards import pmean_if, psum_if, rows
from rlx.ops.token_loss import row_mean, tallies, token_scores
from rlx.types import EnvSpec, Keys, Learner, Metrics, PyTree, TokenBatch

HP = (
    "lr", "lr_end", "warmup_steps", "decay_steps", "weight_decay", "max_grad_norm", "ema",
    "z_loss", "flow_weight", "temperature",
)  # fmt: skip
POSITIONS = 8  # of the first predicted tokens, whose accuracy is logged one by one


def get_config() -> ConfigDict:
    """Return the settings of a small model; published ones are in `configs`."""
    return ConfigDict(
        dict(
            name="vla",
            batch_size=64,  # rows per gradient step, over all devices
            head="tokens",  # tokens, flow or both (knowledge insulation)
            decoder="tiny",  # a name of rlx.nn.transformer.VARIANTS
            vit="tiny",  # of rlx.nn.vit.VARIANTS; used if there are cameras
            expert="pi05",  # of the flow: pi0 or pi05
            expert_decoder="tiny_expert",  # same depth, kv and head_dim as `decoder`
            vocab_size=512,  # text and action tokens
            state_input="text",  # digits of the text, or token: one, by a network of its own
            lr=1e-3,  # AdamW, peak
            schedule="constant",  # after the warm-up: constant or cosine
            warmup_steps=100,  # gradient steps
            decay_steps=1000,  # of the cosine, where it ends
            lr_end=0.1,  # there, share of lr
            weight_decay=0.0,
            max_grad_norm=1.0,  # of all gradients together
            ema=0.0,  # rate of the moving average kept per step, e.g. 0.999; 0 = none
            z_loss=0.0,  # weight of the mean squared logsumexp
            action_vocab_only=False,  # softmax over action tokens and the end marker alone
            flow_weight=1.0,  # alpha of both losses together
            insulate=True,  # with both losses, the gradient of the flow stays in the expert
            flow_steps=10,  # Euler steps per chunk
            temperature=0.7,  # of sampling when exploring; evaluation takes the likeliest token
            max_new_tokens=0,  # per chunk; 0 = one per number of the chunk
            accumulate=1,  # slices of the batch whose gradients are summed one after the other
            augment=True,  # vary images in training
            freeze="",  # pattern searched in parameter paths: what does not learn
            learn="",  # pattern of exceptions, e.g. lora
            frozen_dtype="float32",  # or bfloat16
            lora_rank=0,  # of the decoder's projections; 0 = none
            lora_alpha=16.0,
            expert_lora_rank=0,
            expert_lora_alpha=32.0,
            rank_stabilized=False,  # LoRA scale alpha / sqrt(rank)
            dtype="float32",  # of the computation, or bfloat16; what learns stays float32
            remat=False,  # recompute activations in the backward pass, layer by layer
        )
    )


class State(struct.PyTreeNode):
    """Parameters by network; what is frozen is in no other field."""

    params: PyTree  # what learns
    frozen: PyTree
    target_params: PyTree  # moving average of params, or None
    opt_state: PyTree
    hp: dict[str, jax.Array]
    obs_stats: None
    grad_steps: jax.Array


def policy(state: State) -> PyTree:
    """Return all parameters as they act: the moving average if there is one, and the frozen."""
    learned = state.params if state.target_params is None else state.target_params
    return partition.merge(learned, state.frozen)


def load(state: State, params: PyTree) -> State:
    """Return `state` with all of its parameters replaced by those of the same paths in `params`.

    Moving average and optimiser start anew. Raises ValueError naming what is missing or misfits.
    """
    new = partition.paths(params)

    def take(old: PyTree) -> PyTree:
        flat = partition.paths(old)
        shapes = {p: new[p].shape if p in new else "nothing" for p in flat}
        wrong = [f"{p} {shapes[p]} for {x.shape}" for p, x in flat.items() if shapes[p] != x.shape]
        if wrong:
            raise ValueError(f"these parameters do not fit the model: {'; '.join(wrong)}")
        return partition.tree_of({p: jnp.asarray(new[p], x.dtype) for p, x in flat.items()})

    learned = take(state.params)
    return state.replace(
        params=learned,
        frozen=take(state.frozen),
        target_params=None if state.target_params is None else learned,
        opt_state=begin(learned),
    )


def make(
    config: ConfigDict,
    spec: EnvSpec,
    axis_name: str | None = None,
    *,
    slots: Slots | None = None,
    codec: Codec | None = None,
) -> Learner:
    """Build the learner; `slots` and `codec` say where action tokens are and what they mean.

    spec.obs: {"state": (S,), camera: (H, W, 3) uint8, ...}; spec.action: (T, A). Batches are
    `TokenBatch`, for the flow with extras actions `[B, T, A]` (normalised) and state `[B, S]`;
    extra fits bool `[B]`: False for rows cut at L, which teach nothing.
    act takes obs {tokens, segment, mask_ar `[B, P]`, images, image_mask, state} and returns actions
    `[B, T, A]` in the codec's units, extras {tokens `[B, M]` action ids, -1 after the end, valid,
    num_tokens `[B]`, steps}.   Raises ValueError naming the setting.
    """
    vla_settings.check(config, spec, slots, codec)
    nets, hp = vla_settings.build(config, spec), vla_settings.settings(config, HP)
    T, A = spec.action.shape
    says, flows = config.head != "flow", config.head != "tokens"

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        params, frozen = partition.split(vl.init(nets, key, spec), config.freeze, config.learn)
        return State(
            params=params,
            frozen=partition.cast(frozen, config.frozen_dtype),
            target_params=params if config.ema else None,
            opt_state=begin(params),
            hp=hp,
            obs_stats=None,
            grad_steps=jnp.int32(0),
        )

    def token_loss(params: PyTree, y: jax.Array, batch: TokenBatch, hp: dict) -> tuple:
        """Equation 'tokens'; `y [B, L, D]` are the decoder's outputs at the text."""
        head = nets.llm.apply({"params": params["llm"]}, method="head")
        targets, segment = batch.tokens[:, 1:], batch.segment
        inside = (segment[:, 1:] > 0) & (segment[:, 1:] == segment[:, :-1])
        mask = batch.mask_loss[:, 1:] & inside
        if config.action_vocab_only:  # tokens that are no choice (EOS) are not predicted
            own = cast(Slots, slots)  # checked: given wherever tokens are said
            head, targets = head[vocabulary(own)], choice_of(own, targets)
            mask &= targets >= 0
        scores = token_scores(y[:, :-1], head, targets, mask)
        loss = row_mean(scores.nll, scores.counted).mean()
        loss += hp["z_loss"] * row_mean(scores.log_z**2, scores.counted).mean()
        return loss, tallies(scores, POSITIONS)

    def flow_loss(params: PyTree, given: tuple, actions: jax.Array, keys: jax.Array) -> jax.Array:
        """Equation 'flow', F_b `[B]`; keys: one per row."""

        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            noise_key, tau_key = jax.random.split(key)
            return jax.random.normal(noise_key, (T, A)), draw_tau(tau_key)

        noise, tau = jax.vmap(draw)(keys)
        expert = {"params": params["expert"]}
        return flow_errors(
            cast(ActionExpert, nets.expert), expert, actions, noise, tau, given
        ).mean(-1)

    def losses(
        params: PyTree, hp: dict, batch: TokenBatch, keys: jax.Array, train: bool
    ) -> tuple[jax.Array, dict]:
        """The loss of some rows, and what is counted: {name: (sum, over)}. keys: one per row."""
        image_keys, flow_keys = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys)
        images = vl.prepare(nets, batch.images, image_keys if train and config.augment else None)
        text = batch.tokens, batch.segment, batch.mask_ar
        seq = vl.sequence(nets, params, text, images, batch.image_mask, batch.extras.get("state"))
        y, kv = vl.read(nets, params, seq)
        fits = batch.extras.get("fits", jnp.ones(len(y), bool))
        loss, counts = jnp.float32(0.0), {"truncated": (jnp.mean(~fits), jnp.float32(1.0))}
        if says:
            loss, said = token_loss(params, y[:, seq.offset :], batch, hp)
            counts |= said
            counts["token_loss"] = (loss, jnp.float32(1.0))
        if flows:
            memory = jax.lax.stop_gradient(kv) if says and config.insulate else kv
            given = batch.extras.get("state"), memory, masks.prefix(seq.mask_ar, seq.segment)
            actions = vl.need(batch.extras, "actions", "extras")
            flow = jnp.mean(fits * flow_loss(params, given, actions, flow_keys))
            counts["flow_loss"] = (flow, jnp.float32(1.0))
            loss += (hp["flow_weight"] if says else 1.0) * flow
        counts["loss"] = (loss, jnp.float32(1.0))
        return pmean_if((loss, counts), axis_name)

    def row_keys(keys: Keys, count: int) -> jax.Array:
        return rows(lambda key: jax.random.split(key, count // keys.keys.shape[0]), keys)

    def update(state: State, batch: TokenBatch, keys: Keys) -> tuple[State, Metrics]:
        def total(params: PyTree, batch: TokenBatch, keys: jax.Array) -> tuple[jax.Array, dict]:
            params = partition.merge(params, state.frozen)
            return losses(params, state.hp, batch, keys, train=True)

        grad = lambda *part: jax.grad(total, has_aux=True)(state.params, *part)  # noqa: E731
        row = row_keys(keys, len(batch.tokens))
        grads, counts = accumulated(grad, config.accumulate, batch, row)
        lr = learning_rate(config.schedule, state.grad_steps, state.hp)
        params, opt_state, norms = adamw(state.params, state.opt_state, grads, lr, state.hp)
        target = state.target_params
        if target is not None:
            target = average(params, target, 1.0 - state.hp["ema"])
        metrics = {name: a / jnp.maximum(b, 1.0) for name, (a, b) in counts.items()}
        metrics["read"] = psum_if(jnp.sum(batch.segment > 0, dtype=jnp.float32), axis_name)
        new = state.replace(
            params=params,
            target_params=target,
            opt_state=opt_state,
            grad_steps=state.grad_steps + 1,
        )
        return new, metrics | norms | {"lr": lr}

    def td_loss(state: State, batch: TokenBatch, keys: Keys) -> jax.Array:
        params = policy(state)
        return losses(params, state.hp, batch, row_keys(keys, len(batch.tokens)), train=False)[0]

    def act(state: State, obs: dict[str, Any], keys: Keys, explore: bool) -> tuple:
        params = policy(state)
        images = vl.prepare(nets, obs.get("images", {}))
        text, present = (obs["tokens"], obs["segment"], obs["mask_ar"]), obs.get("image_mask", {})
        seq = vl.sequence(nets, params, text, images, present, obs.get("state"))
        if flows:
            return flow_actions(params, seq, obs.get("state"), keys)
        pick = sampler(keys, state.hp["temperature"]) if explore else greedy
        own, means = cast(Slots, slots), cast(Codec, codec)
        llm, limit = {"params": params["llm"]}, config.max_new_tokens or int(means.size)
        return say_actions(nets.llm, llm, seq, own, means, limit, pick)

    def flow_actions(params: PyTree, seq: vl.Sequence, state: jax.Array | None, keys: Keys):
        """Integrate the flow; both explores and evaluates from noise, as published."""
        B = len(seq.x)
        _, kv = vl.read(nets, params, seq)
        draw = lambda key: jax.random.normal(key, (B // keys.keys.shape[0], T, A))  # noqa: E731
        given = state, kv, masks.prefix(seq.mask_ar, seq.segment)
        expert = {"params": params["expert"]}
        net, noise = cast(ActionExpert, nets.expert), rows(draw, keys)
        x = sample_actions(net, expert, noise, config.flow_steps, given)
        if codec is not None:
            x = x * codec.scale + codec.offset
        nothing = jnp.full((B, 0), -1, jnp.int32)
        counts = {"valid": jnp.ones((B,), bool), "num_tokens": jnp.zeros((B,), jnp.int32)}
        return x, {"tokens": nothing, **counts, "steps": jnp.int32(config.flow_steps)}

    return Learner(init, update, act, td_loss, hp)
