"""What all samplers share: keys by problem, gathers, log means, scores that end in the reward."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from rlx.guidance.types import Calls, Process, Reward, Value
from rlx.types import PyTree


def split(keys: jax.Array, n: int) -> jax.Array:
    """`[n, B]` keys from `[B]`: each problem from its own, so that batches equal single runs."""
    return jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, n))(keys), 1, 0)


def plan(keys: jax.Array, first: int, steps: int, each: int) -> tuple[jax.Array, jax.Array]:
    """All keys of a run at once: `[first, B]` and `[steps, each, B]`; one derivation compiles."""
    fresh = split(keys, first + steps * each)
    return fresh[:first], fresh[first:].reshape(steps, each, -1)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal `[B, *shape]`."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def gumbel(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard Gumbel `[B, *shape]`, float32 or wider."""
    return jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)


def gather(tree: PyTree, index: jax.Array) -> PyTree:
    """Take rows of axis 1 problem by problem: leaves `[B, N, ...]`, index `[B, K]`."""
    return jax.tree.map(lambda leaf: jax.vmap(lambda rows, i: rows[i])(leaf, index), tree)


def flat(y: jax.Array) -> jax.Array:
    """Children `[B, K, m, *E]` as rows `[B, K * m, *E]`."""
    return y.reshape(y.shape[0], y.shape[1] * y.shape[2], *y.shape[3:])


def over(numbers: jax.Array, like: jax.Array) -> jax.Array:
    """Numbers of the problems `[B]` with axes of size 1 for the rest of `like` `[B, ...]`."""
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))


def log_mean_exp(x: jax.Array, axis: int = -1) -> jax.Array:
    """log mean exp over an axis; -inf where all are."""
    return jax.nn.logsumexp(x, axis=axis) - jnp.log(x.shape[axis])


def log_weights(r: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(r - top) / alpha, at most 0, and top = max r over the last axis, axis kept; r `[B, ..., n]`.

    -inf stays, zeros where all are. alpha `[B]` is raised to the rounding of r, below which ratios
    of weights would be ratios of rounding errors.
    """
    top = jnp.max(r, axis=-1, keepdims=True)
    none = jnp.isneginf(top)
    top = jnp.where(none, 0.0, top)
    size = jnp.max(jnp.where(jnp.isfinite(r), jnp.abs(r), 0.0), axis=-1, keepdims=True)
    info = jnp.finfo(r.dtype)
    temperature = jnp.maximum(over(alpha, r), jnp.maximum(8 * info.eps * size, info.tiny))
    return jnp.where(none, 0.0, (r - top) / temperature), top


def soft_mean(reward: jax.Array, alpha: jax.Array) -> jax.Array:
    """alpha log mean exp(r / alpha) over the last axis; the largest as alpha -> 0.

    reward `[B, ..., k]`, not finite = dropped with its share of the mean; alpha `[B]`.
    """
    alpha = over(alpha, reward[..., 0])
    reward = jnp.where(jnp.isfinite(reward), reward, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(reward, axis=-1))
    top_or_zero = jnp.where(jnp.isneginf(top), 0.0, top)
    tiny = jnp.finfo(reward.dtype).tiny
    shifted = (reward - top_or_zero[..., None]) / jnp.maximum(alpha, tiny)[..., None]
    mean = jnp.mean(jnp.exp(shifted), axis=-1)
    soft = top_or_zero + alpha * jnp.log(jnp.where(mean > 0, mean, 1.0))
    return jnp.where(jnp.isneginf(top), -jnp.inf, soft)


def rewards(reward: Reward, x: jax.Array) -> jax.Array:
    """r(x) `[B, K]` in float32 or wider; ValueError if its shape is another."""
    r = reward(x)
    if r.shape != x.shape[:2]:
        raise ValueError(
            f"reward of x with shape {x.shape} has shape {r.shape}, expected {x.shape[:2]}: one "
            "number for each row of each problem"
        )
    return r.astype(jnp.promote_types(r.dtype, jnp.float32))


def finite(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """v with -inf for what is not finite, and how many rows of each problem were not `[B]`."""
    good = jnp.isfinite(v)
    return jnp.where(good, v, -jnp.inf), jnp.sum(~good, axis=1, dtype=jnp.int32)


def score(
    value: Value, reward: Reward, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
) -> tuple[jax.Array, PyTree]:
    """Estimated value at (x, t), at t = 0 the true reward; and the prediction there, if any.

    x `[B, K, *E]`; returns v `[B, K]` and a pytree `[B, K, ...]` or None.
    """

    def noisy() -> tuple[jax.Array, PyTree]:
        v, prediction = value.score(keys, x, t, alpha)
        if v.shape != x.shape[:2]:
            raise ValueError(f"value of x {x.shape} has shape {v.shape}, expected {x.shape[:2]}")
        return v, prediction

    like = jax.eval_shape(noisy)

    def clean() -> tuple[jax.Array, PyTree]:
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like[1])
        return rewards(reward, x).astype(like[0].dtype), zeros

    return jax.lax.cond(t == 0, clean, noisy)


def given(process: Process, value: Value, prediction: PyTree, x: jax.Array, t: jax.Array) -> PyTree:
    """The prediction at (x, t): carried if the value made it, else one call of the model."""
    return prediction if value.predicts else process.predict(x, t)


def cost(value: Value, at: Iterable[int], each: float = 1.0) -> Calls:
    """Calls of `each` scores at every level of `at`; level 0 is one reward."""
    total = Calls()
    for t in at:
        at_t = value.cost + Calls(model=value.rollouts * int(t)) if t else Calls(reward=1)
        total = total + at_t.times(each)
    return total


def as_arguments(tree: PyTree) -> PyTree:
    """Plain functions in a pytree as `Partial`s, so that jit takes them; they are compared by
    identity, and a new function is a new compile.
    """
    plain = lambda leaf: callable(leaf) and jax.tree_util.all_leaves([leaf])  # noqa: E731
    return jax.tree.map(lambda leaf: Partial(leaf) if plain(leaf) else leaf, tree)
