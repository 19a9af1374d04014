"""Flow matching on straight paths (Lipman et al. 2023; Liu et al. 2023): noise at t = 0, data at
t = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

TIME_DISTRIBUTIONS = ("uniform", "beta", "logit_normal")
SOLVERS = ("euler", "midpoint")


def path(noise: jax.Array, data: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the point `(1 - t) noise + t data` and its velocity `data - noise`.

    Args: noise, data `[..., A]`; t `[..., 1]`.
    """
    chex.assert_equal_shape([noise, data])
    return (1.0 - t) * noise + t * data, data - noise


def draw_time(key: jax.Array, shape: tuple[int, ...], distribution: str = "uniform") -> jax.Array:
    """Draw times in [0, 1): uniform, Beta(1, 1.5) or logit-normal(0, 1)."""
    if distribution == "logit_normal":
        return jax.nn.sigmoid(jax.random.normal(key, shape))
    u = jax.random.uniform(key, shape)
    if distribution == "beta":
        return 1.0 - (1.0 - u) ** (1.0 / 1.5)  # the inverse of Beta(1, b)'s distribution function
    if distribution != "uniform":
        known = ", ".join(TIME_DISTRIBUTIONS)
        raise ValueError(f"time_dist is one of {known}, got {distribution!r}")
    return u


def integrate(
    velocity: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    steps: int,
    solver: str = "euler",
) -> jax.Array:
    """Follow `velocity(x [..., A], t [..., 1])` from `noise` at t = 0 to t = 1 in `steps` steps.

    Euler evaluates it at t = i / steps, i = 0 ... steps - 1, never at 1.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver is one of {', '.join(SOLVERS)}, got {solver!r}")
    if steps < 1:
        raise ValueError(f"flow_steps is a whole number >= 1, got {steps}")
    size = 1.0 / steps

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        t = jnp.full((*x.shape[:-1], 1), i * size)
        slope = velocity(x, t)
        if solver == "midpoint":
            slope = velocity(x + 0.5 * size * slope, t + 0.5 * size)
        return x + size * slope

    return jax.lax.fori_loop(0, steps, step, noise)
