"""Weighted populations: what one step of SMC does to the weights once every particle has moved.

psi_t (reward units) is alpha times the logarithm of all potentials up to t, so that a step
multiplies the weight by exp((psi_{t-1} - psi_t) / alpha); psi_0 = r makes any of them end at
p_alpha (FK steering, Singhal et al. 2025, arXiv 2501.06848, with terminal reward):
  diff  psi_t = v_t                              max  sum over s >= t of max_{u >= s} v_u
  add   sum over s >= t of sum_{u >= s} v_u      rt   sum over s >= t of v_s
Sums and maxima run over the steps that the schedule allows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlx.guidance.core import gather, log_weights
from rlx.guidance.resampling import ancestors
from rlx.guidance.types import Config
from rlx.types import PyTree

POTENTIALS = ("diff", "max", "add", "rt")


class Population(NamedTuple):
    """N particles of each of B problems: `[B, N, ...]`, the last three `[B]`."""

    x: jax.Array
    prediction: PyTree  # at x, if the value makes it
    psi: jax.Array  # -inf where the value was not finite
    memory: jax.Array  # running maximum or sum of values
    logw: jax.Array  # mean weight 1; -inf = dropped
    logZ: jax.Array
    n_bad: jax.Array
    collapsed: jax.Array


class Trace(NamedTuple):
    """One step: `[B]`, `[B]`, `[B, N]`, `[B, N]`, `[B]`."""

    ess: jax.Array
    resampled: jax.Array
    ancestors: jax.Array
    moves: jax.Array
    slope: jax.Array | None


def begin(
    x: jax.Array, v: jax.Array, bad: jax.Array, prediction: PyTree, alpha: jax.Array
) -> Population:
    """The population at the start, weighted by its own values: p_T is tilted too."""
    logw, top = log_weights(v, alpha)
    logw = jnp.where(jnp.isneginf(v), -jnp.inf, logw)
    collapsed = jnp.zeros(x.shape[0], bool)
    start = Population(x, prediction, v, v, logw, top[:, 0] / alpha, bad, collapsed)
    return normalised(start)[0]


def normalised(population: Population) -> tuple[Population, jax.Array]:
    """Weights of mean 1, the mean moved to log Z; and the weights themselves, of sum 1.

    A problem whose particles are all dropped keeps them with equal weights and is flagged; nothing
    of it reaches another problem.
    """
    logw = population.logw
    top = jnp.max(logw, axis=1, keepdims=True)
    dead = jnp.isneginf(top)
    w = jnp.where(dead, 1.0, jnp.exp(logw - top))
    total = jnp.sum(w, axis=1, keepdims=True)
    mean = jnp.where(dead, 0.0, top + jnp.log(total / logw.shape[1]))
    population = population._replace(
        logw=jnp.where(dead, 0.0, logw - mean),
        logZ=population.logZ + mean[:, 0],
        collapsed=population.collapsed | dead[:, 0],
    )
    return population, w / total


def weighed(
    population: Population,
    v: jax.Array,
    extra: jax.Array,
    counts: jax.Array,
    last: jax.Array,
    config: Config,
) -> tuple[Population, jax.Array, jax.Array]:
    """Multiply weights by the potential at values v `[B, N]` and by exp(extra) `[B, N]`.

    Returns the population, its weights of sum 1, and what its log weights gained, times alpha.
    Dropped particles stay so.
    """
    psi, memory = potential(population, v, counts, config)
    psi = jnp.where(last, v, psi)
    before = jnp.where(jnp.isneginf(population.psi), 0.0, population.psi)
    move = psi - before + extra * config.alpha[:, None]
    gain, top = log_weights(move, config.alpha)
    dropped = jnp.isneginf(population.logw) | jnp.isneginf(move)
    logw = jnp.where(dropped, -jnp.inf, population.logw + gain)
    logZ = population.logZ + top[:, 0] / config.alpha
    population = population._replace(psi=psi, memory=memory, logw=logw, logZ=logZ)
    return *normalised(population), move


def potential(
    population: Population, v: jax.Array, counts: jax.Array, config: Config
) -> tuple[jax.Array, jax.Array]:
    """psi and memory after values v; both stay at steps that do not count."""
    if config.potential == "diff":
        return jnp.where(counts, v, population.psi), v
    past = {"max": jnp.maximum, "add": jnp.add, "rt": lambda old, new: new}[config.potential]
    memory = past(population.memory, v)
    psi = jnp.where(jnp.isneginf(v), -jnp.inf, population.psi + memory)
    return jnp.where(counts, psi, population.psi), jnp.where(counts, memory, population.memory)


def settled(
    u: jax.Array,
    population: Population,
    w: jax.Array,
    allowed: jax.Array,
    last: jax.Array,
    config: Config,
) -> tuple[Population, jax.Array, jax.Array, jax.Array]:
    """Resample, with uniforms u, problems whose weights w `[B, N]` have an effective size below the
    threshold, at the end all of them if `last_resample`; the others carry their weights on.

    Returns also effective sizes, who did, ancestors.
    """
    N = w.shape[1]
    size = 1.0 / jnp.sum(w**2, axis=1)
    small = (size < config.ess_fraction * N) | (jnp.asarray(config.ess_fraction) >= 1)
    do = jnp.where(last, config.last_resample, allowed & small)
    drawn = ancestors(u, w, config.resampling)
    index = jnp.where(do[:, None], drawn, jnp.arange(N, dtype=drawn.dtype))
    particles = (population.x, population.prediction, population.psi, population.memory)
    x, prediction, psi, memory = gather(particles, index)
    logw = jnp.where(do[:, None], 0.0, population.logw)
    population = population._replace(x=x, prediction=prediction, psi=psi, memory=memory, logw=logw)
    return population, size, do, index


def schedule(steps: np.ndarray, total: int, config: Config) -> np.ndarray:
    """Which steps may resample, `[T]` bool: every k-th between two shares of the chain."""
    done = total - steps
    inside = (done >= config.first * total) & (done < config.last * total)
    return inside & ((done + 1) % config.every == 0)
