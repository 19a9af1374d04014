"""A one-step student of a sampler of many steps, pulled to higher rewards (the policy of FQL: Park,
Li, Levine 2025, arXiv 2502.02538).

Per gradient step, one Adam step on, z ~ N(0, 1),
  alpha mean (omega(s, z) - teacher(s, z))**2 - mean_B r(s, omega(s, z))
mean over batch and numbers. A larger alpha keeps the student nearer to the teacher; its law is near
the teacher's tilted one, not equal to it.
Batches: obs [B, O]; the rest is drawn here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import chains
from rlx.nn.flow import NoiseToAction
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if, rows
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "alpha")


def get_config() -> ConfigDict:
    """Return FQL's constants for its one-step policy, with networks for small problems."""
    return ConfigDict(
        dict(
            name="student",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam
            alpha=10.0,  # weight of the distillation, in reward units
            hidden=(128, 128, 128),  # widths
        )
    )


def make(
    config: ConfigDict,
    spec: EnvSpec,
    axis_name: str | None = None,
    *,
    teacher: Any,
    reward: Any,
) -> Learner:
    """Build it for `teacher(obs, z [n, d]) -> [n, d]` and `reward(obs, x) -> [n]`, which must be
    differentiable.
    """
    shape = tuple(spec.action.shape)
    if len(shape) != 1 or not jnp.issubdtype(spec.action.dtype, jnp.floating):
        raise ValueError(f"student makes float vectors [d], got {spec.action}")
    hp = chains.settings(config, HP)
    net = NoiseToAction(config.hidden, *shape)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        params = net.init(key, jnp.zeros((1, *spec.obs.shape)), jnp.zeros((1, *shape)))
        return learning.begin({"policy": params}, (), hp)

    def draw(keys: Keys, batch_size: int) -> jax.Array:
        per_shard = batch_size // keys.keys.shape[0]
        return rows(lambda key: jax.random.normal(key, (per_shard, *shape)), keys)

    def total(params: Any, state: State, batch: Transition, keys: Keys) -> tuple[Any, Metrics]:
        z = draw(keys, batch.obs.shape[0])
        x = net.apply(params, batch.obs, z)
        distill = jnp.mean((x - jax.lax.stop_gradient(teacher(batch.obs, z))) ** 2)
        r = reward(batch.obs, x).mean()
        metrics = {"distill_loss": distill, "reward": r}
        return pmean_if((state.hp["alpha"] * distill - r, metrics), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        return learning.adam_step(state, lambda params: total(params["policy"], state, batch, keys))

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return total(state.params["policy"], state, batch, keys)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del explore
        return net.apply(state.params["policy"], obs, draw(keys, obs.shape[0])), {}

    return Learner(init, update, act, td_loss, hp)
