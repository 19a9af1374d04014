"""Behaviour cloning with a Gaussian of unit standard deviation, the plainest baseline (Park, Li,
Levine 2025, arXiv 2502.02538, appendix E.2).

Per gradient step, one Adam step on
  imitation   -mean_B sum_j log N(a_j; mean_j(s), 1), the constant of the density included
Actions of a chunk that the data does not know have weight 0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.gaussian import Mean
from rlx.ops import learning
from rlx.ops.distributions import gaussian_log_densities
from rlx.ops.learning import State, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount")


def get_config() -> ConfigDict:
    """Return the published constants of Gaussian behaviour cloning."""
    return ConfigDict(
        dict(
            name="bc",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam
            discount=0.99,  # of the batches; the loss has no use for it
            actor_hidden=(512, 512, 512, 512),  # widths of the policy
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build behaviour cloning for `spec`; the loss is averaged over `axis_name`.

    It has no critic: `td_loss` is the imitation loss.
    """
    check_offline("bc", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    encoder = encoders.make(config.encoder)
    policy_net = Mean(config.actor_hidden, A, config.actor_layer_norm, encoder)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        obs = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype)
        return learning.begin({"policy": policy_net.init(key, obs)}, (), hp)

    def imitation_loss(params: Any, batch: Transition) -> jax.Array:
        """Equation 'imitation' above."""
        weight = per_action(batch.extras["action_valid"], batch.action)
        mean = policy_net.apply(params, batch.obs)
        return -jnp.mean(jnp.sum(weight * gaussian_log_densities(batch.action, mean), axis=-1))

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            loss = imitation_loss(params["policy"], batch)
            return pmean_if((loss, {"imitation_loss": loss}), axis_name)

        return learning.adam_step(state, total)

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return pmean_if(imitation_loss(state.params["policy"], batch), axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        action = policy_net.apply(state.params["policy"], obs)
        if explore:
            per_shard = obs.shape[0] // keys.keys.shape[0]
            action += rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)
        return jnp.clip(action, -1, 1), {}

    return Learner(init, update, act, td_loss, hp)
