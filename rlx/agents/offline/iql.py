"""Implicit Q-learning (Kostrikov, Nair, Levine 2021, arXiv 2110.06169): values of the data's
actions alone, and a Gaussian policy that imitates the better of them; constants of Park, Li, Levine
2025, arXiv 2502.02538.

Per gradient step, one Adam step on the sum of
  value   u = min_k Q'_k(s, a) - V(s):  mean_B |expectile - 1[u < 0]| u**2
  critic  y = r + discount * V(s'):  sum_k mean_B (Q_k(s, a) - y)**2
  awr     -mean_B w sum_j log N(a_j; mean_j(s), 1),
          w = min(exp(alpha (min_k Q_k(s, a) - V(s))), max_weight)
  or ddpgbc   -mean_B min_k Q_k(s, clip(mean(s), -1, 1)) / mean_B |min_k Q_k|
              - alpha mean_B sum_j log N(a_j; mean_j(s), 1)
then Q' <- tau Q + (1 - tau) Q', Q of before the step. `discount` is gamma**h * (1 - terminated).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic, Value
from rlx.nn.gaussian import Mean
from rlx.ops import learning
from rlx.ops.distributions import gaussian_log_densities
from rlx.ops.learning import State, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import expectile_loss, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "expectile", "alpha", "max_weight")


def get_config() -> ConfigDict:
    """Return the published constants of IQL on OGBench; its manipulation tasks use 256x4."""
    return ConfigDict(
        dict(
            name="iql",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            expectile=0.9,  # kappa
            actor_loss="awr",  # advantage-weighted regression, or ddpgbc
            alpha=10.0,  # inverse temperature of awr, weight of imitation in ddpgbc
            max_weight=100.0,  # cap of awr's weights
            critic_hidden=(512, 512, 512, 512),  # widths of each critic and of the value
            actor_hidden=(512, 512, 512, 512),  # of the policy
            ensemble=2,  # critics
            layer_norm=True,  # in the critics and the value
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build IQL for `spec`, whose action may be a chunk; losses are averaged over `axis_name`."""
    check_offline("iql", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    value_net = Value(config.critic_hidden, config.layer_norm, encoder())
    policy_net = Mean(config.actor_hidden, A, config.actor_layer_norm, encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        keys = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(keys[0], obs, action),
            "value": value_net.init(keys[1], obs),
            "policy": policy_net.init(keys[2], obs),
        }
        return learning.begin(params, ("critic",), hp)

    def value_loss(params: Any, state: State, batch: Transition):
        """Expectile regression; equation 'value' above."""
        q = critic_net.apply(state.target_params["critic"], batch.obs, batch.action).min(0)
        v = value_net.apply(params, batch.obs)
        error = expectile_loss(q - v, state.hp["expectile"])
        return jnp.mean(batch.extras["valid"] * error), v

    def critic_loss(params: Any, state: State, batch: Transition):
        """Squared TD error, summed over the critics; equation 'critic' above."""
        next_v = value_net.apply(state.params["value"], batch.next_obs)
        target = td_target(batch.reward, batch.extras["discount"], next_v)
        q = critic_net.apply(params, batch.obs, batch.action)
        return jnp.mean(batch.extras["valid"] * (q - target) ** 2, axis=1).sum(), q

    def policy_loss(params: Any, state: State, batch: Transition) -> jax.Array:
        """Equation 'awr' or 'ddpgbc' above; in awr rows without a full chunk have no advantage."""
        weight = per_action(batch.extras["action_valid"], batch.action)
        mean = policy_net.apply(params, batch.obs)
        log_prob = jnp.sum(weight * gaussian_log_densities(batch.action, mean), axis=-1)
        critic, alpha = state.params["critic"], state.hp["alpha"]
        if config.actor_loss == "awr":
            q = critic_net.apply(critic, batch.obs, batch.action).min(0)
            advantage = q - value_net.apply(state.params["value"], batch.obs)
            better = learning.advantage_weight(advantage, alpha, state.hp["max_weight"])
            return -jnp.mean(batch.extras["valid"] * better * log_prob)
        q = critic_net.apply(critic, batch.obs, jnp.clip(mean, -1, 1)).min(0)
        return -learning.inverse_size(q, axis_name) * q.mean() - alpha * log_prob.mean()

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            value, v = value_loss(params["value"], state, batch)
            critic, q = critic_loss(params["critic"], state, batch)
            policy = policy_loss(params["policy"], state, batch)
            metrics = {
                "value_loss": value,
                "critic_loss": critic,
                "policy_loss": policy,
                "v": v.mean(),
                "q": q.mean(),
            }
            return pmean_if((value + critic + policy, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return pmean_if(critic_loss(state.params["critic"], state, batch)[0], axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        action = policy_net.apply(state.params["policy"], obs)
        if explore:
            per_shard = obs.shape[0] // keys.keys.shape[0]
            action += rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)
        return jnp.clip(action, -1, 1), {}

    return Learner(init, update, act, td_loss, hp)
