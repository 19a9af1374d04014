"""BRO: bigger, regularized, optimistic (Nauman et al. 2024, arXiv 2405.16158).

A soft actor-critic with large residual networks, quantile critics, full resets and an optimistic
exploration policy. Per gradient step, in this order:
  reset        at the chosen gradient steps everything learned starts anew; the replay stays
  critic       y_j = r + discount * (mean_i Z'_ij(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')
               minimise sum_i mean_B QH(Z_i(s, a), y), QH the quantile Huber loss
  target       Z' <- (1 - tau) Z' + tau Z
  actor        minimise mean_B (alpha log pi(a|s) - mean_i Q_i(s, a)),  Q the mean quantile
  temperature  minimise alpha * (entropy - target_entropy)
  optimist     pi_o = N(mu + shift(s, mu), 0.75 std): minimise
               -mean_B (mean_i Q_i + o |Q_1 - Q_2| / 2)(s, a_o) + l * mean_B KL,  a_o ~ pi_o
  adjusters    minimise (o - pessimism) (KL / A - kl_target) and -l (KL / A - kl_target)
where `discount` is gamma**k * (1 - terminated) and A the number of action dimensions. Training acts
with pi_o, evaluation with tanh(mu). `optimistic=False` leaves the last two lines out: the variant
of the scaling studies (Rybkin et al. 2025, Fu et al. 2025).
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from rlx.nn.bronet import BroNet
from rlx.nn.critic import QEnsemble
from rlx.nn.init import orthogonal
from rlx.ops import learning, running_stats
from rlx.ops.distributions import tanh_gaussian
from rlx.ops.quantile import quantile_huber
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_continuous
from rlx.ops.td import td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "adjuster_lr", "weight_decay", "discount", "tau", "reward_scale", "pessimism")
HP += ("kl_target", "target_entropy")
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0  # the range that a tanh maps the log-std head to
STD_RATIO = 0.75  # pi_o's standard deviation over pi's
ADJUSTER_B1 = 0.5  # Adam's b1 for temperature, optimism and regularizer
# The published resets are at these env steps, of which 2500 are random; as gradient steps at the
# published UTD of 10. At UTD 2 the published agent keeps the first one alone: (25_002,).
_RESET_ENV_STEPS = (15001, 50001, 250001, 500001, 750001, 1000001, 1500001, 2000001)
RESETS = tuple(10 * (env_step - 2500) for env_step in _RESET_ENV_STEPS)


def get_config() -> ConfigDict:
    """Return the published constants of BRO."""
    return ConfigDict(
        dict(
            name="bro",
            batch_size=128,  # rows per gradient step, over all devices
            lr=3e-4,  # AdamW of critic, actor and optimist; Adam of the temperature
            adjuster_lr=3e-5,  # Adam of optimism and regularizer
            weight_decay=1e-4,  # of AdamW
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            reward_scale=1.0,  # multiplies rewards inside the critic target only
            target_entropy_per_dim=-0.5,  # target entropy / action dimensions
            init_alpha=1.0,  # first temperature
            critic_hidden=(512, 512),  # BroNet of the critics: one entry per residual block
            actor_hidden=(256,),  # of the actor and the optimist
            quantiles=100,  # outputs of each critic
            optimistic=True,  # explore with pi_o
            init_optimism=1.0,  # o
            init_regularizer=0.25,  # l
            pessimism=0.0,  # what o may not fall below
            kl_target=0.05,  # KL per action dimension that the adjusters hold
            reset_at=RESETS,  # gradient steps at which everything learned starts anew
            reset_every=0,  # gradient steps (the scaling studies: 2_500_000); 0 = never
            normalize_obs=False,  # running mean and variance of observations
        )
    )


class State(struct.PyTreeNode):
    """Everything BRO learns or counts; `grad_steps` is int32[], `hp` holds f32[] by name."""

    params: dict[str, Any]  # critic, actor, log_alpha; optimist, optimism, regularizer
    target_params: Any  # critic
    opt_state: dict[str, Any]  # one optimiser per entry of params
    hp: dict[str, jax.Array]
    obs_stats: running_stats.RunningStats | None
    grad_steps: jax.Array


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build BRO for `spec`; losses are averaged over the mesh axis `axis_name`.

    Raises ValueError when the actions are not one bounded float vector, the observations not one
    vector, or the widths of a network's blocks differ.
    """
    check_continuous("bro", spec)
    action_dim = spec.action.shape[0]
    actor_net = BroNet(*shape_of("actor", config), 2 * action_dim)
    critic_net = QEnsemble(BroNet(*shape_of("critic", config), config.quantiles), 2)
    small = orthogonal(0.01)
    optimist_net = BroNet(*shape_of("actor", config), action_dim, small, out_bias=False)
    learning.settings(config, ("init_alpha",))
    hp = learning.settings(config, tuple(name for name in HP if name != "target_entropy"))
    hp["target_entropy"] = config.target_entropy_per_dim * action_dim

    def optimizer(name: str, hp: dict[str, jax.Array]) -> optax.GradientTransformation:
        if name in ("optimism", "regularizer"):
            return optax.adam(hp["adjuster_lr"], b1=ADJUSTER_B1)
        if name == "log_alpha":
            return optax.adam(hp["lr"], b1=ADJUSTER_B1)
        return optax.adamw(hp["lr"], weight_decay=hp["weight_decay"])

    def fresh(key: jax.Array, hp: dict[str, jax.Array]) -> tuple[dict, Any, dict]:
        """New params, target and optimiser states."""
        critic_key, actor_key, optimist_key = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, *spec.obs.shape)), jnp.zeros((1, action_dim))
        params = {
            "critic": critic_net.init(critic_key, obs, action),
            "actor": actor_net.init(actor_key, obs),
            "log_alpha": jnp.log(jnp.float32(config.init_alpha)),
        }
        if config.optimistic:
            both = jnp.concatenate([obs, action], axis=-1)
            params["optimist"] = optimist_net.init(optimist_key, both)
            params["optimism"] = adjuster_start(config.init_optimism)
            params["regularizer"] = adjuster_start(config.init_regularizer)
        opt_state = {name: optimizer(name, hp).init(value) for name, value in params.items()}
        return params, params["critic"], opt_state

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        stats = running_stats.init(spec.obs.shape) if config.normalize_obs else None
        return State(*fresh(key, hp), hp=hp, obs_stats=stats, grad_steps=jnp.int32(0))

    def reset(state: State, keys: Keys) -> State:
        """Start everything learned anew at the reset steps; equation 'reset' above."""
        if not config.reset_at and not config.reset_every:
            return state
        due = (state.grad_steps == np.array([-1, *config.reset_at], np.int32)).any()
        if config.reset_every:
            due |= (state.grad_steps % config.reset_every == 0) & (state.grad_steps > 0)
        old = (state.params, state.target_params, state.opt_state)

        def anew() -> tuple[dict, Any, dict]:
            # The select gives each leaf the type of the old one, which says how it varies over the
            # mesh; here `due` is true.
            started = fresh(keys.shared, state.hp)
            return jax.tree.map(lambda new, was: jnp.where(due, new, was), started, old)

        params, target_params, opt_state = jax.lax.cond(due, anew, lambda: old)
        return state.replace(params=params, target_params=target_params, opt_state=opt_state)

    def gaussian(actor_params: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-std before the tanh, `[B, A]` each."""
        mean, raw = jnp.split(actor_net.apply(actor_params, obs), 2, axis=-1)
        half = (LOG_STD_MAX - LOG_STD_MIN) / 2
        return mean, LOG_STD_MIN + half * (1 + jnp.tanh(raw))

    def optimist(params: dict, obs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean, log-std of pi_o and its divergence from pi, `[B]`; pi itself is held still."""
        mean, log_std = jax.lax.stop_gradient(gaussian(params["actor"], obs))
        shift = optimist_net.apply(params["optimist"], jnp.concatenate([obs, mean], axis=-1))
        # KL(N(mu_o, std_o / 0.75), N(mu, std)): both have the standard deviation of pi.
        kl = jnp.sum(0.5 * (shift * jnp.exp(-log_std)) ** 2, axis=-1)
        return mean + shift, log_std + jnp.log(STD_RATIO), kl

    def critic_loss(critic_params: Any, state: State, batch: Transition, noise: jax.Array):
        """Quantile Huber loss, summed over both critics; equation 'critic' above."""
        mean, log_std = gaussian(state.params["actor"], batch.next_obs)
        next_action, next_log_prob = tanh_gaussian(noise, mean, log_std)
        next_z = critic_net.apply(state.target_params, batch.next_obs, next_action).mean(0)
        entropy_bonus = jnp.exp(state.params["log_alpha"]) * next_log_prob
        reward = state.hp["reward_scale"] * batch.reward
        target = jax.vmap(td_target, in_axes=(None, None, 1), out_axes=1)(
            reward, batch.extras["discount"], next_z - entropy_bonus[:, None]
        )
        z = critic_net.apply(critic_params, batch.obs, batch.action)  # [2, B, quantiles]
        losses = jax.vmap(jax.vmap(quantile_huber), in_axes=(0, None))(
            z, jax.lax.stop_gradient(target)
        )
        loss = losses.mean(1).sum()
        return pmean_if((loss, {"critic_loss": loss, "q": z.mean()}), axis_name)

    def actor_loss(actor_params: Any, critic_params: Any, state: State, obs, noise: jax.Array):
        """Soft policy improvement; equation 'actor' above."""
        action, log_prob = tanh_gaussian(noise, *gaussian(actor_params, obs))
        q = critic_net.apply(critic_params, obs, action).mean((0, 2))
        loss = jnp.mean(jnp.exp(state.params["log_alpha"]) * log_prob - q)
        return pmean_if((loss, {"actor_loss": loss, "entropy": -log_prob.mean()}), axis_name)

    def alpha_loss(log_alpha: jax.Array, entropy: jax.Array, target_entropy: jax.Array):
        """Dual step on the entropy constraint; equation 'temperature' above."""
        loss = jnp.exp(log_alpha) * (entropy - target_entropy)
        return loss, {"alpha_loss": loss, "alpha": jnp.exp(log_alpha)}

    def optimist_loss(optimist_params: Any, params: dict, obs: jax.Array, noise: jax.Array):
        """Exploration by the critics' disagreement, near pi; equation 'optimist' above."""
        mean, log_std, kl = optimist(params | {"optimist": optimist_params}, obs)
        action = jnp.tanh(mean + jnp.exp(log_std) * noise)
        q = critic_net.apply(params["critic"], obs, action).mean(-1)  # [2, B]
        upper = q.mean(0) + adjusted(params["optimism"]) * jnp.abs(q[0] - q[1]) / 2
        loss = adjusted(params["regularizer"]) * kl.mean() - upper.mean()
        return pmean_if((loss, {"optimist_loss": loss, "kl": kl.mean()}), axis_name)

    def optimism_loss(x: jax.Array, kl: jax.Array, hp: dict):
        """Raise o while the divergence is below its target; equation 'adjusters' above."""
        loss = (adjusted(x) - hp["pessimism"]) * (kl / action_dim - hp["kl_target"])
        return loss, {"optimism": adjusted(x)}

    def regularizer_loss(x: jax.Array, kl: jax.Array, hp: dict):
        """Raise l while the divergence is above its target; equation 'adjusters' above."""
        loss = -adjusted(x) * (kl / action_dim - hp["kl_target"])
        return loss, {"regularizer": adjusted(x)}

    def prepared(state: State, batch: Transition, keys: Keys) -> tuple[Transition, jax.Array]:
        """The batch with normalised observations, and its noise `[B, 3, A]`."""
        chex.assert_rank([batch.reward, batch.obs], [1, 1 + len(spec.obs.shape)])
        batch = batch.replace(
            obs=running_stats.normalize(state.obs_stats, batch.obs),
            next_obs=running_stats.normalize(state.obs_stats, batch.next_obs),
        )
        shape = (batch.reward.shape[0] // keys.keys.shape[0], 3, action_dim)
        return batch, rows(lambda key: jax.random.normal(key, shape), keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        batch, noise = prepared(state, batch, keys)
        state = reset(state, keys)
        params, opt_state = dict(state.params), dict(state.opt_state)

        def descend(name: str, loss, *args) -> Metrics:
            grads, metrics = jax.grad(loss, has_aux=True)(params[name], *args)
            own = optimizer(name, state.hp)
            step, opt_state[name] = own.update(grads, opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], step)
            return {**metrics, f"{name}_grad_norm": optax.tree.norm(grads)}

        metrics = descend("critic", critic_loss, state, batch, noise[:, 0])
        target_params = optax.incremental_update(
            params["critic"], state.target_params, state.hp["tau"]
        )
        metrics |= descend("actor", actor_loss, params["critic"], state, batch.obs, noise[:, 1])
        metrics |= descend("log_alpha", alpha_loss, metrics["entropy"], state.hp["target_entropy"])
        if config.optimistic:
            metrics |= descend("optimist", optimist_loss, params, batch.obs, noise[:, 2])
            metrics |= descend("optimism", optimism_loss, metrics["kl"], state.hp)
            metrics |= descend("regularizer", regularizer_loss, metrics["kl"], state.hp)
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
            return jnp.tanh(gaussian(state.params["actor"], obs)[0]), {}
        shape = (obs.shape[0] // keys.keys.shape[0], action_dim)
        noise = rows(lambda key: jax.random.normal(key, shape), keys)
        mean, log_std = gaussian(state.params["actor"], obs)
        if config.optimistic:
            mean, log_std, _ = optimist(state.params, obs)
        return jnp.tanh(mean + jnp.exp(log_std) * noise), {}

    return Learner(init, update, act, td_loss, hp)


def shape_of(name: str, config: ConfigDict) -> tuple[int, int]:
    """Width and number of blocks of the network `name`; ValueError where blocks differ in width."""
    hidden = config[f"{name}_hidden"]
    if len(set(hidden)) != 1:
        raise ValueError(f"{name}_hidden takes one width per block, all the same; got {hidden}")
    return hidden[0], len(hidden)


def adjusted(x: jax.Array) -> jax.Array:
    """Map an adjuster's parameter to its positive value, `exp(-10 + 8.75 (1 + tanh x))`."""
    return jnp.exp(-10.0 + 8.75 * (1.0 + jnp.tanh(x)))


def adjuster_start(value: float) -> jax.Array:
    """Return the parameter at which `adjusted` gives `value`."""
    return jnp.arctanh((jnp.log(jnp.float32(value)) + 10.0) / 8.75 - 1.0)
