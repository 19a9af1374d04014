"""Iterated noising and guided denoising (RERD, Uehara et al. 2025, arXiv 2502.14944), and the
genetic algorithm that it is measured against.

A population of N designs, from a guided pass (or given); then `rounds` times
  resample   the population by exp(r / alpha_global), between rounds
  noise      a share `fraction` of each design: mask, or diffuse to that level
  denoise    from there with SVDD, M candidates a step
Without resampling, with the exact value and M -> infinity, a round leaves p_alpha as it is: it is a
block Gibbs step. Designs that are not feasible have reward -inf: their weight is 0.
ga: the same with M uniform mutations of a share `fraction` of the positions in place of denoising.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlx.guidance.best_of_n import unguided
from rlx.guidance.core import finite, flat, gather, gumbel, log_weights, plan, rewards, split
from rlx.guidance.discrete import randint, uniform
from rlx.guidance.resampling import ess, resample
from rlx.guidance.svdd import contest, svdd
from rlx.guidance.types import Calls, Config, Discrete, GuidedOut, Process, Reward, Value

Change = Callable[[jax.Array, jax.Array], GuidedOut]  # keys [B], designs [B, N, *E]


def rerd(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    designs: jax.Array | None = None,
) -> GuidedOut:
    """Refine N designs `[B, N, *E]`, by default those of SVDD."""
    level = depth_of(config, process.steps)
    start_key, round_key = split(keys, 2)

    def change(keys: jax.Array, x: jax.Array) -> GuidedOut:
        noise_key, denoise_key = split(keys, 2)
        noised = process.noise(noise_key, x, jnp.int32(level))
        return svdd(denoise_key, process, value, reward, config, noised, level)

    first = (
        svdd(start_key, process, value, reward, config)
        if designs is None
        else given_designs(reward, designs)
    )
    return rounds(round_key, change, first, config)


def ga(
    keys: jax.Array,
    process: Discrete,
    value: Value,
    reward: Reward,
    config: Config,
    designs: jax.Array | None = None,
) -> GuidedOut:
    """Evolve N designs `[B, N, L]`, by default unguided samples, by mutation and selection."""
    start_key, round_key = split(keys, 2)
    N, M = config.particles, config.children
    sites = depth_of(config, process.length)

    def change(keys: jax.Array, x: jax.Array) -> GuidedOut:
        site_key, token_key, pick_key = split(keys, 3)
        shape = (N, M, x.shape[2])
        order = jnp.argsort(jnp.argsort(uniform(site_key, shape), axis=-1), axis=-1)
        fresh = randint(token_key, shape, process.tokens)
        y = flat(jnp.where(order < sites, fresh, x[:, :, None]))
        r, bad = finite(rewards(reward, y))
        noise = config.alpha[:, None, None] * gumbel(pick_key, (N, M))
        best = contest(r.reshape(-1, N, M), noise, axis=2) + jnp.arange(N) * M
        y, r = gather((y, r), best)
        size = jnp.full((1, len(keys)), float(N))
        return GuidedOut(y, jnp.zeros_like(r), r, size, bad, bad == N * M, nfe=Calls(reward=M))

    first = (
        unguided(start_key, process, value, reward, config)
        if designs is None
        else given_designs(reward, designs)
    )
    return rounds(round_key, change, first, config)


def depth_of(config: Config, steps: int) -> int:
    """How many of the steps, or positions, are done again: at least one."""
    return min(max(round(config.fraction * steps), 1), steps)


def given_designs(reward: Reward, x: jax.Array) -> GuidedOut:
    """Designs of the caller as a result."""
    r, bad = finite(rewards(reward, x))
    size = jnp.full((1, len(x)), float(x.shape[1]))
    return GuidedOut(x, jnp.zeros_like(r), r, size, bad, bad == r.shape[1], nfe=Calls(reward=1))


def rounds(keys: jax.Array, change: Change, first: GuidedOut, config: Config) -> GuidedOut:
    """Select and change `rounds` times; `ess` and `ancestors` are those of the selections."""
    _, round_keys = plan(keys, 0, config.rounds, 2)
    round_calls: list[Calls] = []

    def one(state: tuple[jax.Array, ...], now: jax.Array):
        x, r, best, best_r = state
        pick_key, change_key = now
        x, size, index = selected(pick_key, x, r, config)
        out = change(change_key, x)
        round_calls.append(out.nfe)
        best, best_r = better(best, best_r, out.x0, out.reward)
        return (out.x0, out.reward, best, best_r), (size, index, out.n_bad_reward, out.collapsed)

    best = better(first.x0[:, 0], first.reward[:, 0], first.x0, first.reward)
    state = (first.x0, first.reward, *best)
    (x, r, best, _), (size, index, bad, dead) = jax.lax.scan(one, state, round_keys)
    return GuidedOut(
        x0=x,
        logw=jnp.zeros_like(r),
        reward=r,
        ess=size,
        n_bad_reward=first.n_bad_reward + jnp.sum(bad, axis=0),
        collapsed=first.collapsed | jnp.any(dead, axis=0),
        ancestors=index,
        archive=best,
        nfe=first.nfe + round_calls[0].times(config.rounds),
    )


def selected(
    keys: jax.Array, x: jax.Array, r: jax.Array, config: Config
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The population resampled by exp(r / alpha_global), its effective size, ancestors."""
    N = r.shape[1]
    logw, _ = log_weights(r, config.alpha_global)
    index = jnp.broadcast_to(jnp.arange(N, dtype=jnp.int32), r.shape)
    if config.global_resampling:
        index = resample(keys, logw, config.resampling)
    return gather(x, index), ess(logw), index


def better(
    best: jax.Array, best_r: jax.Array, x: jax.Array, r: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The best so far `[B, *E]` and its reward after designs `[B, N, *E]`."""
    index = jnp.argmax(r, axis=1)[:, None]
    new, new_r = gather((x, r), index)
    wins = (new_r[:, 0] > best_r).reshape(-1, *(1,) * (best.ndim - 1))
    return jnp.where(wins, new[:, 0], best), jnp.maximum(best_r, new_r[:, 0])
