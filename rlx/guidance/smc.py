"""Sequential Monte Carlo guidance (Uehara et al. 2025, arXiv 2501.09685, section 3.1).

  x_T ~ p_T, log w = v_T(x_T) / alpha;   for t = T ... 1
    propose   y ~ p_t(. | x_t)
    weigh     log w += (v_{t-1}(y) - v_t(x_t)) / alpha, with v_0 = r
    resample  problems whose effective size is < ess_fraction N; the others carry their weights on
  log Z = sum of the log mean weights taken out on the way.
The true reward stands at the end whatever the values are, so the target is p_alpha for any value: a
bad one only costs variance. Twisted and nested SMC are this loop with another `move`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlx.guidance import population as pop
from rlx.guidance.core import cost, finite, given, plan, score
from rlx.guidance.resampling import draws
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels
from rlx.types import PyTree


class Moved(NamedTuple):
    """What a move makes of a population."""

    x: jax.Array  # [B, N, *E]
    v: jax.Array  # [B, N] values there, -inf where not finite
    prediction: PyTree  # there, if the value makes it
    extra: jax.Array  # [B, N] correction of log w beside the values
    bad: jax.Array  # [B] int32 values that were not finite
    slope: jax.Array | None = None  # [B] largest norm of a shift, if proposals are shifted


Move = Callable[[jax.Array, pop.Population, jax.Array], Moved]  # keys [3, B], population, t


def smc(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Run N particles for each key `[B]`."""

    def move(keys: jax.Array, population: pop.Population, t: jax.Array) -> Moved:
        draw_key, _, value_key = keys
        prediction = given(process, value, population.prediction, population.x, t)
        y = process.kernel(population.x, prediction, t).draw(draw_key, 1)[:, :, 0]
        v, prediction = score(value, reward, value_key, y, t - 1, config.alpha)
        v, bad = finite(v)
        return Moved(y, v, prediction, jnp.zeros_like(v), bad)

    steps = levels(process)
    calls = cost(value, [*steps, 0]) + Calls(model=0 if value.predicts else len(steps))
    return run(keys, move, process, value, reward, config, calls)


def run(
    keys: jax.Array,
    move: Move,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    calls: Calls,
) -> GuidedOut:
    """Move, weigh, resample from T to 0."""
    steps = levels(process)
    (start_key, value_key), step_keys = plan(keys, 2, len(steps), 4)
    x = process.start(start_key, config.particles)
    v, prediction = score(value, reward, value_key, x, jnp.int32(steps[0]), config.alpha)

    def step(population: pop.Population, now: tuple[Any, Any, jax.Array, jax.Array]):
        t, allowed, keys, u = now
        moved = move(keys, population, t)
        population = population._replace(
            x=moved.x, prediction=moved.prediction, n_bad=population.n_bad + moved.bad
        )
        population, w, moves = pop.weighed(
            population, moved.v, moved.extra, allowed, t == 1, config
        )
        population, ess, did, index = pop.settled(u, population, w, allowed, t == 1, config)
        return population, pop.Trace(ess, did, index, moves, moved.slope)

    population = pop.begin(x, *finite(v), prediction, config.alpha)
    u = draws(step_keys[:, 3], x.shape[1], config.resampling)
    scheduled = (steps, pop.schedule(steps, process.steps, config), step_keys[:, :3], u)
    population, trace = jax.lax.scan(step, population, scheduled)
    return GuidedOut(
        x0=population.x,
        logw=population.logw,
        reward=population.psi,
        ess=trace.ess,
        n_bad_reward=population.n_bad,
        collapsed=population.collapsed,
        logZ=population.logZ,
        resampled=trace.resampled,
        ancestors=trace.ancestors,
        moves=trace.moves,
        slope=trace.slope,
        nfe=calls,
    )
