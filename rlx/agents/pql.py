"""Parallel Q-learning (Li et al. 2023, arXiv 2307.12983) as one program: DDPG at thousands of
environments, with one exploration noise per environment, and its distributional form PQL-D.

Per gradient step:
  critic       a' = clip(mu(s') + clip(0.8 e, -0.2, 0.2), -1, 1),  e ~ N(0, 1)
               y = R + discount * min_i Q'_i(s', a'),  minimise sum_i mean_B (Q_i(s, a) - y)**2
               PQL-D: t = elementwise min_i of the projections of R + discount * Z'_i(s', a') on the
               atoms, minimise sum_i mean_B BCE(softmax(logits_i(s, a)), t)
  target       Q' <- (1 - tau) Q' + tau Q
  actor        every `policy_delay`-th step: minimise -mean_B min_i Q_i(s, mu(s)), new critic
where R is the n-step return and `discount` gamma**k * (1 - terminated). Environment i of N explores
with mu(s) + sigma_i e, sigma_i evenly spaced over [noise_min, noise_max].

Differs from the paper: the published system runs three processes whose rates are held together by
sleeps; here every vectorised step is followed by exactly `utd * N` critic updates, and the policy
learns from the observations of the critic's batch instead of from a second one.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from ml_collections import ConfigDict

from rlx.nn.critic import QEnsemble
from rlx.nn.mlp import MLP
from rlx.ops import categorical, learning, running_stats
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_continuous
from rlx.ops.td import td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "weight_decay", "max_grad_norm", "discount", "tau", "reward_scale")
HP += ("noise_min", "noise_max", "target_noise", "target_noise_clip")
# torch's default for dense kernels, which the published networks start from: U(+-1 / sqrt(fan_in)).
TORCH_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def get_config() -> ConfigDict:
    """Return the published constants of PQL."""
    return ConfigDict(
        dict(
            name="pql",
            batch_size=8192,  # rows per gradient step, over all devices
            lr=5e-4,  # AdamW of actor and critic
            weight_decay=1e-2,  # torch's default for AdamW
            max_grad_norm=0.5,  # gradients are scaled down to this norm, actor and critic apart
            discount=0.99,  # gamma, per env step
            tau=0.05,  # Polyak step of the target critic, per gradient step
            reward_scale=1.0,  # multiplies rewards inside the critic target only
            noise_min=0.05,  # standard deviation of environment 0's exploration
            noise_max=0.8,  # of the last environment's
            target_noise=0.8,  # standard deviation of target smoothing
            target_noise_clip=0.2,  # its bound
            policy_delay=2,  # critic updates per policy update
            critic_hidden=(512, 256, 128),  # widths of each critic, ELU
            actor_hidden=(512, 256, 128),  # widths of the actor, ELU
            ensemble=2,  # critics; the target takes their minimum
            atoms=0,  # of the return distribution (PQL-D: 51); 0 = scalar critics
            v_max=10.0,  # atoms lie in [-v_max, v_max]
            normalize_obs=True,  # running mean and variance of observations
        )
    )


class State(struct.PyTreeNode):
    """Everything PQL learns or counts; `grad_steps` is int32[], `hp` holds f32[] by name."""

    params: dict[str, Any]  # actor, critic
    target_params: Any  # critic
    opt_state: dict[str, Any]  # one AdamW per entry of params
    hp: dict[str, jax.Array]
    obs_stats: running_stats.RunningStats | None
    grad_steps: jax.Array


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build PQL for `spec`; losses are averaged over the mesh axis `axis_name`.

    Raises ValueError when the actions are not one bounded float vector, the observations not one
    vector, or `atoms` is 1.
    """
    check_continuous("pql", spec)
    if config.atoms == 1 or config.atoms < 0:
        raise ValueError(f"atoms is 0 (scalar critics) or at least 2, got {config.atoms}")
    if config.policy_delay < 1:
        raise ValueError(f"policy_delay is a whole number >= 1, got {config.policy_delay}")
    action_dim = spec.action.shape[0]

    def net(hidden: tuple[int, ...], out: int) -> MLP:
        return MLP(hidden, out, activation=nn.elu, kernel_init=TORCH_UNIFORM)

    actor_net = net(config.actor_hidden, action_dim)
    critic_net = QEnsemble(net(config.critic_hidden, max(1, config.atoms)), config.ensemble)
    hp = learning.settings(config, HP)

    def optimizer(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
        return optax.adamw(hp["lr"], weight_decay=hp["weight_decay"])

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        actor_key, critic_key = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape)), jnp.zeros((1, action_dim))
        params = {
            "actor": actor_net.init(actor_key, obs),
            "critic": critic_net.init(critic_key, obs, action),
        }
        return State(
            params=params,
            target_params=params["critic"],
            opt_state={name: optimizer(hp).init(value) for name, value in params.items()},
            hp=hp,
            obs_stats=running_stats.init(spec.obs.shape) if config.normalize_obs else None,
            grad_steps=jnp.int32(0),
        )

    def policy(actor_params: Any, obs: jax.Array) -> jax.Array:
        return jnp.tanh(actor_net.apply(actor_params, obs))

    def atoms() -> jax.Array:
        return jnp.linspace(-config.v_max, config.v_max, config.atoms)

    def values(logits: jax.Array) -> jax.Array:
        """Expected returns of critic outputs `[..., max(1, atoms)] -> [...]`."""
        return jax.nn.softmax(logits) @ atoms() if config.atoms else logits.squeeze(-1)

    def critic_loss(critic_params: Any, state: State, batch: Transition, noise: jax.Array):
        """TD loss with a smoothed target action, summed over critics; equation 'critic' above."""
        clip = state.hp["target_noise_clip"]
        smoothing = jnp.clip(state.hp["target_noise"] * noise, -clip, clip)
        next_action = policy(state.params["actor"], batch.next_obs) + smoothing
        next_out = critic_net.apply(
            state.target_params, batch.next_obs, jnp.clip(next_action, -1.0, 1.0)
        )
        out = critic_net.apply(critic_params, batch.obs, batch.action)
        reward = state.hp["reward_scale"] * batch.reward
        discount = batch.extras["discount"]
        if config.atoms:
            project = jax.vmap(categorical.project, in_axes=(0, 0, 0, None))
            project = jax.vmap(project, in_axes=(0, None, None, None))
            target = project(jax.nn.softmax(next_out), reward, discount, atoms()).min(0)
            cross_entropy = jax.vmap(categorical.binary_cross_entropy)
            losses = jax.vmap(cross_entropy, in_axes=(0, None))(out, jax.lax.stop_gradient(target))
        else:
            target = td_target(reward, discount, values(next_out).min(0))
            losses = (values(out) - jax.lax.stop_gradient(target)) ** 2
        loss = losses.mean(1).sum()
        return pmean_if((loss, {"critic_loss": loss, "q": values(out).mean()}), axis_name)

    def actor_loss(actor_params: Any, critic_params: Any, obs: jax.Array):
        """Deterministic policy gradient; equation 'actor' above."""
        out = critic_net.apply(critic_params, obs, policy(actor_params, obs))
        loss = -values(out).min(0).mean()
        return pmean_if((loss, {"actor_loss": loss}), axis_name)

    def descend(state: State, name: str, loss, *args) -> tuple[Any, Any, Metrics]:
        """One clipped AdamW step on `params[name]`: (params, optimiser state, metrics)."""
        grads, metrics = jax.grad(loss, has_aux=True)(state.params[name], *args)
        norm = optax.tree.norm(grads)
        scale = jnp.minimum(1.0, state.hp["max_grad_norm"] / jnp.maximum(norm, 1e-6))
        grads = jax.tree.map(lambda g: scale * g, grads)
        step, opt_state = optimizer(state.hp).update(
            grads, state.opt_state[name], state.params[name]
        )
        metrics = {**metrics, f"{name}_grad_norm": norm}
        return optax.apply_updates(state.params[name], step), opt_state, metrics

    def prepared(state: State, batch: Transition, keys: Keys) -> tuple[Transition, jax.Array]:
        """The batch with normalised observations, and its noise `[B, A]`."""
        chex.assert_rank([batch.reward, batch.obs], [1, 1 + len(spec.obs.shape)])
        batch = batch.replace(
            obs=running_stats.normalize(state.obs_stats, batch.obs),
            next_obs=running_stats.normalize(state.obs_stats, batch.next_obs),
        )
        shape = (batch.reward.shape[0] // keys.keys.shape[0], action_dim)
        return batch, rows(lambda key: jax.random.normal(key, shape), keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        batch, noise = prepared(state, batch, keys)
        critic, critic_opt, metrics = descend(state, "critic", critic_loss, state, batch, noise)

        def improve() -> tuple[Any, Any, Metrics]:
            params, opt_state, found = descend(state, "actor", actor_loss, critic, batch.obs)
            # Metrics are averaged over all steps, of which these are one in `policy_delay`.
            return params, opt_state, {k: config.policy_delay * v for k, v in found.items()}

        def wait() -> tuple[Any, Any, Metrics]:
            none = {"actor_loss": 0.0 * metrics["q"], "actor_grad_norm": 0.0 * metrics["q"]}
            return state.params["actor"], state.opt_state["actor"], none

        due = (state.grad_steps + 1) % config.policy_delay == 0
        actor, actor_opt, found = jax.lax.cond(due, improve, wait)
        new = state.replace(
            params={"actor": actor, "critic": critic},
            target_params=optax.incremental_update(critic, state.target_params, state.hp["tau"]),
            opt_state={"actor": actor_opt, "critic": critic_opt},
            grad_steps=state.grad_steps + 1,
        )
        return new, metrics | found

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        batch, noise = prepared(state, batch, keys)
        return critic_loss(state.params["critic"], state, batch, noise)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        action = policy(state.params["actor"], running_stats.normalize(state.obs_stats, obs))
        if not explore:
            return action, {}
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, action_dim)), keys)
        env = (keys.ids[:, None] * per_shard + jnp.arange(per_shard)).reshape(-1, 1)
        low, high = state.hp["noise_min"], state.hp["noise_max"]
        std = low + (high - low) * env / max(1, keys.count * per_shard - 1)
        return jnp.clip(action + std * noise, -1.0, 1.0), {}

    return Learner(init, update, act, td_loss, hp)
