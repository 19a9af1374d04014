"""Continuous generators as reverse chains: DDPM / VP diffusion, and flows as an SDE."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rlx.guidance.core import normal
from rlx.guidance.kernels import Gaussian
from rlx.guidance.types import Fn


class Diffusion(struct.PyTreeNode):
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps; made by `ddpm`. Its prediction is x0hat.

    With s = t - 1 and sigma**2 = eta**2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s):
      mean = sqrt(abar_s) x0hat + sqrt(1 - abar_s - sigma**2) epshat,
    at eta = 1 the posterior of Ho et al. 2020, at eta = 0 DDIM.
    """

    network: Fn
    table: Any  # [T + 1, 4]: sqrt(abar), sqrt(1 - abar), sigma, sqrt(1 - abar_s - sigma**2)
    event: tuple[int, ...] = struct.field(pytree_node=False)
    predicts_x0: bool = struct.field(pytree_node=False)
    clip: float | None = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False)
    tokens: int = struct.field(pytree_node=False, default=0)
    masked: bool = struct.field(pytree_node=False, default=False)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        return normal(keys, (n, *self.event))

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        out = self.network(x, t)
        keep, lost = at(self.table, t, x)[:2]
        clean = out if self.predicts_x0 else (x - lost * out) / keep
        return clean if self.clip is None else jnp.clip(clean, -self.clip, self.clip)

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> Gaussian:
        keep, lost, sigma, direction = at(self.table, t, x)
        keep_s = at(self.table, t - 1, x)[0]
        eps = (x - keep * prediction) / lost
        return Gaussian(keep_s * prediction + direction * eps, sigma)

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return prediction

    def with_clean(self, x: jax.Array, clean: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return clean

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        keep, lost = at(self.table, t, x0)[:2]
        return keep * x0 + lost * normal(keys, x0.shape[1:])

    def signal(self, t: jax.Array) -> jax.Array:
        return jnp.asarray(self.table)[t, 0]


def at(table: Any, t: jax.Array, x: jax.Array) -> jax.Array:
    """Row t of a table in the type of x."""
    return jnp.asarray(table)[t].astype(x.dtype)


def ddpm(
    network: Fn,
    abar: np.ndarray,
    event: tuple[int, ...],
    eta: float = 1.0,
    clip: float | None = None,
    predicts: str = "eps",
) -> Diffusion:
    """Make a variance-preserving diffusion of samples of shape `event`.

    network(x [B, K, *E], t int32 []) -> eps, or x_0 if `predicts` is "x0", of x's shape.
    abar: `[T + 1]`, falling from abar[0] = 1.   clip: x0hat is held in [-clip, clip].
    eta: 1 adds DDPM's noise; 0 is DDIM, whose particles would be copies, and samplers refuse it.
    """
    abar = np.asarray(abar, np.float64)
    if abar.ndim != 1 or len(abar) < 2 or abar[0] != 1 or not (np.diff(abar) < 0).all():
        raise ValueError(f"abar is [T + 1] numbers that fall from abar[0] = 1, got {abar}")
    if predicts not in ("eps", "x0"):
        raise ValueError(f"predicts is eps or x0, got {predicts!r}")
    if abar[-1] < (predicts == "eps") * 1e-12:
        raise ValueError(f"abar ends at {abar[-1]}, where eps says nothing of x_0: keep it above")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is in [0, 1], got {eta}")
    s, t = abar[:-1], abar[1:]
    sigma = eta * np.sqrt((1 - s) / (1 - t) * (1 - t / s))
    direction = np.sqrt(np.maximum(1 - s - sigma**2, 0.0))
    steps = np.stack([np.append(0.0, sigma), np.append(0.0, direction)], axis=1)
    table = np.concatenate([np.sqrt(abar)[:, None], np.sqrt(1 - abar)[:, None], steps], axis=1)
    return Diffusion(network, table, tuple(event), predicts == "x0", clip, len(t), eta > 0)


class Flow(struct.PyTreeNode):
    """x = (1 - tau) noise + tau x_0 with velocity u, as the SDE of the same marginals:

      dx = [u + eta**2 (1 - tau) (tau u - x) / 2] dtau + eta (1 - tau) dW,
    since (tau u - x) / (1 - tau) is the score; Euler-Maruyama in T equal steps, tau = 1 - t / T.
    Its prediction is u, x0hat = x + (1 - tau) u. eta = 0 is the ODE. Made by `flow`.
    """

    velocity: Fn
    eta: Any  # []
    event: tuple[int, ...] = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False)
    tokens: int = struct.field(pytree_node=False, default=0)
    masked: bool = struct.field(pytree_node=False, default=False)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        return normal(keys, (n, *self.event))

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        return self.velocity(x, self.signal(t).astype(x.dtype))

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> Gaussian:
        tau, h = self.signal(t).astype(x.dtype), 1.0 / self.steps
        toward_data = 0.5 * self.eta**2 * (1 - tau) * (tau * prediction - x)
        scale = jnp.asarray(self.eta * (1 - tau) * h**0.5, x.dtype)
        return Gaussian(x + h * (prediction + toward_data), scale)

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        return x + (1 - self.signal(t)).astype(x.dtype) * prediction

    def with_clean(self, x: jax.Array, clean: jax.Array, t: jax.Array) -> jax.Array:
        return (clean - x) / (1 - self.signal(t)).astype(x.dtype)

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        tau = self.signal(t).astype(x0.dtype)
        return (1 - tau) * normal(keys, x0.shape[1:]) + tau * x0

    def signal(self, t: jax.Array) -> jax.Array:
        return 1 - t / self.steps


def flow(velocity: Fn, steps: int, event: tuple[int, ...], eta: float = 1.0) -> Flow:
    """Make a flow of samples of shape `event` with `velocity(x [B, K, *E], tau []) -> like x`.

    tau in [0, 1): noise at 0, data at 1. eta >= 0 scales the noise of the SDE.
    """
    if steps < 1:
        raise ValueError(f"steps is a whole number >= 1, got {steps}")
    if not eta >= 0:
        raise ValueError(f"eta is >= 0, got {eta}")
    return Flow(velocity, np.asarray(eta, np.float64), tuple(event), steps, eta > 0)
