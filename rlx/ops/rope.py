"""Rotary positions (Su et al. 2021, arXiv 2104.09864), the half-split form of Gemma."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

BASE = 10_000.0


def rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Turn the pair (x_i, x_{i + H/2}) of every head by `position * BASE**(-2 i / H)`.

    Args: x `[..., S, N, H]` with even H; positions `[..., S]` int, each row its own.
    Returns: like x; the angles are float32 whatever the dtype of x.
    """
    chex.assert_equal_shape_prefix([x, positions], positions.ndim)
    half = x.shape[-1] // 2
    chex.assert_is_divisible(x.shape[-1], 2)
    period = BASE ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) / period
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
