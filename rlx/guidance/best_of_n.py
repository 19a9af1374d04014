"""Best-of-N and its soft form: draw N, keep one.

bon       argmax r: KL to p_pre at most log N - (N - 1) / N
soft_bon  index ~ exp(r / alpha): self-normalised importance sampling, consistent for p_alpha;
          mean exp(r / alpha) is an unbiased estimate of Z
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rlx.guidance.core import (
    finite,
    gather,
    gumbel,
    log_mean_exp,
    log_weights,
    plan,
    rewards,
    split,
)
from rlx.guidance.resampling import ess
from rlx.guidance.svdd import contest
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels


def ancestral(keys: jax.Array, process: Process, n: int) -> jax.Array:
    """n unguided samples `[B, n, *E]`."""
    steps = levels(process)
    (start_key,), step_keys = plan(keys, 1, len(steps), 1)

    def step(x: jax.Array, now: tuple[Any, jax.Array]) -> tuple[jax.Array, None]:
        t, (draw_key,) = now
        kernel = process.kernel(x, process.predict(x, t), t)
        return kernel.draw(draw_key, 1)[:, :, 0], None

    return jax.lax.scan(step, process.start(start_key, n), (steps, step_keys))[0]


def unguided(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """N samples of the pre-trained law, all returned."""
    del value
    N = config.particles
    x = ancestral(keys, process, N)
    r, bad = finite(rewards(reward, x))
    size = jnp.full((process.steps, len(keys)), float(N))
    calls = Calls(model=process.steps, reward=1)
    return GuidedOut(x, jnp.zeros_like(r), r, size, bad, bad == N, nfe=calls)


def soft_bon(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """One of N, drawn by exp(r / alpha); as alpha -> 0 the best."""
    draw_key, pick_key = split(keys, 2)
    out = unguided(draw_key, process, value, reward, config)
    logw, top = log_weights(out.reward, config.alpha)
    noise = config.alpha[:, None] * gumbel(pick_key, (config.particles,))
    logZ = top[:, 0] / config.alpha + log_mean_exp(logw)
    out = kept(out, contest(out.reward, noise, axis=1), config.particles)
    return out.replace(ess=jnp.broadcast_to(ess(logw), out.ess.shape), logZ=logZ)


def bon(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """The best of N."""
    out = unguided(split(keys, 2)[0], process, value, reward, config)
    out = kept(out, jnp.argmax(out.reward, axis=1), config.particles)
    return out.replace(ess=jnp.ones_like(out.ess))


def kept(out: GuidedOut, index: jax.Array, particles: int) -> GuidedOut:
    """The sample at index `[B]` of each problem, which cost all of them."""
    x0, reward, logw = gather((out.x0, out.reward, out.logw), index[:, None])
    return out.replace(x0=x0, reward=reward, logw=logw, nfe=out.nfe.times(particles))
