"""Soft actor-critic on data, alone (SAC) or mixed half and half with fresh experience (RLPD, Ball
et al. 2023, arXiv 2302.02948), as the baseline of Park, Li, Levine 2025, arXiv 2502.02538. The
mixing is the sampler's. With `bc_alpha` and chunks it is QC-RLPD (Li, Zhou, Levine 2025, arXiv
2507.07969).

Per gradient step, one Adam step on the sum of
  critic       y = r + discount * agg_k Q'_k(s', a'),  a' ~ pi(.|s'),
               with backup_entropy less  discount * temperature * log pi(a'|s')
               mean_{k,B} (Q_k(s, a) - y)**2
  actor        mean_B (temperature * log pi(a|s) - mean_k Q_k(s, a)),  a ~ pi(.|s)
               - bc_alpha * mean_B sum_j log pi_j(data's a_j | s)
  temperature  exp(log_alpha) * mean_B (-log pi(a|s) - target_entropy)
then Q' <- tau Q + (1 - tau) Q', Q of before the step. pi is a tanh-squashed diagonal Gaussian;
`discount` is gamma**h * (1 - terminated).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.gaussian import MeanAndStd
from rlx.ops import learning
from rlx.ops.distributions import tanh_gaussian, tanh_gaussian_log_densities
from rlx.ops.learning import State, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import aggregate, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "bc_alpha")


def get_config() -> ConfigDict:
    """Return the constants of the baseline; chunks bring QC-RLPD's (configs/tuned/offline.py)."""
    return ConfigDict(
        dict(
            name="rlpd",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks and the temperature
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            q_agg="min",  # of the target critics: mean or min
            backup_entropy=False,  # the entropy of the next action counts in the target
            target_entropy_multiplier=0.5,  # target entropy = -this * action numbers
            init_alpha=1.0,  # first temperature
            bc_alpha=0.0,  # weight of imitation
            critic_hidden=(512, 512, 512, 512),  # widths of each critic
            actor_hidden=(512, 512, 512, 512),  # of the policy
            ensemble=2,  # critics
            layer_norm=True,  # in the critics
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build RLPD for `spec`, whose action may be a chunk; losses are averaged over `axis_name`."""
    check_offline("rlpd", spec, config)
    A = spec.action.shape[0]
    learning.settings(config, ("init_alpha",))
    hp = learning.settings(config, HP)
    hp["target_entropy"] = -float(config.target_entropy_multiplier) * A
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    policy_net = MeanAndStd(config.actor_hidden, A, config.actor_layer_norm, encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        critic_key, policy_key = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(critic_key, obs, action),
            "policy": policy_net.init(policy_key, obs),
            "log_alpha": jnp.log(jnp.float32(config.init_alpha)),
        }
        return learning.begin(params, ("critic",), hp)

    def critic_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Squared TD error; equation 'critic' above."""
        mean, log_std = policy_net.apply(state.params["policy"], batch.next_obs)
        next_action, log_prob = tanh_gaussian(noise, mean, log_std)
        next_q = critic_net.apply(state.target_params["critic"], batch.next_obs, next_action)
        value = aggregate(next_q, config.q_agg)
        if config.backup_entropy:
            value -= jnp.exp(state.params["log_alpha"]) * log_prob
        y = td_target(batch.reward, batch.extras["discount"], value)
        q = critic_net.apply(params, batch.obs, batch.action)
        return jnp.mean(batch.extras["valid"] * (q - y) ** 2), q

    def policy_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Soft policy improvement and imitation; equation 'actor' above. Also the entropy."""
        mean, log_std = policy_net.apply(params, batch.obs)
        action, log_prob = tanh_gaussian(noise, mean, log_std)
        q = critic_net.apply(state.params["critic"], batch.obs, action).mean(0)
        weight = per_action(batch.extras["action_valid"], batch.action)
        known = weight * tanh_gaussian_log_densities(batch.action, mean, log_std)
        imitation = -jnp.mean(jnp.sum(known, axis=-1))
        soft = jnp.mean(jnp.exp(state.params["log_alpha"]) * log_prob - q)
        return soft + state.hp["bc_alpha"] * imitation, -log_prob.mean(), imitation

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            next_key, z_key = jax.random.split(key)
            return {
                "next": jax.random.normal(next_key, (per_shard, A)),
                "z": jax.random.normal(z_key, (per_shard, A)),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            critic, q = critic_loss(params["critic"], state, batch, noise["next"])
            policy, entropy, imitation = policy_loss(params["policy"], state, batch, noise["z"])
            excess = jax.lax.stop_gradient(entropy) - state.hp["target_entropy"]
            temperature = jnp.exp(params["log_alpha"]) * excess
            metrics = {
                "critic_loss": critic,
                "policy_loss": policy,
                "imitation_loss": imitation,
                "alpha_loss": temperature,
                "alpha": jnp.exp(params["log_alpha"]),
                "entropy": entropy,
                "q": q.mean(),
            }
            return pmean_if((critic + policy + temperature, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        loss, _ = critic_loss(state.params["critic"], state, batch, noise["next"])
        return pmean_if(loss, axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        mean, log_std = policy_net.apply(state.params["policy"], obs)
        if not explore:
            return jnp.tanh(mean), {}
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)
        return tanh_gaussian(noise, mean, log_std)[0], {}

    return Learner(init, update, act, td_loss, hp)
