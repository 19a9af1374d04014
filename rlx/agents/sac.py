"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) for continuous actions.

Per gradient step, in this order (that of the jaxrl family):
  critic       y = r + discount * (min_i Q'_i(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
               minimise sum_i mean_B (Q_i(s, a) - y)**2
  target       Q' <- (1 - tau) Q' + tau Q
  actor        minimise mean_B (alpha log pi(a|s) - min_i Q_i(s, a)),  a ~ pi(.|s), new critic
  temperature  minimise alpha * (entropy - target_entropy), with the entropy just computed
where `discount` is gamma**k * (1 - terminated), alpha = exp(log_alpha), and B is the batch.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from rlx.nn import networks
from rlx.nn.critic import QEnsemble
from rlx.ops import learning, running_stats
from rlx.ops.distributions import tanh_gaussian
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_continuous
from rlx.ops.td import td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "weight_decay", "discount", "tau", "reward_scale", "target_entropy")
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0  # as jaxrl clips them


def get_config() -> ConfigDict:
    """Return the published constants of SAC."""
    return ConfigDict(
        dict(
            name="sac",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam, the same for actor, critic and temperature
            weight_decay=0.0,  # of actor and critic (AdamW); 0 is plain Adam, and nothing to vary
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            reward_scale=1.0,  # multiplies rewards inside the critic target only
            target_entropy_per_dim=-1.0,  # target entropy / action dimensions (BRO: -0.5)
            init_alpha=1.0,  # first temperature
            network="mlp",  # mlp, bronet, simba or simba_v2 (rlx/nn/networks.py)
            critic_hidden=(256, 256),  # widths of each critic; of residual blocks, one entry each
            actor_hidden=(256, 256),  # the same of the actor
            ensemble=2,  # critics; the target takes their minimum
            layer_norm=False,  # LayerNorm before each ReLU of the critics
            normalize_obs=False,  # running mean and variance of observations
        )
    )


class State(struct.PyTreeNode):
    """Everything SAC learns or counts; `grad_steps` is int32[], `hp` holds f32[] by name."""

    params: dict[str, Any]  # actor, critic, log_alpha
    target_params: Any  # critic
    opt_state: dict[str, Any]  # one Adam per entry of params
    hp: dict[str, jax.Array]
    obs_stats: running_stats.RunningStats | None
    grad_steps: jax.Array


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build SAC for `spec`; losses are averaged over the mesh axis `axis_name`.

    Raises ValueError when the actions are not one bounded float vector or the observations not one
    vector.
    """
    check_continuous("sac", spec)
    if config.network.startswith("simba") and not config.normalize_obs:
        raise ValueError(
            f"network {config.network!r} expects normalised observations: "
            "set learner.normalize_obs=true"
        )
    action_dim = spec.action.shape[0]
    actor_net = networks.make(config.network, config.actor_hidden, 2 * action_dim)
    critic = networks.make(config.network, config.critic_hidden, 1, config.layer_norm)
    critic_net = QEnsemble(critic, config.ensemble)
    project = networks.projection(config.network)
    learning.settings(config, ("init_alpha",))
    hp = learning.settings(config, tuple(name for name in HP if name != "target_entropy"))
    hp["target_entropy"] = config.target_entropy_per_dim * action_dim
    if not config.weight_decay:
        del hp["weight_decay"]  # plain Adam: no array, no work

    def optimizer(name: str, hp: dict[str, jax.Array]) -> optax.GradientTransformation:
        if name == "log_alpha" or "weight_decay" not in hp:
            return optax.adam(hp["lr"])
        return optax.adamw(hp["lr"], weight_decay=hp["weight_decay"])

    def q_values(params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        """[ensemble, B]."""
        return critic_net.apply(params, obs, action).squeeze(-1)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        actor_key, critic_key = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape)), jnp.zeros((1, action_dim))
        params = {
            "actor": project(actor_net.init(actor_key, obs)),
            "critic": project(critic_net.init(critic_key, obs, action)),
            "log_alpha": jnp.log(jnp.float32(config.init_alpha)),
        }
        return State(
            params=params,
            target_params=params["critic"],
            opt_state={name: optimizer(name, hp).init(value) for name, value in params.items()},
            hp=hp,
            obs_stats=running_stats.init(spec.obs.shape) if config.normalize_obs else None,
            grad_steps=jnp.int32(0),
        )

    def policy(actor_params: Any, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = jnp.split(actor_net.apply(actor_params, obs), 2, axis=-1)
        return tanh_gaussian(noise, mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))

    def critic_loss(critic_params: Any, state: State, batch: Transition, noise: jax.Array):
        """Mean squared TD error, summed over the ensemble; equation 'critic' above."""
        next_action, next_log_prob = policy(state.params["actor"], batch.next_obs, noise)
        next_q = q_values(state.target_params, batch.next_obs, next_action).min(0)
        soft_value = next_q - jnp.exp(state.params["log_alpha"]) * next_log_prob
        reward = state.hp["reward_scale"] * batch.reward
        target = jax.lax.stop_gradient(td_target(reward, batch.extras["discount"], soft_value))
        q = q_values(critic_params, batch.obs, batch.action)
        loss = jnp.sum(jnp.mean((q - target) ** 2, axis=1))
        return pmean_if((loss, {"critic_loss": loss, "q": q.mean()}), axis_name)

    def actor_loss(
        actor_params: Any, critic_params: Any, state: State, obs: jax.Array, noise: jax.Array
    ):
        """Soft policy improvement; equation 'actor' above."""
        action, log_prob = policy(actor_params, obs, noise)
        q = q_values(critic_params, obs, action).min(0)
        loss = jnp.mean(jnp.exp(state.params["log_alpha"]) * log_prob - q)
        return pmean_if((loss, {"actor_loss": loss, "entropy": -log_prob.mean()}), axis_name)

    def alpha_loss(log_alpha: jax.Array, entropy: jax.Array, target_entropy: jax.Array):
        """Dual step on the entropy constraint; equation 'temperature' above."""
        loss = jnp.exp(log_alpha) * (entropy - target_entropy)
        return loss, {"alpha_loss": loss, "alpha": jnp.exp(log_alpha)}

    def prepared(state: State, batch: Transition, keys: Keys) -> tuple[Transition, jax.Array]:
        """The batch with normalised observations, and its noise `[B, 2, A]`."""
        chex.assert_rank([batch.reward, batch.obs], [1, 1 + len(spec.obs.shape)])
        batch = batch.replace(
            obs=running_stats.normalize(state.obs_stats, batch.obs),
            next_obs=running_stats.normalize(state.obs_stats, batch.next_obs),
        )
        shape = (batch.reward.shape[0] // keys.keys.shape[0], 2, action_dim)
        return batch, rows(lambda key: jax.random.normal(key, shape), keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        batch, noise = prepared(state, batch, keys)
        params, opt_state = dict(state.params), dict(state.opt_state)

        def descend(name: str, loss, *args) -> Metrics:
            grads, metrics = jax.grad(loss, has_aux=True)(params[name], *args)
            own = optimizer(name, state.hp)
            step, opt_state[name] = own.update(grads, opt_state[name], params[name])
            params[name] = project(optax.apply_updates(params[name], step))
            return {**metrics, f"{name}_grad_norm": optax.tree.norm(grads)}

        metrics = descend("critic", critic_loss, state, batch, noise[:, 0])
        target_params = optax.incremental_update(
            params["critic"], state.target_params, state.hp["tau"]
        )
        metrics |= descend("actor", actor_loss, params["critic"], state, batch.obs, noise[:, 1])
        metrics |= descend("log_alpha", alpha_loss, metrics["entropy"], state.hp["target_entropy"])
        new = state.replace(
            params=params,
            target_params=target_params,
            opt_state=opt_state,
            grad_steps=state.grad_steps + 1,
        )
        return new, metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        batch, noise = prepared(state, batch, keys)
        return critic_loss(state.params["critic"], state, batch, noise[:, 0])[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        obs = running_stats.normalize(state.obs_stats, obs)
        if not explore:
            mean, _ = jnp.split(actor_net.apply(state.params["actor"], obs), 2, axis=-1)
            return jnp.tanh(mean), {}
        shape = (obs.shape[0] // keys.keys.shape[0], action_dim)
        noise = rows(lambda key: jax.random.normal(key, shape), keys)
        action, log_prob = policy(state.params["actor"], obs, noise)
        return action, {"log_prob": log_prob}

    return Learner(init, update, act, td_loss, hp)
