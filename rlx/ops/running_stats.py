"""Running mean and variance of observations, kept in the learner's state and never baked into the
buffer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from rlx.ops.shards import pmean_if


class RunningStats(struct.PyTreeNode):
    """count: f32[] rows seen.   mean: [*O].   m2: [*O] sum of squared deviations from the mean."""

    count: jax.Array
    mean: jax.Array
    m2: jax.Array


def init(shape: tuple[int, ...]) -> RunningStats:
    """Return statistics of nothing: mean 0, unit variance until the first update."""
    return RunningStats(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def update(stats: RunningStats, x: jax.Array, axis_name: str | None = None) -> RunningStats:
    """Merge a batch `x [N, *O]` (of all devices on `axis_name`) by Chan's parallel formula."""
    rows = x.shape[0] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    mean = pmean_if(jnp.mean(x, 0), axis_name)
    m2 = rows * pmean_if(jnp.mean((x - mean) ** 2, 0), axis_name)
    count = stats.count + rows
    delta = mean - stats.mean
    return RunningStats(
        count,
        stats.mean + delta * rows / count,
        stats.m2 + m2 + delta**2 * stats.count * rows / count,
    )


def normalize(stats: RunningStats | None, x: jax.Array, clip: float = 10.0) -> jax.Array:
    """Return `(x - mean) / std` clipped to +-`clip`; `x` itself when no statistics are kept."""
    if stats is None:
        return x
    std = jnp.sqrt(jnp.where(stats.count > 1, stats.m2 / jnp.maximum(stats.count, 1.0), 1.0) + 1e-8)
    return jnp.clip((x - stats.mean) / std, -clip, clip)
