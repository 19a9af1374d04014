"""Where keys come from: `fold_in(seed, step, stream, logical shard)`, nothing else.

No key is ever carried in a state, so resuming at a step draws what the uninterrupted run drew
there, and a result does not depend on the number of devices.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp

from rlx.types import Keys

SHARED = 2**31 - 1  # stands where a shard's number does, and no shard has it
STREAMS = ("init", "reset", "act", "env", "sample", "update", "eval", "shuffle", "probe")


def key_for(seed: jax.Array | int, step: jax.Array | int, stream: str) -> jax.Array:
    """Return the key of `stream` at `step` (a vector step or a gradient step) of the run with
    `seed`.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; one of {', '.join(STREAMS)}")
    tag = zlib.crc32(stream.encode()) & 0x7FFFFFFF
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), tag)


def shard_keys(key: jax.Array, shards: int, axis_name: str | None = None) -> Keys:
    """Give each logical shard of this device its key; `shards` counts those of all devices."""
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    local = shards // devices
    ids = jnp.arange(local, dtype=jnp.int32)
    if axis_name is not None:
        ids = ids + local * jax.lax.axis_index(axis_name).astype(jnp.int32)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
    shared = jax.random.fold_in(key, SHARED)
    # Without the barrier XLA computes the keys anew for every number drawn from them.
    return Keys(jax.lax.optimization_barrier(keys), ids, shared, shards)
