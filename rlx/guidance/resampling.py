"""Ancestors by weight: N indices with expected count N w_i, and when to draw them.

Written for one population `[N]`; `resample` maps over problems, which never compete.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

KINDS = ("systematic", "stratified", "multinomial", "residual", "ssp")


def ess(logw: jax.Array) -> jax.Array:
    """Effective sample size (sum w)**2 / sum w**2 over the last axis, in [1, N]; NaN if none."""
    logw = logw - jnp.max(logw, axis=-1, keepdims=True)
    total = jax.nn.logsumexp
    return jnp.exp(2 * total(logw, axis=-1) - total(2 * logw, axis=-1))


def resample(keys: jax.Array, logw: jax.Array, kind: str = "systematic") -> jax.Array:
    """Return ancestors `[B, N]` int32 of log weights `[B, N]`; keys `[B]`."""
    draw = {"residual": residual, "ssp": ssp}.get(kind, partial(by_positions, kind=kind))
    return jax.vmap(draw)(keys, jax.nn.softmax(logw))


def positions(key: jax.Array, n: int, kind: str) -> jax.Array:
    """n sorted numbers in [0, 1): one uniform shifted, one in each n-th, or independent."""
    if kind == "systematic":
        return (jnp.arange(n) + jax.random.uniform(key)) / n
    if kind == "stratified":
        return (jnp.arange(n) + jax.random.uniform(key, (n,))) / n
    return jnp.sort(jax.random.uniform(key, (n,)))


def by_positions(key: jax.Array, w: jax.Array, kind: str) -> jax.Array:
    """Where positions fall in the cumulated weights."""
    return invert(w, positions(key, w.shape[0], kind))


def invert(w: jax.Array, where: jax.Array) -> jax.Array:
    """Smallest i with sum_{j <= i} w_j > position; rounding never leads past a weight above 0."""
    total = jnp.cumsum(w)
    last = w.shape[0] - 1 - jnp.argmax(w[::-1] > 0)
    method = "compare_all" if w.shape[0] <= 512 else "scan"  # one comparison beats a loop
    index = jnp.searchsorted(total / total[-1], where, side="right", method=method)
    return jnp.minimum(index, last).astype(jnp.int32)


def residual(key: jax.Array, w: jax.Array) -> jax.Array:
    """floor(N w_i) copies of each for certain, the rest independent by what is left over."""
    n = w.shape[0]
    sure = jnp.floor(n * w)
    left, count = n * w - sure, jnp.sum(sure).astype(jnp.int32)
    certain = jnp.searchsorted(jnp.cumsum(sure), jnp.arange(n), side="right").astype(jnp.int32)
    # with nothing left over the share is 0 / 0, and no place of `rest` is used
    rest = invert(jnp.where(jnp.sum(left) > 0, left, w), jax.random.uniform(key, (n,)))
    return jnp.where(jnp.arange(n) < count, certain, rest)


def ssp(key: jax.Array, w: jax.Array) -> jax.Array:
    """floor(N w_i) copies and one more by the pivotal method (Deville, Tille 1998).

    Two fractions at a time play until one of them is 0 or 1, chances such that means stay.
    """
    n = w.shape[0]
    sure = jnp.floor(n * w)
    share = n * w - sure

    def play(state, now):
        open_, extra = state
        j, u = now
        a, b = extra[open_], extra[j]
        small = a + b < 1
        # below 1 in sum: one takes all; above: one becomes 1, the other keeps the rest
        j_high = u * jnp.where(small, a + b, 2 - a - b) < jnp.where(small, b, 1 - a)
        high, low = jnp.where(small, a + b, 1.0), jnp.where(small, 0.0, a + b - 1)
        extra = extra.at[j].set(jnp.where(j_high, high, low))
        extra = extra.at[open_].set(jnp.where(j_high, low, high))
        open_ = jnp.where(j_high == small, j, open_)
        return (open_, extra), None

    rounds = (jnp.arange(1, n), jax.random.uniform(key, (n - 1,)))
    (_, extra), _ = jax.lax.scan(play, (0, share), rounds)
    counts = sure + jnp.round(extra)
    return invert(counts, (jnp.arange(n) + 0.5) / n)
