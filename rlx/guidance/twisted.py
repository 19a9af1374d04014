"""Twisted diffusion sampling (Wu et al. 2023, arXiv 2306.17775): guided proposals, corrected.

propose  y ~ q_t(. | x_t), the kernel of classifier guidance (gradient.py)
weigh    log w += (v_{t-1}(y) - v_t(x_t)) / alpha + log p_t(y | x_t) - log q_t(y | x_t)
resample as SMC; the end is the true reward: target p_alpha whatever the slope
"""

from __future__ import annotations

import jax

from rlx.guidance.core import cost, finite, given, score
from rlx.guidance.gradient import calls, carried, largest, looked_up
from rlx.guidance.population import Population
from rlx.guidance.smc import Moved, run
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels


def twisted(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Run N particles with guided proposals for each key `[B]`."""
    sloped = carried(process, value, config)
    scored = value if sloped is None else sloped

    def move(keys: jax.Array, population: Population, t: jax.Array) -> Moved:
        draw_key, slope_key, value_key = keys
        x = population.x
        prediction = given(process, scored, population.prediction, x, t)
        if sloped is None:
            shift = looked_up(slope_key, process, value, reward, config, x, prediction, t)
        else:
            prediction, shift = prediction
        prior = process.kernel(x, prediction, t)
        y, log_ratio = prior.tilted(draw_key, shift, 1)
        v, prediction = score(scored, reward, value_key, y[:, :, 0], t - 1, config.alpha)
        v, bad = finite(v)
        return Moved(y[:, :, 0], v, prediction, log_ratio[:, :, 0], bad, largest(shift))

    steps = levels(process)
    own = cost(scored, [*steps, 0])
    if sloped is None:
        shift_calls = calls(process, value, config, steps)
        own = own + shift_calls + Calls(model=-len(steps) if value.predicts else 0)
    return run(keys, move, process, scored, reward, config, own)
