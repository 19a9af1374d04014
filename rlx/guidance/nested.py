"""Nested SMC (Uehara et al. 2025, arXiv 2501.09685, section 3.3; Naesseth et al. 2019): children
compete inside each particle, then particles compete by what their children promised.

  local   choose one of M children by exp(v_{t-1} / alpha), as SVDD;  l = log of their mean
  global  log w += l - v_t(x_t) / alpha;  resample by effective size, as SMC
One child is SMC, one particle is SVDD. As in SMC the end is the true reward: target p_alpha.

`local="argmax_scaled"` is the published code instead, for comparison only: the best child, weights
exp(s / max |s|) of its score s at every step; it targets no law that could be written down.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.guidance.core import given, soft_mean
from rlx.guidance.population import Population
from rlx.guidance.smc import Moved, run
from rlx.guidance.svdd import calls, choose_child
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels


def nested(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Run N particles of M children for each key `[B]`."""
    alpha = config.alpha[:, None]
    as_published = config.local == "argmax_scaled"
    if as_published:
        config = config.replace(ess_fraction=1.0, resampling="multinomial")
    local = config.replace(alpha=0 * config.alpha) if as_published else config

    def move(keys: jax.Array, population: Population, t: jax.Array) -> Moved:
        x = population.x
        prediction = given(process, value, population.prediction, x, t)
        chosen = choose_child(keys, process, value, reward, local, x, prediction, t)
        if as_published:
            largest = jnp.max(jnp.abs(chosen.v), axis=1, keepdims=True)
            wanted = chosen.v / jnp.maximum(largest, jnp.finfo(chosen.v.dtype).tiny)
            extra = wanted - (chosen.v - population.psi) / alpha
        else:
            # the loop adds (v_{t-1}(y) - v_t(x)) / alpha for the chosen y; all siblings count
            extra = (soft_mean(chosen.siblings, config.alpha) - chosen.v) / alpha
        extra = jnp.where(jnp.isfinite(extra), extra, 0.0)
        return Moved(chosen.x, chosen.v, chosen.prediction, extra, chosen.bad)

    steps = levels(process)
    at_start = value.cost + Calls(model=value.rollouts * process.steps)
    total = calls(value, config.children, steps) + at_start
    if value.predicts:  # the score of x_T makes its prediction too
        total = total + Calls(model=-1)
    return run(keys, move, process, value, reward, config, total)
