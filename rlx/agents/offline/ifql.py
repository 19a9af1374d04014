"""Implicit flow Q-learning: IQL's values, a flow policy that only imitates, and the best of N of
its samples (Park, Li, Levine 2025, arXiv 2502.02538, appendix E.2; the flow form of IDQL,
Hansen-Estruch et al. 2023, arXiv 2304.10573).

Per gradient step, one Adam step on the sum of
  value   u = min_k Q'_k(s, a) - V(s):  mean_B |expectile - 1[u < 0]| u**2
  critic  y = r + discount * V(s'):  sum_k mean_B (Q_k(s, a) - y)**2
  flow    x0 ~ N(0, 1), t ~ U[0, 1):  mean (v(s, (1 - t) x0 + t a, t) - (a - x0))**2
then Q' <- tau Q + (1 - tau) Q', Q of before the step. `discount` is gamma**h * (1 - terminated).
Acting: of N actions clip(Euler, -1, 1) the one with the highest min_k Q_k(s, .).

The critics' errors are summed over the critics, as published, not averaged as those of FQL.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic, Value
from rlx.nn.flow import VectorField, flow_action
from rlx.ops import learning
from rlx.ops.flow import draw_time, path
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import expectile_loss, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "expectile")


def get_config() -> ConfigDict:
    """Return the published constants of IFQL."""
    return ConfigDict(
        dict(
            name="ifql",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            expectile=0.9,  # kappa
            samples=32,  # N, actions to choose from
            flow_steps=10,  # M, of the Euler integration
            solver="euler",  # or midpoint
            time_dist="uniform",  # of flow matching: uniform, beta or logit_normal
            fourier=0,  # Fourier features of the time; 0 = the time itself
            critic_hidden=(512, 512, 512, 512),  # widths of each critic and of the value
            actor_hidden=(512, 512, 512, 512),  # of the flow
            ensemble=2,  # critics
            layer_norm=True,  # in the critics and the value
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build IFQL for `spec`, whose action may be a chunk; losses are averaged over `axis_name`."""
    check_offline("ifql", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    features = encoders.width(config.encoder, spec.obs)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    value_net = Value(config.critic_hidden, config.layer_norm, encoder())
    flow_net = VectorField(
        features, config.actor_hidden, A, config.actor_layer_norm, config.fourier, encoder()
    )
    draw_action = partial(flow_action, flow_net, config.flow_steps, config.solver)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        keys = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(keys[0], obs, action),
            "value": value_net.init(keys[1], obs),
            "flow": flow_net.init(keys[2], obs, action, action[:, :1]),
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

    def flow_loss(params: Any, batch: Transition, noise: jax.Array, t: jax.Array) -> jax.Array:
        """Flow matching on the data's actions; equation 'flow' above."""
        x, velocity = path(noise, batch.action, t)
        error = (flow_net.apply(params, batch.obs, x, t) - velocity) ** 2
        return masked_mean(error, per_action(batch.extras["action_valid"], batch.action))

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            x0_key, t_key = jax.random.split(key)
            return {
                "x0": jax.random.normal(x0_key, (per_shard, A)),
                "t": draw_time(t_key, (per_shard, 1), config.time_dist),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            value, v = value_loss(params["value"], state, batch)
            critic, q = critic_loss(params["critic"], state, batch)
            flow = flow_loss(params["flow"], batch, noise["x0"], noise["t"])
            metrics = {
                "value_loss": value,
                "critic_loss": critic,
                "flow_loss": flow,
                "v": v.mean(),
                "q": q.mean(),
            }
            return pmean_if((value + critic + flow, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return pmean_if(critic_loss(state.params["critic"], state, batch)[0], axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, config.samples, A)), keys)
        flow, critic = state.params["flow"], state.params["critic"]
        action = draw_action(flow, obs, noise)
        q = critic_net.apply(critic, obs, action)
        return learning.pick(action, q.min(0)), {}

    return Learner(init, update, act, td_loss, hp)
