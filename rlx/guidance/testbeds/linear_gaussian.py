"""Gaussian prior, linear-Gaussian reward: everything in closed form (float64 NumPy on the host).

  p_pre = N(mu, S),  r(x) = -|y - H x|**2 / (2 s2),  x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps
  p_alpha = N(m, C), C^-1 = S^-1 + H'H / (s2 alpha), m = C (S^-1 mu + H'y / (s2 alpha))
  p(x_0 | x_t) = N(m_t, C_t), C_t^-1 = S^-1 + abar / (1 - abar), m_t linear in x_t
  v_t = alpha log Z of the same reward under N(m_t, C_t)
The reverse kernel is exact for any number of steps, so p_pre has no discretisation error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.tree_util import Partial

from rlx.guidance.core import normal
from rlx.guidance.kernels import Gaussian
from rlx.guidance.process import at
from rlx.guidance.values import Function, function


class LinearGaussian(NamedTuple):
    """A problem; d numbers, k observed. The defaults of `reference` are the spec's case."""

    mu: np.ndarray  # [d]
    S: np.ndarray  # [d, d]
    H: np.ndarray  # [k, d]
    y: np.ndarray  # [k]
    s2: float
    abar: np.ndarray  # [T + 1], from 1

    def tilt(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of p_alpha."""
        S_inv = np.linalg.inv(self.S)
        C = np.linalg.inv(S_inv + self.H.T @ self.H / (self.s2 * alpha))
        return C @ (S_inv @ self.mu + self.H.T @ self.y / (self.s2 * alpha)), C

    def log_Z(self, alpha: float) -> float:
        """log E_pre exp(r / alpha)."""
        d = self.y - self.H @ self.mu
        spread = self.H @ self.S @ self.H.T
        noise = self.s2 * alpha * np.eye(len(d))
        fit = d @ np.linalg.solve(spread + noise, d)
        return float(
            -0.5 * fit - 0.5 * np.linalg.slogdet(np.eye(len(d)) + spread / (self.s2 * alpha))[1]
        )

    def mean_reward(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """E r under N(mean, covariance)."""
        error = self.y - self.H @ mean
        return float(-(error @ error + np.trace(self.H @ covariance @ self.H.T)) / (2 * self.s2))

    def kl(self, alpha: float) -> float:
        """KL(p_alpha || p_pre) = E_alpha r / alpha - log Z."""
        return self.mean_reward(*self.tilt(alpha)) / alpha - self.log_Z(alpha)

    def posterior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """m_t = offset_t + gain_t x_t and C_t: `[T + 1, d]`, `[T + 1, d, d]` twice.

        In a form that holds at abar = 1 too, where C_t = 0 and m_t = x_t.
        """
        d = len(self.mu)
        signal = np.sqrt(self.abar)[:, None, None]
        noise = (1 - self.abar)[:, None, None] * np.eye(d)
        marginal = signal**2 * self.S + noise
        gain = signal * self.S @ np.linalg.inv(marginal)
        offset = self.mu - np.einsum("tij,j->ti", gain * signal, self.mu)
        return offset, gain, self.S - gain @ (signal * self.S)

    def reward(self) -> Partial:
        """r as a function of arrays `[B, K, d]`."""
        return Partial(squared_error, *map(np.asarray, (self.H, self.y, self.s2)))

    def process(self) -> Exact:
        """The exact reverse chain; its prediction is the posterior mean m_t."""
        offset, gain, _ = self.posterior()
        a = np.append(1.0, self.abar[1:] / self.abar[:-1])[:, None, None]
        before = np.append(1.0, self.abar[:-1])
        eye = np.eye(len(self.mu))
        marginal = before[:, None, None] * self.S + (1 - before)[:, None, None] * eye
        mean = np.sqrt(before)[:, None] * self.mu
        K = np.sqrt(a) * marginal @ np.linalg.inv(a * marginal + (1 - a) * eye)
        variance = marginal - np.sqrt(a) * K @ marginal
        variance[0] = eye  # t = 0 is no step
        last = self.abar[-1]
        start = np.linalg.cholesky(last * self.S + (1 - last) * eye)
        return Exact(
            offset, gain, mean - np.sqrt(a[:, 0]) * np.einsum("tij,tj->ti", K, mean), K,
            np.linalg.cholesky(variance), np.sqrt(last) * self.mu, start,
            np.sqrt(self.abar), steps=len(self.abar) - 1,
        )  # fmt: skip

    def value(self, alpha: Any, kind: str = "exact") -> Function:
        """exact: v_t; posterior_mean: r(m_t); mean: E[r | x_t], what a regression learns.

        alpha: one number or one for each problem `[B]`; made on the host, the tables are arrays.
        """
        tables = [self.table(float(a), kind) for a in np.atleast_1d(alpha)]
        return function(Partial(quadratic, *map(np.stack, zip(*tables))))

    def table(self, alpha: float, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v_t = constant_t - |target_t - slope_t x|**2 / 2."""
        offset, gain, C = self.posterior()
        spread = self.H @ C @ self.H.T
        eye = np.eye(len(self.y))
        if kind == "exact":
            R = (spread + self.s2 * alpha * eye) / alpha
            constant = -0.5 * alpha * np.linalg.slogdet(eye + spread / (self.s2 * alpha))[1]
        else:
            R = np.broadcast_to(self.s2 * eye, spread.shape)
            constant = -np.trace(spread, axis1=1, axis2=2) / (2 * self.s2) * (kind == "mean")
        root = np.linalg.inv(np.linalg.cholesky(R))
        target = np.einsum("tij,tj->ti", root, self.y - offset @ self.H.T)
        return constant, target, root @ self.H @ gain


def reference(steps: int = 50) -> LinearGaussian:
    """Two correlated numbers of which the first is observed; abar_t = cos(0.4995 pi t / T)**2."""
    abar = np.cos(0.4995 * np.pi * np.arange(steps + 1) / steps) ** 2
    return LinearGaussian(
        np.zeros(2),
        np.array([[1.0, 0.5], [0.5, 1.0]]),
        np.array([[1.0, 0.0]]),
        np.array([2.0]),
        0.5,
        abar,
    )


def squared_error(H: jax.Array, y: jax.Array, s2: jax.Array, x: jax.Array) -> jax.Array:
    """-|y - H x|**2 / (2 s2)."""
    return -jnp.sum((y - x @ H.T) ** 2, axis=-1) / (2 * s2)


def quadratic(
    constant: jax.Array,
    target: jax.Array,
    slope: jax.Array,
    x: jax.Array,
    t: jax.Array,
    alpha: jax.Array,
) -> jax.Array:
    """Tables `[B or 1, T + 1, ...]` at x `[B, K, d]`."""
    del alpha
    c, y, A = (jnp.take(table, t, axis=1).astype(x.dtype) for table in (constant, target, slope))
    error = y[:, None] - jnp.sum(x[:, :, None] * A[:, None], axis=-1)
    return c[:, None] - 0.5 * jnp.sum(error**2, axis=-1)


class Exact(struct.PyTreeNode):
    """Reverse chain of a Gaussian prior."""

    offset: Any  # m_t = offset_t + gain_t x
    gain: Any
    center: Any  # mean of the kernel: center_t + step_t x
    step: Any
    root: Any  # its lower triangular scale
    start_mean: Any
    start_root: Any
    keep: Any  # sqrt(abar_t)
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False, default=True)
    tokens: int = struct.field(pytree_node=False, default=0)
    masked: bool = struct.field(pytree_node=False, default=False)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        z = normal(keys, (n, len(self.start_mean)))
        return (self.start_mean + z @ self.start_root.T).astype(z.dtype)

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        return at(self.offset, t, x) + x @ at(self.gain, t, x).T

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> Gaussian:
        del prediction
        return Gaussian(at(self.center, t, x) + x @ at(self.step, t, x).T, at(self.root, t, x))

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return prediction

    def with_clean(self, x: jax.Array, clean: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return clean

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        keep = at(self.keep, t, x0)
        return keep * x0 + jnp.sqrt(1 - keep**2) * normal(keys, x0.shape[1:])

    def signal(self, t: jax.Array) -> jax.Array:
        return jnp.asarray(self.keep)[t]
