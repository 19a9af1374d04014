"""Two more with closed forms: long sequences with a reward of neighbours, and a rare event.

Potts: independent positions with law p `[V]`, r(x) = sum_i J[x_i, x_{i+1}]. Z is a product of
transfer matrices, and the value of a partial state is the same product with the revealed positions
held: exact at any length, in O(L V**2), inside the program and for any alpha.
Rare event: a standard normal and r = 1 where it exceeds c; E exp(r / alpha) is one normal tail.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from scipy.special import logsumexp
from scipy.stats import norm

from rlx.guidance.discrete import OneToken, one_token
from rlx.guidance.testbeds.linear_gaussian import Exact, LinearGaussian
from rlx.guidance.values import Function, function


class Potts(NamedTuple):
    """Law of one position `[V]`, couplings J `[V, V]`, length L."""

    p: np.ndarray
    J: np.ndarray
    length: int

    def log_Z(self, alpha: float) -> float:
        """log E_pre exp(r / alpha), by transfer matrices."""
        return float(logsumexp(self.log_forward(alpha)))

    def log_forward(self, alpha: float) -> np.ndarray:
        """log of the weight of all left parts that end in each token, `[V]`."""
        a = np.log(self.p)
        for _ in range(self.length - 1):
            a = np.log(self.p) + logsumexp(a[:, None] + self.J / alpha, axis=0)
        return a

    def last_marginal(self, alpha: float) -> np.ndarray:
        """p_alpha of the last token."""
        return np.exp(self.log_forward(alpha) - self.log_Z(alpha))

    def process(self) -> OneToken:
        """Any-order unmasking; positions are independent, so that logits are constant."""
        return one_token(Partial(constant_logits, np.log(self.p)), self.length, len(self.p))

    def reward(self) -> Partial:
        """r of sequences `[B, K, L]`."""
        return Partial(couplings, np.asarray(self.J))

    def value(self) -> Function:
        """The exact soft value, for whatever alpha a run has."""
        return function(Partial(transfer_value, np.log(self.p), np.asarray(self.J)))


def constant_logits(logits: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """The same at every position."""
    del t
    return jnp.broadcast_to(logits, (*x.shape, len(logits)))


def couplings(J: jax.Array, x: jax.Array) -> jax.Array:
    """sum_i J[x_i, x_{i+1}]."""
    return jnp.sum(jnp.asarray(J)[x[..., :-1], x[..., 1:]], axis=-1)


def transfer_value(
    log_p: jax.Array, J: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
) -> jax.Array:
    """alpha log E exp(r / alpha) with the revealed positions of x `[B, K, L]` held."""
    del t
    V = len(log_p)
    held = jnp.where(jnp.arange(V) == x[..., None], 0.0, -jnp.inf)
    each = jnp.where((x == V)[..., None], jnp.asarray(log_p), held).astype(alpha.dtype)
    coupling = jnp.asarray(J) / alpha[:, None, None, None]

    def extend(left: jax.Array, here: jax.Array) -> tuple[jax.Array, None]:
        return here + jax.nn.logsumexp(left[..., None] + coupling, axis=-2), None

    left, _ = jax.lax.scan(extend, each[:, :, 0], jnp.moveaxis(each[:, :, 1:], 2, 0))
    return alpha[:, None] * jax.nn.logsumexp(left, axis=-1)


class RareEvent(NamedTuple):
    """A standard normal that should exceed c, in steps abar `[T + 1]`."""

    c: float
    abar: np.ndarray

    def probability(self) -> float:
        """Of the event under p_pre."""
        return float(norm.sf(self.c))

    def log_Z(self, alpha: float) -> float:
        return float(np.log1p(np.expm1(1 / alpha) * self.probability()))

    def tilted_probability(self, alpha: float) -> float:
        """Of the event under p_alpha."""
        return float(self.probability() * np.exp(1 / alpha - self.log_Z(alpha)))

    def bed(self) -> LinearGaussian:
        """The same prior and chain."""
        one = np.ones((1, 1))
        return LinearGaussian(np.zeros(1), one, one, np.zeros(1), 1.0, self.abar)

    def process(self) -> Exact:
        return self.bed().process()

    def reward(self) -> Partial:
        return Partial(exceeds, np.asarray(self.c))

    def value(self) -> Function:
        """The exact soft value, for whatever alpha a run has."""
        _, gain, C = self.bed().posterior()
        return function(Partial(tail_value, np.asarray(self.c), gain[:, 0, 0], C[:, 0, 0]))


def exceeds(c: jax.Array, x: jax.Array) -> jax.Array:
    """1 where x `[B, K, 1]` is above c."""
    return (x[..., 0] > c) * 1.0


def tail_value(
    c: jax.Array, gain: jax.Array, C: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
) -> jax.Array:
    """alpha log(1 + (exp(1 / alpha) - 1) P(x_0 > c | x_t)), by logarithms."""
    mean = jnp.asarray(gain)[t].astype(x.dtype) * x[..., 0]
    spread = jnp.sqrt(jnp.asarray(C)[t].astype(x.dtype))
    below, above = (jax.scipy.stats.norm.logcdf(s * (c - mean) / spread) for s in (1, -1))
    temperature = alpha[:, None]
    return temperature * jnp.logaddexp(below, above + 1 / temperature)
