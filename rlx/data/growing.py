"""A replay ring in the form of `rlx.data.rows`: one environment's trajectories, appended step by
step, each observation stored once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from rlx.data.rows import Rows


class Growing(struct.PyTreeNode):
    """A ring of rows; `rows.index` is a ring too, of `count` rows with a transition from `head`."""

    rows: Rows
    cursor: jax.Array  # int32[], the row of the observation to be acted upon next
    head: jax.Array  # int32[]
    count: jax.Array  # int32[], transitions in the ring


def empty(obs: jax.ShapeDtypeStruct, action_dim: int, capacity: int) -> Growing:
    """Return a ring of `capacity` rows (transitions and last observations), all free."""
    n, zero = capacity, jnp.int32(0)
    flags = jnp.zeros(n, bool)
    numbers = jnp.zeros(n, jnp.int32)
    rows = Rows(
        obs=jnp.zeros((n, *obs.shape), obs.dtype),
        action=jnp.zeros((n, action_dim)),
        reward=jnp.zeros(n),
        terminated=flags,
        transition=flags,
        action_known=flags,
        age=numbers,
        index=numbers,
    )
    return Growing(rows, zero, zero, zero)


def append(
    ring: Growing,
    obs: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    next_obs: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    age: jax.Array,
    frame_stack: int = 1,
) -> Growing:
    """Add one transition, over the oldest rows where the ring is full.

    Args: obs, next_obs: one frame each; age: steps of the episode before this one; done: the
    episode ends here, by termination or by the clock; frame_stack: images per observation.
    """
    rows, size = ring.rows, ring.rows.reward.shape[0]
    here, after = ring.cursor, (ring.cursor + 1) % size
    pair = jnp.stack([here, after])
    lost = rows.transition[pair].sum(dtype=jnp.int32)
    slot = (ring.head + ring.count) % size
    ages = rows.age.at[pair].set(jnp.stack([age, age + 1]))
    for ahead in range(frame_stack - 1):  # older frames than these are overwritten now
        ages = ages.at[(after + 1 + ahead) % size].min(ahead)
    new = Rows(
        obs=rows.obs.at[here].set(obs).at[after].set(next_obs),
        action=rows.action.at[here].set(action),
        reward=rows.reward.at[here].set(reward),
        terminated=rows.terminated.at[here].set(terminated),
        transition=rows.transition.at[pair].set(jnp.array([True, False])),
        action_known=rows.action_known.at[pair].set(jnp.array([True, False])),
        age=ages,
        index=rows.index.at[slot].set(here),
    )
    return Growing(
        rows=new,
        cursor=(here + 1 + done) % size,
        head=(ring.head + lost) % size,
        count=ring.count + 1 - lost,
    )
