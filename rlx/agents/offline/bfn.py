"""Best of N of a flow policy: BFN, BFN-n with n-step batches, QC with chunks (Li, Zhou, Levine
2025, arXiv 2507.07969). The flow only imitates; the policy is the best of N of its actions, when
acting and in the critic's target.

Per gradient step, one Adam step on the sum of (means over batch and action numbers)
  critic    a' = best(s'),  y = r + discount * agg_k Q'_k(s', a')
            mean_{k,B} (Q_k(s, a) - y)**2
  flow      x0 ~ N(0, 1), t ~ U[0, 1):  mean (v(s, (1 - t) x0 + t a, t) - (a - x0))**2
with best(s) = argmax of agg_k Q_k(s, .) among clip(Euler from z_j, -1, 1), z_1 ... z_N ~ N(0, 1);
then Q' <- tau Q + (1 - tau) Q', Q of before the step. `discount` is gamma**h * (1 - terminated).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.flow import VectorField, flow_action
from rlx.ops import learning
from rlx.ops.flow import draw_time, path
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import aggregate, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau")


def get_config() -> ConfigDict:
    """Return the published constants of BFN; QC takes chunks of 5 actions and 32 samples."""
    return ConfigDict(
        dict(
            name="bfn",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            samples=4,  # N, actions to choose from, acting and in the target; QC: 32
            q_agg="mean",  # of the critics, in the choice and in the target: mean or min
            flow_steps=10,  # M, of the Euler integration
            solver="euler",  # or midpoint
            time_dist="uniform",  # of flow matching: uniform, beta or logit_normal
            fourier=0,  # Fourier features of the time; 0 = the time itself
            critic_hidden=(512, 512, 512, 512),  # widths of each critic
            actor_hidden=(512, 512, 512, 512),  # of the flow
            ensemble=2,  # critics
            layer_norm=True,  # in the critics
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build BFN for `spec`, whose action may be a chunk; losses are averaged over `axis_name`.

    Raises ValueError for actions that are no bounded float vector, images without an encoder, and
    settings out of range.
    """
    check_offline("bfn", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    features = encoders.width(config.encoder, spec.obs)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    flow_net = VectorField(
        features, config.actor_hidden, A, config.actor_layer_norm, config.fourier, encoder()
    )
    draw_action = partial(flow_action, flow_net, config.flow_steps, config.solver)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        keys = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(keys[0], obs, action),
            "flow": flow_net.init(keys[1], obs, action, action[:, :1]),
        }
        return learning.begin(params, ("critic",), hp)

    def best_action(state: State, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Of the actions that the flow makes of `noise [B, N, A]` the one of highest value."""
        flow, critic = state.params["flow"], state.params["critic"]
        action = draw_action(flow, obs, noise)
        q = critic_net.apply(critic, obs, action)
        return learning.pick(action, aggregate(q, config.q_agg))

    def critic_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Squared TD error; equation 'critic' above."""
        next_action = best_action(state, batch.next_obs, noise)
        next_q = critic_net.apply(state.target_params["critic"], batch.next_obs, next_action)
        target = td_target(batch.reward, batch.extras["discount"], aggregate(next_q, config.q_agg))
        q = critic_net.apply(params, batch.obs, batch.action)
        error = (q - jax.lax.stop_gradient(target)) ** 2
        return jnp.mean(batch.extras["valid"] * error), q

    def flow_loss(params: Any, batch: Transition, noise: jax.Array, t: jax.Array) -> jax.Array:
        """Flow matching on the data's actions; equation 'flow' above."""
        x, velocity = path(noise, batch.action, t)
        error = (flow_net.apply(params, batch.obs, x, t) - velocity) ** 2
        return masked_mean(error, per_action(batch.extras["action_valid"], batch.action))

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            next_key, x0_key, t_key = jax.random.split(key, 3)
            return {
                "next": jax.random.normal(next_key, (per_shard, config.samples, A)),
                "x0": jax.random.normal(x0_key, (per_shard, A)),
                "t": draw_time(t_key, (per_shard, 1), config.time_dist),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            critic, q = critic_loss(params["critic"], state, batch, noise["next"])
            flow = flow_loss(params["flow"], batch, noise["x0"], noise["t"])
            loss = critic + flow
            metrics = {
                "critic_loss": critic,
                "flow_loss": flow,
                "q": q.mean(),
            }
            return pmean_if((loss, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        loss, _ = critic_loss(state.params["critic"], state, batch, noise["next"])
        return pmean_if(loss, axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, config.samples, A)), keys)
        return best_action(state, obs, noise), {}

    return Learner(init, update, act, td_loss, hp)
