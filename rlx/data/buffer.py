"""The replay ring: `[T, N, ...]` on device, one contiguous write per vector step, uniform n-step
samples.

The ring keeps no head: slot and fill follow from the number of vector steps added so far. That
counter is shared by all runs of a vmapped program, so a write stays one `dynamic_update_slice` and
never a scatter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.ops.shards import rows
from rlx.ops.td import n_step as fold_n_step
from rlx.types import Buffer, Keys, PyTree, Transition


def make_buffer(capacity: int, num_envs: int, n_step: int = 1) -> Buffer:
    """Build a ring for `capacity` transitions (rounded up to whole vector steps) of `num_envs`
    environments.

    State: Transition `[T, N, ...]`, T = ceil(capacity / num_envs); under `shard_map` N is the local
    part.
    Raises ValueError when the ring cannot hold one n-step window of every environment.
    """
    if capacity < num_envs * (n_step + 1):
        raise ValueError(
            f"data.capacity = {capacity} transitions is too small: {num_envs} envs with "
            f"n_step = {n_step} need at least {num_envs * (n_step + 1)}"
        )
    slots = -(-capacity // num_envs)

    def init(example: Transition, num_envs: int, leading: tuple[int, ...] = ()) -> Transition:
        """Zeros for one transition's `example` shapes; `leading` = run axes, made outside any
        `vmap`.
        """
        return jax.tree.map(
            lambda x: jnp.zeros((*leading, slots, num_envs, *x.shape), x.dtype), example
        )

    def add(data: Transition, step: jax.Array, transition: Transition) -> Transition:
        """Write vector step number `step` (counted from 0), `[N, ...]`, over the oldest one."""
        slot = step % slots
        return jax.tree.map(
            lambda ring, x: jax.lax.dynamic_update_slice_in_dim(ring, x[None], slot, axis=0),
            data,
            transition,
        )

    def sample(
        data: Transition,
        step: jax.Array,
        keys: Keys,
        batch_size: int,
        discount: jax.Array,
        newest: jax.Array | None = None,
    ) -> Transition:
        """Draw `batch_size` local rows uniformly (with replacement) after `step` vector steps were
        added; with `newest`, only from so many of the last ones.

        Each shard draws from its own columns. `reward` is the n-step sum, `next_obs` the true
        successor of the last step used, `extras["discount"]` = discount**k, 0 after termination.
        """
        shards = keys.keys.shape[0]
        columns = data.reward.shape[1] // shards
        filled = jnp.minimum(step, slots)
        starts = jnp.maximum(
            filled - n_step + 1, 1
        )  # windows that lie whole inside the filled part

        first = 0 if newest is None else jnp.maximum(starts - newest, 0)

        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            time_key, env_key = jax.random.split(key)
            size = (batch_size // shards,)
            return (
                jax.random.randint(time_key, size, first, starts),
                jax.random.randint(env_key, size, 0, columns),
            )

        offset, column = rows(draw, keys)
        column = column + jnp.repeat(jnp.arange(shards) * columns, batch_size // shards)
        slot = (step - filled + offset) % slots
        if n_step == 1:
            batch = take(data, slot, column)
            bootstrap = discount * (1.0 - batch.terminated)
            return batch.replace(extras={**batch.extras, "discount": bootstrap})
        window = (slot[:, None] + jnp.arange(n_step)) % slots  # [B, n]
        fields = (data.reward, data.terminated, data.truncated)
        reward, terminated, truncated = take(fields, window, column[:, None])
        reward, bootstrap, last = jax.vmap(fold_n_step, in_axes=(0, 0, 0, None))(
            reward, terminated, truncated, discount
        )
        start = take(data.replace(next_obs=None), slot, column)
        end = jnp.take_along_axis(window, last[:, None], axis=1)[:, 0]
        ending = (data.next_obs, data.terminated, data.truncated)
        next_obs, terminated, truncated = take(ending, end, column)
        return start.replace(
            reward=reward,
            next_obs=next_obs,
            terminated=terminated,
            truncated=truncated,
            extras={**start.extras, "discount": bootstrap},
        )

    return Buffer(slots * num_envs, init, add, sample)


def take(data: PyTree, slot: jax.Array, column: jax.Array) -> PyTree:
    """Gather `data[slot, column]` leaf by leaf; the indices are in bounds by construction.

    The barrier keeps XLA from drawing the random indices anew for every leaf.
    """
    slot, column = jax.lax.optimization_barrier((slot, column))
    return jax.tree.map(lambda x: x.at[slot, column].get(mode="promise_in_bounds"), data)


def buffer_bytes(capacity: int, obs_size: int, action_size: int) -> int:
    """Bytes of `capacity` transitions: two observations, an action, a reward (float32) and two
    flags.
    """
    return capacity * (4 * (2 * obs_size + action_size + 1) + 2)
