"""Gaussian mixture prior, linear-Gaussian reward: does a sampler keep all modes?

Each component is a `LinearGaussian` of its own. With weights w_k, p_alpha is the mixture of the
components' tilts with weights ~ w_k Z_k, and
  v_t(x) = alpha log sum_k p(k | x_t) exp(v_t^k(x) / alpha),  p(k | x_t) ~ w_k N(x_t; its marginal).
The reverse kernel is a mixture again, and exact: component by p(k | x_t), then its own kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.tree_util import Partial

from rlx.guidance.core import gumbel, normal, split
from rlx.guidance.process import at
from rlx.guidance.testbeds.linear_gaussian import LinearGaussian
from rlx.guidance.values import Function, function


class Mixture(NamedTuple):
    """Weights `[k]` and components that share H, y, s2 and abar."""

    weights: np.ndarray
    parts: tuple[LinearGaussian, ...]

    def log_Z(self, alpha: float) -> float:
        """log E_pre exp(r / alpha)."""
        return float(np.logaddexp.reduce(self.tilted_log_weights(alpha)))

    def tilted_log_weights(self, alpha: float) -> np.ndarray:
        """log w_k Z_k."""
        return np.log(self.weights) + [part.log_Z(alpha) for part in self.parts]

    def tilted_weights(self, alpha: float) -> np.ndarray:
        """Weights of the components of p_alpha, whose means and covariances are `part.tilt`."""
        return np.exp(self.tilted_log_weights(alpha) - self.log_Z(alpha))

    def reward(self) -> Partial:
        """r as a function of arrays `[B, K, d]`."""
        return self.parts[0].reward()

    def marginals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log w_k N(x; m, P) by step, component: constant, mean `[T + 1, k, d]`, root of P^-1."""
        abar = self.parts[0].abar[:, None, None]
        signal = np.sqrt(abar)
        mean = signal * np.stack([part.mu for part in self.parts])
        eye = np.eye(len(self.parts[0].mu))
        S = np.stack([part.S for part in self.parts])
        P = abar[..., None] * S + (1 - abar[..., None]) * eye
        root = np.swapaxes(np.linalg.cholesky(np.linalg.inv(P)), -1, -2)
        constant = np.log(self.weights) - 0.5 * np.linalg.slogdet(2 * np.pi * P)[1]
        return constant, mean, root

    def process(self) -> MixtureChain:
        """The exact reverse chain; its prediction is the posterior mean and log p(k | x_t)."""
        chains = [part.process() for part in self.parts]
        stack = lambda name: np.stack([getattr(c, name) for c in chains], axis=1)  # noqa: E731
        offset, gain, center, step, root = map(stack, ("offset", "gain", "center", "step", "root"))
        start_root = np.stack([c.start_root for c in chains])
        abar = self.parts[0].abar
        return MixtureChain(
            np.log(self.weights), start_root, *self.marginals(), offset, gain, center, step, root,
            np.sqrt(abar), steps=len(abar) - 1,
        )  # fmt: skip

    def value(self, alpha: float) -> Function:
        """The exact soft value for one alpha."""
        tables = [
            np.stack(rows, axis=1) for rows in zip(*(p.table(alpha, "exact") for p in self.parts))
        ]
        return function(Partial(mixed, self.marginals(), tuple(tables)))


def log_joint(marginals: tuple[Any, ...], x: jax.Array, t: jax.Array) -> jax.Array:
    """log w_k N(x; m_k, P_k) of x `[B, K, d]`, `[B, K, k]`."""
    constant, mean, root = (at(table, t, x) for table in marginals)
    z = jnp.einsum("kij,bnkj->bnki", root, x[:, :, None] - mean)
    return constant - 0.5 * jnp.sum(z**2, axis=-1)


def mixed(
    marginals: tuple[Any, ...],
    tables: tuple[Any, ...],
    x: jax.Array,
    t: jax.Array,
    alpha: jax.Array,
) -> jax.Array:
    """alpha log sum_k p(k | x) exp(v_k / alpha)."""
    constant, target, slope = (at(table, t, x) for table in tables)
    error = target - jnp.einsum("kij,bnj->bnki", slope, x)
    v = constant - 0.5 * jnp.sum(error**2, axis=-1)
    log_p = jax.nn.log_softmax(log_joint(marginals, x, t))
    temperature = alpha[:, None, None]
    return alpha[:, None] * jax.nn.logsumexp(log_p + v / temperature, axis=-1)


class MixtureKernel(NamedTuple):
    """A component, then a Gaussian step; its tilt is exact as well."""

    log_p: jax.Array  # [B, K, k]
    mean: jax.Array  # [B, K, k, d]
    root: jax.Array  # [k, d, d]

    def draw(self, keys: jax.Array, m: int) -> jax.Array:
        _, K, k = self.log_p.shape
        part_key, step_key = split(keys, 2)
        which = jnp.argmax(self.log_p[:, :, None] + gumbel(part_key, (K, m, k)), axis=-1)
        z = normal(step_key, (K, m, self.mean.shape[-1]))
        own = jnp.take_along_axis(self.mean[:, :, None], which[..., None, None], axis=3)[..., 0, :]
        return own + jnp.einsum("bnmij,bnmj->bnmi", jnp.asarray(self.root)[which], z)

    def log_prob(self, y: jax.Array) -> jax.Array:
        apart = y[:, :, :, None] - self.mean[:, :, None]
        z = jnp.einsum("kij,bnmkj->bnmki", jnp.linalg.inv(self.root), apart)
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.root, axis1=1, axis2=2)), axis=-1)
        constant = log_det + 0.5 * y.shape[-1] * np.log(2 * np.pi)
        parts = self.log_p[:, :, None] - 0.5 * jnp.sum(z**2, axis=-1) - constant
        return jax.nn.logsumexp(parts, axis=-1)

    def tilted(self, keys: jax.Array, shift: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
        """A component moves by S S' g; its weight gains g . mean + |S' g|**2 / 2."""
        w = jnp.einsum("kji,bnj->bnki", self.root, shift)
        gain = jnp.einsum("bnkj,bnj->bnk", self.mean, shift) + 0.5 * jnp.sum(w**2, axis=-1)
        total = jax.nn.logsumexp(self.log_p + gain, axis=-1)
        moved = self.mean + jnp.einsum("kij,bnkj->bnki", self.root, w)
        y = MixtureKernel(self.log_p + gain - total[..., None], moved, self.root).draw(keys, m)
        return y, total[..., None] - jnp.einsum("bnmj,bnj->bnm", y, shift)


class MixtureChain(struct.PyTreeNode):
    """Reverse chain of a Gaussian mixture."""

    log_w: Any  # [k]
    start_root: Any  # [k, d, d]
    constant: Any  # of the marginals, by step
    mean: Any
    precision_root: Any
    offset: Any  # of the posterior means, as in linear_gaussian.Exact, for each component
    gain: Any
    center: Any
    step: Any
    root: Any
    keep: Any
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False, default=True)
    tokens: int = struct.field(pytree_node=False, default=0)
    masked: bool = struct.field(pytree_node=False, default=False)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        """From the mixture's own marginal at T."""
        shape = (keys.shape[0], n)
        rows = lambda table: jnp.broadcast_to(jnp.asarray(table, float), (*shape, *table.shape))  # noqa: E731
        kernel = MixtureKernel(rows(self.log_w), rows(self.mean[-1]), jnp.asarray(self.start_root))
        return kernel.draw(keys, 1)[:, :, 0]

    def predict(self, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        marginals = (self.constant, self.mean, self.precision_root)
        log_p = jax.nn.log_softmax(log_joint(marginals, x, t))
        each = at(self.offset, t, x) + jnp.einsum("kij,bnj->bnki", at(self.gain, t, x), x)
        return jnp.sum(jnp.exp(log_p)[..., None] * each, axis=2), log_p

    def kernel(self, x: jax.Array, prediction: tuple[jax.Array, jax.Array], t: jax.Array):
        mean = at(self.center, t, x) + jnp.einsum("kij,bnj->bnki", at(self.step, t, x), x)
        return MixtureKernel(prediction[1], mean, at(self.root, t, x))

    def clean(self, x: jax.Array, prediction: tuple[jax.Array, jax.Array], t: jax.Array):
        del x, t
        return prediction[0]

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        keep = at(self.keep, t, x0)
        return keep * x0 + jnp.sqrt(1 - keep**2) * normal(keys, x0.shape[1:])

    def signal(self, t: jax.Array) -> jax.Array:
        return jnp.asarray(self.keep)[t]
