"""Why a rule fails: how much better the critic knows old data than new, how large its weights are.

Rybkin et al. 2025: the gap rises with UTD and batch size, the norm with UTD and learning rate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from rlx.train.state import TrainState
from rlx.types import Buffer, Keys, Learner


def probe(
    learner: Learner,
    buffer: Buffer,
    state: TrainState,
    keys: Keys,
    batch_size: int,
    num_envs: int,
) -> dict[str, jax.Array]:
    """Return f32[] by name for ONE run; learns nothing.

    critic_loss_recent, critic_loss_replay: the critic's loss on a batch of the newest transitions
      (as many vector steps as make a batch) and on one drawn from all of the ring.
    NAME_param_norm: Euclidean norm of each network's parameters.

    Args: batch_size, num_envs: of this device.
    """
    filled = state.step - state.ring_start
    windows = jnp.stack([jnp.int32(-(-batch_size // num_envs)), filled])

    def loss(newest: jax.Array) -> jax.Array:
        discount = state.learner.hp["discount"]
        batch = buffer.sample(state.buffer, filled, keys, batch_size, discount, newest)
        return learner.td_loss(state.learner, batch, keys)

    recent, replay = jax.vmap(loss)(windows)
    norms = {
        f"{name}_param_norm": optax.tree.norm(params)
        for name, params in state.learner.params.items()
        if jax.tree.leaves(params)[0].ndim
    }
    return {"critic_loss_recent": recent, "critic_loss_replay": replay, **norms}
