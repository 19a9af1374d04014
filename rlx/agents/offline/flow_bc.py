"""Behaviour cloning with a flow policy (flow matching, Lipman et al. 2023): the policy inside FQL
and its relatives, alone.

Per gradient step, one Adam step on
  flow    x0 ~ N(0, 1), t ~ U[0, 1):  mean (v(s, (1 - t) x0 + t a, t) - (a - x0))**2
over batch and action numbers; actions of a chunk that the data does not know have weight 0.
The policy is clip(Euler from z ~ N(0, 1), -1, 1).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.flow import VectorField, flow_action
from rlx.ops import learning
from rlx.ops.flow import draw_time, path
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount")


def get_config() -> ConfigDict:
    """Return FQL's constants of its flow policy."""
    return ConfigDict(
        dict(
            name="flow_bc",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam
            discount=0.99,  # of the batches; the loss has no use for it
            flow_steps=10,  # M, of the Euler integration
            solver="euler",  # or midpoint
            time_dist="uniform",  # of flow matching: uniform, beta or logit_normal
            fourier=0,  # Fourier features of the time; 0 = the time itself
            actor_hidden=(512, 512, 512, 512),  # widths of the flow
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
            eval_noise="sample",  # evaluation draws noise, or takes 0 (zero)
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build flow behaviour cloning for `spec`; the loss is averaged over `axis_name`.

    It has no critic: `td_loss` is the flow loss.
    """
    check_offline("flow_bc", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    features = encoders.width(config.encoder, spec.obs)
    encoder = encoders.make(config.encoder)
    flow_net = VectorField(
        features, config.actor_hidden, A, config.actor_layer_norm, config.fourier, encoder
    )
    draw_action = partial(flow_action, flow_net, config.flow_steps, config.solver)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        return learning.begin({"flow": flow_net.init(key, obs, action, action[:, :1])}, (), hp)

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
            loss = flow_loss(params["flow"], batch, noise["x0"], noise["t"])
            return pmean_if((loss, {"flow_loss": loss}), axis_name)

        return learning.adam_step(state, total)

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        return pmean_if(flow_loss(state.params["flow"], batch, noise["x0"], noise["t"]), axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)
        if not explore and config.eval_noise == "zero":
            noise = 0.0 * noise  # varies over devices as the draws do
        return draw_action(state.params["flow"], obs, noise), {}

    return Learner(init, update, act, td_loss, hp)
