"""Beam search on values: of N beams with M children each the best survive.

  depth = 1   the N best of the N M children of a problem
  depth = D   a tree of M**D leaves under each beam, scored by the SUM of the values on the way; the
              best leaf of each beam survives, D steps at once (lookahead of AlignInversePro)
`search` says at which of these steps children are looked at; at the others a beam takes one child
unseen: all; linear, with chance (t + 10) / T; exponential, with chance 1 - exp(-4 t / T).
Greedy: alpha enters only through the value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlx.guidance.core import cost, finite, flat, gather, given, plan, score
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels
from rlx.types import PyTree


class Leaves(NamedTuple):
    """Rows under the beams, those of one beam next to each other; all `[B, N * M**d, ...]`."""

    x: jax.Array
    prediction: PyTree
    v: jax.Array
    path: jax.Array  # sum of the values on the way
    bad: jax.Array  # [B]


def beam(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Run N beams for each key `[B]`. `ess` counts the beams that still have descendants."""
    N, M, D = config.particles, config.children, config.depth
    steps = levels(process)[::D]
    (start_key,), step_keys = plan(keys, 1, len(steps), 2 * D + 1)
    x = process.start(start_key, N)
    prediction = process.predict(x, jnp.int32(process.steps)) if value.predicts else None

    def grown(leaves: Leaves, keys: jax.Array, t: jax.Array) -> Leaves:
        """M children of every row."""
        draw_key, value_key = keys
        prediction = given(process, value, leaves.prediction, leaves.x, t)
        y = flat(process.kernel(leaves.x, prediction, t).draw(draw_key, M))
        v, at_y = score(value, reward, value_key, y, t - 1, config.alpha)
        v, bad = finite(v)
        return Leaves(y, at_y, v, jnp.repeat(leaves.path, M, axis=1) + v, leaves.bad + bad)

    def step(state: tuple[jax.Array, PyTree], now: tuple[Any, jax.Array]):
        t, keys = now
        numbers = jnp.zeros(state[0].shape[:2])
        leaves = Leaves(*state, numbers, numbers, jnp.zeros(len(numbers), jnp.int32))
        for deep in range(D):
            leaves = grown(leaves, keys[2 * deep : 2 * deep + 2], t - deep)
        index = best_leaves(leaves.path, N, D)
        looked = searched(keys[-1], t, process.steps, config.search)
        index = jnp.where(looked[:, None], index, jnp.arange(N) * M**D)
        x, prediction, v = gather((leaves.x, leaves.prediction, leaves.v), index)
        parents = index // M**D
        alive = jnp.any(parents[:, :, None] == jnp.arange(N), axis=1)
        dead = jnp.all(jnp.isneginf(leaves.v), axis=1)
        return (x, prediction), (v, parents, jnp.sum(alive, 1) * 1.0, leaves.bad, dead)

    (x, _), (v, parents, alive, bad, dead) = jax.lax.scan(step, (x, prediction), (steps, step_keys))
    return GuidedOut(
        x0=x,
        logw=jnp.zeros_like(v[-1]),
        reward=v[-1],
        ess=jnp.repeat(alive, D, axis=0),
        n_bad_reward=jnp.sum(bad, axis=0),
        collapsed=jnp.any(dead, axis=0),
        ancestors=parents.astype(jnp.int32),
        nfe=calls(process, value, config),
    )


def best_leaves(path: jax.Array, beams: int, depth: int) -> jax.Array:
    """Rows that survive, `[B, N]`: the best of all, or with a lookahead the best of each beam."""
    if depth == 1:
        return jax.lax.top_k(path, beams)[1]
    best = jnp.argmax(path.reshape(path.shape[0], beams, -1), axis=2)
    return best + jnp.arange(beams) * (path.shape[1] // beams)


def searched(keys: jax.Array, t: jax.Array, steps: int, search: str) -> jax.Array:
    """Whether each problem looks at its children at t, `[B]`; always at the end."""
    if search == "all":
        return jnp.ones(len(keys), bool)
    chance = (t + 10) / steps if search == "linear" else 1 - jnp.exp(-4 * t / steps)
    return jax.vmap(jax.random.uniform)(keys) < chance


def calls(process: Process, value: Value, config: Config) -> Calls:
    """Of one beam; children that the schedule ignores are counted too, for they are computed."""
    M, D = config.children, config.depth
    total = Calls(model=1.0)
    for t in levels(process):
        rows = M ** ((process.steps - int(t)) % D)
        parents = 0 if value.predicts or t == process.steps else rows
        total = total + cost(value, [t - 1], rows * M) + Calls(model=parents)
    return total
