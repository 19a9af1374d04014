"""Sequences from a Markov chain, any-order unmasking, every value by dynamic programming.

L positions over V tokens: V**L sequences and (V + 1)**L partial states, V = still masked. Summing
a masked position out of the table of p(x) exp(r / alpha) on every axis, and keeping the sum as
index V, gives the value of EVERY partial state (float64 NumPy; 15 625 for V = 4, L = 6).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from scipy.special import logsumexp

from rlx.guidance.discrete import OneToken, one_token
from rlx.guidance.values import Function, function


class MarkovChain(NamedTuple):
    """p and r of every sequence, `[V] * L`; `chain` makes it."""

    p: np.ndarray
    r: np.ndarray

    @property
    def log_p(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.p)

    @property
    def length(self) -> int:
        return self.r.ndim

    @property
    def tokens(self) -> int:
        return self.r.shape[0]

    def sequences(self) -> np.ndarray:
        """All of them, `[V**L, L]` in the order of the tables."""
        return np.array(list(product(range(self.tokens), repeat=self.length)))

    # The truth.

    def log_Z(self, alpha: float) -> float:
        """log E_pre exp(r / alpha)."""
        return float(logsumexp(self.log_p + self.r / alpha))

    def tilt(self, alpha: float) -> np.ndarray:
        """p_alpha of every sequence."""
        return np.exp(self.log_p + self.r / alpha - self.log_Z(alpha))

    def mean_reward(self, law: np.ndarray) -> float:
        """E r under a law `[V] * L`."""
        return float(np.sum(law * self.r))

    def kl(self, law: np.ndarray) -> float:
        """KL(law || p_pre)."""
        seen = law > 0
        return float(np.sum(law[seen] * (np.log(law[seen]) - self.log_p[seen])))

    def law_of(self, x: Any, weights: Any = None) -> np.ndarray:
        """Frequencies `[V] * L` of sequences `[..., L]`, weighted if told."""
        flat = np.ravel_multi_index(np.moveaxis(np.asarray(x), -1, 0), self.r.shape).ravel()
        weights = None if weights is None else np.ravel(weights)
        counts = np.bincount(flat, weights, minlength=self.r.size).reshape(self.r.shape)
        return counts / counts.sum()

    def best_of(self, n: int) -> np.ndarray:
        """The law of the best of n: p (F(r)**n - F(r-)**n) / P(r)."""
        p, r = self.p.ravel(), self.r.ravel()
        _, which = np.unique(r.round(12), return_inverse=True)
        mass = np.bincount(which, p)
        upto = np.minimum(np.cumsum(mass), 1.0)
        below = np.append(0.0, upto[:-1])
        law = p * ((upto**n - below**n) / mass)[which]
        return law.reshape(self.r.shape)

    # Values of all partial states, `[V + 1] * L`.

    def exact(self, alpha: float) -> np.ndarray:
        """v = alpha log E[exp(r / alpha) | state]."""
        total = summed_out(self.log_p + self.r / alpha, logsumexp)
        return alpha * (total - np.log(summed_out(self.p)))

    def mean(self) -> np.ndarray:
        """E[r | state]: what a Monte-Carlo regression learns."""
        return summed_out(self.p * self.r) / summed_out(self.p)

    def mode(self) -> np.ndarray:
        """r of the state completed by the most likely token of each masked position.

        Equally likely ones, of which the reference has many, fall as these sums round.
        """
        states = self.states()
        likely = summed_out(self.p).ravel()[self.children()].argmax(-1)
        completed = np.where(states == self.tokens, likely, states)
        return self.r[tuple(completed.T)].reshape((self.tokens + 1,) * self.length)

    def states(self) -> np.ndarray:
        """All partial states `[(V + 1)**L, L]`."""
        return np.array(list(product(range(self.tokens + 1), repeat=self.length)))

    def children(self) -> np.ndarray:
        """Rows of the states with position i set to k, `[(V + 1)**L, L, V]`."""
        states = self.states()
        place = (self.tokens + 1) ** np.arange(self.length)[::-1]
        moved = (np.arange(self.tokens) - states[:, :, None]) * place[:, None]
        return (states @ place)[:, None, None] + moved

    def conditionals(self) -> np.ndarray:
        """p(x_i = k | state) `[(V + 1)**L, L, V]` where i is masked, uniform elsewhere."""
        mass, masked = summed_out(self.p).ravel(), self.states() == self.tokens
        share = mass[self.children()] / mass[:, None, None]
        return np.where(masked[:, :, None], share, 1.0 / self.tokens)

    def svdd_law(self, table: np.ndarray, alpha: float) -> np.ndarray:
        """The law of SVDD with infinitely many children under values `[V + 1] * L`, no sampling.

        Forward over partial states: a step goes to (i, k) by p(k | state) exp(table / alpha) over
        masked i; at the end the table is r.
        """
        V, L = self.tokens, self.length
        states, children = self.states(), self.children()
        whole = (states < V).all(1)
        v = table.ravel().copy()
        v[whole] = self.r.ravel()
        mass = np.zeros(len(states))
        mass[-1] = 1.0
        with np.errstate(divide="ignore"):
            log_q = np.log(self.conditionals())
        for hidden in range(L, 0, -1):
            at = np.flatnonzero((states == V).sum(1) == hidden)
            logits = np.where(
                states[at][:, :, None] == V, log_q[at] + v[children[at]] / alpha, -np.inf
            )
            q = np.exp(logits - logsumexp(logits, axis=(1, 2), keepdims=True))
            into, share = children[at], mass[at][:, None, None] * q
            mass += np.bincount(into[q > 0], share[q > 0], minlength=len(mass))
        return mass[whole].reshape((V,) * L)

    # The same as functions of arrays, for the samplers.

    def process(self) -> OneToken:
        """Any-order unmasking with the exact conditionals: p_pre is the chain's law."""
        with np.errstate(divide="ignore"):
            table = np.log(self.conditionals())
        return one_token(Partial(look_up_logits, table), self.length, self.tokens)

    def reward(self) -> Partial:
        """r of sequences `[B, K, L]`."""
        return Partial(look_up, self.r[None])

    def value(self, alpha: Any, kind: str = "exact") -> Function:
        """exact, mean or mode of the tables above, for one alpha or one for each problem `[B]`."""
        make: Callable[[float], np.ndarray] = {
            "exact": self.exact, "mean": lambda _: self.mean(), "mode": lambda _: self.mode(),
        }[kind]  # fmt: skip
        tables = np.stack([make(float(a)) for a in np.atleast_1d(alpha)])
        return function(Partial(look_up_value, tables))


def chain(start: np.ndarray, rows: np.ndarray, length: int, r: np.ndarray) -> MarkovChain:
    """Make the bed of a Markov chain with `start` `[V]`, transition `rows` `[V, V]`, reward r."""
    V = len(start)
    x = np.array(list(product(range(V), repeat=length)))
    chances = np.concatenate([start[x[:, :1]], rows[x[:, :-1], x[:, 1:]]], axis=1)
    p = np.cumprod(chances, axis=1)[:, -1]
    return MarkovChain(p.reshape((V,) * length), r)


def reference() -> MarkovChain:
    """V = 4, L = 6; r = #(0 then 1) + [first = last] / 2 - #3 / 4."""
    start = np.array([0.4, 0.3, 0.2, 0.1])
    rows = np.array(
        [[0.1, 0.5, 0.3, 0.1], [0.3, 0.2, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25], [0.4, 0.1, 0.1, 0.4]]
    )
    x = np.array(list(product(range(4), repeat=6)))
    pairs = ((x[:, :-1] == 0) & (x[:, 1:] == 1)).sum(1)
    r = pairs + 0.5 * (x[:, 0] == x[:, -1]) - 0.25 * (x == 3).sum(1)
    return chain(start, rows, 6, r.reshape((4,) * 6))


def summed_out(mass: np.ndarray, total: Callable[..., np.ndarray] = np.sum) -> np.ndarray:
    """Sums over masked positions, `[V + 1] * L`; index V is the sum."""
    for axis in range(mass.ndim):
        mass = np.concatenate([mass, total(mass, axis=axis, keepdims=True)], axis=axis)
    return mass


def index_of(classes: int, x: jax.Array) -> jax.Array:
    """Row of x `[..., L]` in a flat table over `classes` tokens."""
    place = classes ** np.arange(x.shape[-1])[::-1]
    return jnp.sum(x * jnp.asarray(place, jnp.int32), axis=-1)


def look_up(table: jax.Array, x: jax.Array) -> jax.Array:
    """table `[B or 1, C, ... C]` at x `[B, K, L]`."""
    rows = jnp.asarray(table).reshape(len(table), -1)
    where = index_of(table.shape[1], x)
    return rows[0, where] if len(rows) == 1 else jnp.take_along_axis(rows, where, axis=1)


def look_up_value(table: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array) -> jax.Array:
    """The same as a value, which partial states fix without t."""
    del t, alpha
    return look_up(table, x)


def look_up_logits(table: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Conditionals `[(V + 1)**L, L, V]` of x `[B, K, L]`."""
    del t
    return jnp.asarray(table)[index_of(table.shape[-1] + 1, x)]
