"""Ancestors by weight: N indices with expected count N w_i.

Written for one population `[N]`; `resample` maps over problems, which never compete. Uniform draws
come in from outside, so that a sampler makes those of all its steps at once.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

KINDS = ("systematic", "stratified", "multinomial", "residual", "ssp")


def ess(logw: jax.Array) -> jax.Array:
    """Effective sample size (sum w)**2 / sum w**2 over the last axis, in [1, N]; NaN if none."""
    return 1.0 / jnp.sum(jax.nn.softmax(logw) ** 2, axis=-1)


def resample(keys: jax.Array, logw: jax.Array, kind: str = "systematic") -> jax.Array:
    """Return ancestors `[B, N]` int32 of log weights `[B, N]`; keys `[B]`."""
    return ancestors(draws(keys, logw.shape[1], kind), jax.nn.softmax(logw), kind)


def draws(keys: jax.Array, n: int, kind: str) -> jax.Array:
    """The uniform numbers of one resampling for each key: one for `systematic`, else n."""
    shape = () if kind == "systematic" else (n,)
    u = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys.ravel())
    return u.reshape(*keys.shape, *shape)


def ancestors(u: jax.Array, w: jax.Array, kind: str) -> jax.Array:
    """Return ancestors `[B, N]` of weights `[B, N]` that sum to one, with u of `draws`."""
    take = {"residual": residual, "ssp": ssp}.get(kind, partial(by_positions, kind=kind))
    return jax.vmap(take)(u, w)


def by_positions(u: jax.Array, w: jax.Array, kind: str) -> jax.Array:
    """Where sorted positions fall in the cumulated weights: a comb moved by u, one in each n-th, or
    independent.
    """
    n = w.shape[0]
    return invert(w, jnp.sort(u) if kind == "multinomial" else (jnp.arange(n) + u) / n)


def invert(w: jax.Array, where: jax.Array) -> jax.Array:
    """Smallest i with sum_{j <= i} w_j > position, int32; never one of weight 0.

    The sums end at exactly 1 and positions are held below it: (n - 1 + u) / n may round to 1.
    """
    total = jnp.cumsum(w)
    where = jnp.minimum(where, 1.0 - jnp.finfo(w.dtype).epsneg)
    method = "compare_all" if w.shape[0] <= 512 else "scan"  # one comparison beats a loop
    index = jnp.searchsorted(total / total[-1], where, side="right", method=method)
    return index.astype(jnp.int32)


def residual(u: jax.Array, w: jax.Array) -> jax.Array:
    """floor(N w_i) copies of each for certain, the rest independent by what is left over."""
    n = w.shape[0]
    sure = jnp.floor(n * w + 4 * n * jnp.finfo(w.dtype).eps)  # n / n may come out below 1
    left, count = jnp.maximum(n * w - sure, 0.0), jnp.sum(sure).astype(jnp.int32)
    certain = jnp.searchsorted(jnp.cumsum(sure), jnp.arange(n), side="right").astype(jnp.int32)
    # with nothing left over the share is 0 / 0, and no place of `rest` is used
    rest = invert(jnp.where(jnp.sum(left) > 0, left, w), u)
    return jnp.where(jnp.arange(n) < count, certain, rest)


def ssp(u: jax.Array, w: jax.Array) -> jax.Array:
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

    (_, extra), _ = jax.lax.scan(play, (0, share), (jnp.arange(1, n), u[1:]))
    counts = sure + jnp.round(extra)
    return invert(counts, (jnp.arange(n) + 0.5) / n)
