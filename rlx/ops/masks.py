"""Who sees whom in a padded, possibly packed row of tokens (`rlx.types.TokenBatch`).

`segment` is 0 on padding and grows along a row: 1, 1, ..., 2, 2, ...
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def prefix_lm(mask_ar: jax.Array, segment: jax.Array) -> jax.Array:
    """Return `[..., S, S]` (query, key): same segment, and no more `mask_ar` up to the key than up
    to the query. The prefix (False) sees itself both ways, each later token what stands before it.

    Args: mask_ar `[..., S]` bool; segment `[..., S]` int32.   Padding neither sees nor is seen.
    """
    chex.assert_equal_shape([mask_ar, segment])
    order = jnp.cumsum(mask_ar, axis=-1, dtype=jnp.int32)
    earlier = order[..., None, :] <= order[..., :, None]
    same = segment[..., None, :] == segment[..., :, None]
    return earlier & same & (segment > 0)[..., :, None]


def positions(segment: jax.Array) -> jax.Array:
    """Return int32 `[..., S]`: how many valid tokens of its own segment stand before each token.

    Padding between tokens (a camera that is missing) takes no positions; its own are arbitrary.
    """
    valid = segment > 0
    axis = segment.ndim - 1
    count = jnp.cumsum(valid, axis=-1, dtype=jnp.int32) - valid
    reached = jax.lax.cummax(segment, axis=axis)
    before = jnp.pad(reached[..., :-1], [(0, 0)] * axis + [(1, 0)])
    start = jax.lax.cummax(jnp.where(reached != before, count, 0), axis=axis)
    return count - start


def prefix(mask_ar: jax.Array, segment: jax.Array) -> jax.Array:
    """Return bool `[..., S]`: the valid tokens before the first of `mask_ar`."""
    return (jnp.cumsum(mask_ar, axis=-1) == 0) & (segment > 0)


def last(segment: jax.Array) -> jax.Array:
    """Return int32 `[...]`: the index of the last valid token of each row."""
    return jnp.max(jnp.where(segment > 0, jnp.arange(segment.shape[-1]), 0), axis=-1)
