"""Soft value-based decoding (Li et al. 2024, arXiv 2408.08252): children compete, particles do not.

For t = T ... 1, each particle by itself:
  y_1 ... y_M ~ p_t(. | x_t);   x_{t-1} = y_m with chance ~ exp(v_{t-1}(y_m) / alpha)
by Gumbel-max, argmax_m v + alpha g, so that alpha = 0 is the greedy variant. Scores are r at the
end. As M -> infinity this is the soft-optimal kernel UNDER THE VALUE GIVEN: its bias stays, and
finite M is biased toward p_pre. With the posterior mean it is SVDD-PM, with a regression SVDD-MC.

Scoring a child by the posterior mean makes its prediction; the chosen one's is carried to the next
step, so a step is ONE model call on B N M rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlx.guidance.core import (
    cost,
    finite,
    flat,
    gather,
    given,
    gumbel,
    log_weights,
    plan,
    score,
    split,
)
from rlx.guidance.resampling import ess
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels
from rlx.types import PyTree


class Chosen(NamedTuple):
    """One child of each particle, and what its siblings say."""

    x: jax.Array  # [B, N, *E]
    v: jax.Array  # [B, N], -inf where not finite
    prediction: PyTree  # at x, if the value makes it
    siblings: jax.Array  # [B, N, M] values of all children, -inf where not finite
    bad: jax.Array  # [B] int32


def contest(v: jax.Array, noise: jax.Array, axis: int) -> jax.Array:
    """argmax of v + noise; v counts from its best, so that a large common part costs no digits.
    Without one finite v the noise alone decides.
    """
    top = jnp.max(v, axis=axis, keepdims=True)
    return jnp.argmax(jnp.where(jnp.isneginf(top), 0.0, v - top) + noise, axis=axis)


def choose_child(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    x: jax.Array,
    prediction: PyTree,
    t: jax.Array,
) -> Chosen:
    """Draw M children of x `[B, N, *E]` and choose by value; keys `[3, B]`, `prediction` at (x, t).

    `child_chunk` of them are scored at a time; then the winners of the chunks meet.
    """
    (B, N), M = x.shape[:2], config.children
    size = config.child_chunk or M
    draw_key, gumbel_key, value_key = keys
    y = process.kernel(x, prediction, t).draw(draw_key, M)
    noise = config.alpha[:, None, None] * gumbel(gumbel_key, (N, M))

    def heat(now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[PyTree, jax.Array, jax.Array]:
        y, noise, keys = now
        v, at_y = score(value, reward, keys, flat(y), t - 1, config.alpha)
        v, bad = finite(v)
        best = contest(v.reshape(B, N, size), noise, axis=2)
        rows = jnp.arange(N) * size + best
        winners = gather((flat(y), v, noise.reshape(B, N * size), at_y), rows)
        return winners, v.reshape(B, N, size), bad

    if size == M:
        (x, v, _, at_x), siblings, bad = heat((y, noise, value_key))
        return Chosen(x, v, at_x, siblings, bad)
    heats = [jnp.moveaxis(a.reshape(B, N, -1, size, *a.shape[3:]), 2, 0) for a in (y, noise)]
    winners, siblings, bad = jax.lax.map(heat, (*heats, split(value_key, M // size)))
    best = contest(winners[1], winners[2], axis=0)
    x, v, _, at_x = jax.tree.map(lambda leaf: take_heat(leaf, best), winners)
    return Chosen(x, v, at_x, jnp.moveaxis(siblings, 0, 2).reshape(B, N, M), jnp.sum(bad, axis=0))


def take_heat(leaf: jax.Array, best: jax.Array) -> jax.Array:
    """leaf `[heats, B, N, ...]` at best `[B, N]`."""
    index = best.reshape(1, *best.shape, *(1,) * (leaf.ndim - 3))
    return jnp.take_along_axis(leaf, index, axis=0)[0]


def svdd(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    x: jax.Array | None = None,
    level: int | None = None,
) -> GuidedOut:
    """Run N particles of M children for each key `[B]`, from x_T or from x `[B, N, *E]` at `level`.

    `ess` is of the children, mean over particles.
    """
    steps = levels(process, level)
    (start_key, _), step_keys = plan(keys, 2, len(steps), 4)
    x = process.start(start_key, config.particles) if x is None else x
    prediction = process.predict(x, jnp.int32(steps[0])) if value.predicts else None

    def step(state: tuple[jax.Array, PyTree], now: tuple[Any, jax.Array]):
        (x, prediction), (t, keys) = state, now
        prediction = given(process, value, prediction, x, t)
        chosen = choose_child(keys[:3], process, value, reward, config, x, prediction, t)
        return (chosen.x, chosen.prediction), (
            chosen.v,
            child_ess(chosen.siblings, config.alpha),
            chosen.bad,
            jnp.all(jnp.isneginf(chosen.siblings), axis=(1, 2)),
        )

    (x, _), (v, ess_trace, bad, dead) = jax.lax.scan(step, (x, prediction), (steps, step_keys))
    return GuidedOut(
        x0=x,
        logw=jnp.zeros_like(v[-1]),
        reward=v[-1],
        ess=ess_trace,
        n_bad_reward=jnp.sum(bad, axis=0),
        collapsed=jnp.any(dead, axis=0),
        nfe=calls(value, config.children, steps),
    )


def child_ess(siblings: jax.Array, alpha: jax.Array) -> jax.Array:
    """Effective number of children `[B]`, mean over particles; all of them where none is finite."""
    return jnp.mean(ess(log_weights(siblings, alpha)[0]), axis=1)


def calls(value: Value, children: int, steps: np.ndarray) -> Calls:
    """One call where the chain starts, then the children's; values that make no prediction leave
    one call at each parent.
    """
    parents = 1 if value.predicts else len(steps)
    return cost(value, steps - 1, children) + Calls(model=parents)
