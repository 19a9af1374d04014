"""Distilling guided sampling into the model, forward KL (Uehara et al. 2025, arXiv 2501.09685,
section 8): the model imitates the soft-optimal kernel at states that any sampler visits.

Per gradient step, one Adam step on
  mean_B -sum_m w_m log p_theta(y_m|x_t),  y_1 ... y_M ~ p_pre(.|x_t),
  w = softmax_m(v(y_m, t - 1) / alpha)
The soft-optimal kernel is p_pre(y|x_t) exp((v(y) - v(x_t)) / alpha); weights that sum to one over M
children are biased by O(1 / M) towards p_pre.
Batches: obs = {obs [B, O], x = x_t [B, ...], t int32 [B]}.
"""

from __future__ import annotations

from typing import Any

import jax
from ml_collections import ConfigDict

from rlx.nn import chains
from rlx.nn.chains import Chain
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if, rows
from rlx.types import EnvSpec, Keys, Learner, Metrics, PyTree, Transition

HP = ("lr", "alpha", "max_grad_norm")


def get_config() -> ConfigDict:
    """Return our constants."""
    return ConfigDict(
        dict(
            name="forward_kl",
            batch_size=256,  # states per gradient step, over all devices
            lr=3e-4,  # Adam
            alpha=1.0,  # temperature, in reward units
            children=16,  # M
            max_grad_norm=1.0,
        )
    )


def make(
    config: ConfigDict,
    spec: EnvSpec,
    axis_name: str | None = None,
    *,
    chain: Chain,
    params: PyTree,
    value: Any,
) -> Learner:
    """Build it for the model `chain`, pre-trained to `params`, and `value(obs, y, t) -> [n]`.

    The value is that of y = x_t; at t = 0 it is the reward. Of tokens it gets int32 `[n, L]`.
    """
    del spec  # the chain knows the shapes
    if config.children < 2:
        raise ValueError(f"learner.children is a whole number >= 2, got {config.children}")
    hp = chains.settings(config, HP)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        del key  # the model is given; its target is what was pre-trained and never moves
        return learning.begin({"model": params}, ("model",), hp)

    def draw(keys: Keys, batch_size: int) -> PyTree:
        """Noise of the children, `[B, M, ...]`."""
        per_shard, M = batch_size // keys.keys.shape[0], config.children

        def one(key: jax.Array) -> PyTree:
            noise = chain.noise(key, per_shard * M)
            return jax.tree.map(lambda x: x.reshape(per_shard, M, *x.shape[1:]), noise)

        return rows(one, keys)

    def total(model: Any, state: State, batch: Transition, keys: Keys) -> tuple[Any, Metrics]:
        obs, x, t = batch.obs["obs"], batch.obs["x"], batch.obs["t"]
        before = chain.kernel(state.target_params["model"], obs, x, t)
        noise = draw(keys, t.shape[0])
        y = jax.vmap(lambda z: chain.decode(chain.draw(before, z)), 1, 1)(noise)
        v = jax.vmap(lambda y: value(obs, y, t - 1), 1, 1)(y)
        w = jax.nn.softmax(v / state.hp["alpha"])
        law = chain.kernel(model, obs, x, t)
        log_prob = jax.vmap(lambda y: chain.log_prob(law, y), 1, 1)(y)
        loss = -(w * log_prob).sum(1).mean()
        ess = (1.0 / (w**2).sum(1)).mean()
        metrics = {"loss": loss, "kl": chain.kl(law, before).mean(), "ess": ess}
        return pmean_if((loss, metrics), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        return learning.adam_step(
            state,
            lambda params: total(params["model"], state, batch, keys),
            state.hp["max_grad_norm"],
        )

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return total(state.params["model"], state, batch, keys)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del explore
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: chains.path_noise(chain, key, per_shard), keys)
        return chains.sample(chain, state.params["model"], obs, noise)

    return Learner(init, update, act, td_loss, hp)
