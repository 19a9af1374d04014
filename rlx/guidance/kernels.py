"""One step of a chain as a distribution: Gaussian, one token per position, one token per step.

A Gaussian kernel is y = mean + S z, z ~ N(0, 1). Tilted by exp(g . y) it is N(mean + S S' g, S S'),
and with w = S' g its draw y = mean + S (w + z) has
  log p(y) - log q(y) = -z . w - |w|**2 / 2,
which needs no division: it is 0 where the last step of a chain adds no noise.
Discrete draws are argmax of logits + Gumbel noise, in float32 or wider.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlx.guidance.core import gumbel, normal


class Gaussian(NamedTuple):
    """N(mean, S S')."""

    mean: jax.Array  # [B, K, *E]
    scale: jax.Array  # S: [], all numbers alike, or lower triangular [d, d] for E = (d,)

    def draw(self, keys: jax.Array, m: int) -> jax.Array:
        z = normal(keys, (self.mean.shape[1], m, *self.mean.shape[2:]))
        return self.mean[:, :, None] + spread(self.scale, z)

    def log_prob(self, y: jax.Array) -> jax.Array:
        """Not a density where S = 0, as at the last step of a DDPM."""
        apart, numbers = y - self.mean[:, :, None], math.prod(y.shape[3:])
        if self.scale.ndim:
            columns = apart.reshape(-1, numbers).T
            z = jax.scipy.linalg.solve_triangular(self.scale, columns, lower=True).T
            z, log_det = z.reshape(apart.shape), jnp.sum(jnp.log(jnp.diagonal(self.scale)))
        else:
            z, log_det = apart / self.scale, numbers * jnp.log(self.scale)
        return -0.5 * event_sum(z**2) - log_det - 0.5 * numbers * math.log(2 * math.pi)

    def tilted(self, keys: jax.Array, shift: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
        z = normal(keys, (self.mean.shape[1], m, *self.mean.shape[2:]))
        w = spread(self.scale.T, shift)[:, :, None]
        return self.mean[:, :, None] + spread(self.scale, w + z), -event_sum(z * w + 0.5 * w**2)


def spread(scale: jax.Array, z: jax.Array) -> jax.Array:
    """S z along the last axis."""
    return z @ scale.T if scale.ndim else scale * z


def event_sum(x: jax.Array) -> jax.Array:
    """Sum of `[B, K, m, *E]` over *E."""
    return jnp.sum(x, axis=tuple(range(3, x.ndim)))


class PerToken(NamedTuple):
    """All positions at once, independent given x."""

    logits: jax.Array  # [B, K, L, C] normalised over C

    def draw(self, keys: jax.Array, m: int) -> jax.Array:
        _, K, L, C = self.logits.shape
        noise = gumbel(keys, (K, m, L, C))
        return jnp.argmax(self.logits[:, :, None] + noise, axis=-1).astype(jnp.int32)

    def log_prob(self, y: jax.Array) -> jax.Array:
        return jnp.sum(take_classes(self.logits, y), axis=-1)

    def tilted(self, keys: jax.Array, shift: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
        other = PerToken(jax.nn.log_softmax(self.logits + shift))
        y = other.draw(keys, m)
        return y, self.log_prob(y) - other.log_prob(y)


class SingleSite(NamedTuple):
    """One token of one masked position, drawn together; all else of x stays."""

    logits: jax.Array  # [B, K, L, V] normalised over both L and V; -inf where not masked
    x: jax.Array  # [B, K, L]

    def draw(self, keys: jax.Array, m: int) -> jax.Array:
        _, K, L, V = self.logits.shape
        noise = gumbel(keys, (K, m, L * V))
        move = jnp.argmax(self.logits.reshape(-1, K, 1, L * V) + noise, axis=-1)[..., None]
        chosen = (jnp.arange(L) == move // V) & (self.x == V)[:, :, None]
        return jnp.where(chosen, move % V, self.x[:, :, None]).astype(jnp.int32)

    def log_prob(self, y: jax.Array) -> jax.Array:
        set_now = y != self.x[:, :, None]
        return jnp.sum(jnp.where(set_now, take_classes(self.logits, y), 0.0), axis=-1)

    def tilted(self, keys: jax.Array, shift: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
        logits = self.logits + shift
        total = jax.nn.logsumexp(logits, axis=(-2, -1), keepdims=True)
        other = SingleSite(logits - total, self.x)
        y = other.draw(keys, m)
        return y, self.log_prob(y) - other.log_prob(y)


def take_classes(logits: jax.Array, y: jax.Array) -> jax.Array:
    """logits `[B, K, L, C]` at classes y `[B, K, m, L]`; what is no class reads the last one."""
    index = jnp.minimum(y, logits.shape[-1] - 1)
    return jnp.take_along_axis(logits[:, :, None], index[..., None], axis=-1)[..., 0]
