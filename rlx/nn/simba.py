"""SimBa (Lee et al. 2024, arXiv 2410.09754) and SimbaV2 (Lee et al. 2025, arXiv 2502.15280).

SimbaV2 keeps features and weights on the unit sphere: the network normalises its features itself,
`project` puts the weights back after every gradient step.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.init import orthogonal
from rlx.types import PyTree

EXPANSION = 4  # width of a block's inner layer over its outer one
SHIFT = 3.0  # SimbaV2's extra input, so that normalising loses no magnitude


class SimBa(nn.Module):
    """Dense, `blocks` times `x + Dense(relu(Dense(LN(x))))`, LN, Dense: `[..., I] -> [..., out]`.

    Expects normalised observations.
    """

    width: int
    blocks: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        plain, he = orthogonal(), nn.initializers.he_normal()
        x = nn.Dense(self.width, kernel_init=plain)(x)
        for _ in range(self.blocks):
            inner = nn.Dense(EXPANSION * self.width, kernel_init=he)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width, kernel_init=he)(nn.relu(inner))
        return nn.Dense(self.out, kernel_init=plain)(nn.LayerNorm()(x))


class Scaler(nn.Module):
    """Multiply each feature by a learned number that starts at `start`.

    The parameter itself starts at `scale`, which sets how fast one learning rate moves it.
    """

    size: int
    start: float
    scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scaler = self.param("scaler", nn.initializers.constant(self.scale), (self.size,))
        return x * scaler * (self.start / self.scale)


class SimbaV2(nn.Module):
    """Hyperspherical residual network: `[..., I] -> [..., out]`; use it with `project`."""

    width: int
    blocks: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def sphere_dense(width: int) -> Callable[[jax.Array], jax.Array]:
            return nn.Dense(width, use_bias=False, kernel_init=orthogonal(1.0))

        inner_width, root = EXPANSION * self.width, (2.0 / self.width) ** 0.5
        inner_root = (2.0 / inner_width) ** 0.5
        blend = 1.0 / (self.blocks + 1)
        x = unit(jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), SHIFT)], axis=-1))
        x = unit(Scaler(self.width, root, root)(sphere_dense(self.width)(x)))
        for _ in range(self.blocks):
            inner = Scaler(inner_width, inner_root, inner_root)(sphere_dense(inner_width)(x))
            moved = unit(sphere_dense(self.width)(nn.relu(inner)))
            x = unit(x + Scaler(self.width, blend, self.width**-0.5)(moved - x))
        x = Scaler(self.width, 1.0, 1.0)(sphere_dense(self.width)(x))
        x = sphere_dense(self.out)(x)
        return x + self.param("bias", nn.initializers.zeros, (self.out,))


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Scale `x` to length 1 along `axis`; a zero vector stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=axis, keepdims=True), 1e-8)


def project(params: PyTree) -> PyTree:
    """Put every kernel's columns (the weights into one unit, last axis but one) on the sphere."""

    def back(path: tuple, x: jax.Array) -> jax.Array:
        return unit(x, axis=-2) if path and path[-1].key == "kernel" else x

    return jax.tree_util.tree_map_with_path(back, params)
