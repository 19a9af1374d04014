"""Denoising diffusion of actions (Ho, Jain, Abbeel 2020, arXiv 2006.11239): data at t = 0, noise at
t = T.

With beta_t, alpha_t = 1 - beta_t and abar_t = prod_{i<=t} alpha_i for t = 1 ... T:
  noised   x_t = sqrt(abar_t) a + sqrt(1 - abar_t) eps
  a step   x0 = clip((x_t - sqrt(1 - abar_t) eps(x_t, t)) / sqrt(abar_t), -1, 1)
           mean = sqrt(abar_{t-1}) beta_t / (1 - abar_t) x0
                  + sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t) x_t
           variance = beta_t (1 - abar_{t-1}) / (1 - abar_t), so none at t = 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

SCHEDULES = ("vp", "linear", "cosine")


class Schedule(NamedTuple):
    """Entry t - 1 of each belongs to step t; `[T]`."""

    beta: np.ndarray
    alpha: np.ndarray
    abar: np.ndarray


def schedule(name: str, steps: int) -> Schedule:
    """Return the noise schedule: variance preserving, linear or cosine.

    vp      beta_t = 1 - exp(-0.1 / T - 0.5 (10 - 0.1) (2 t - 1) / T**2)  (Xiao et al. 2022)
    linear  from 1e-4 to 2e-2 (Ho et al. 2020)
    cosine  abar_t ~ cos(pi / 2 (t / T + 0.008) / 1.008)**2, beta <= 0.999 (Nichol, Dhariwal 2021)
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, got {name!r}")
    if steps < 1:
        raise ValueError(f"diffusion_steps is a whole number >= 1, got {steps}")
    t = np.arange(1, steps + 1)
    if name == "vp":
        beta = 1.0 - np.exp(-0.1 / steps - 0.5 * (10.0 - 0.1) * (2 * t - 1) / steps**2)
    elif name == "linear":
        beta = np.linspace(1e-4, 2e-2, steps)
    else:
        mark = np.cos(np.pi / 2 * (np.arange(steps + 1) / steps + 0.008) / 1.008) ** 2
        beta = np.clip(1.0 - mark[1:] / mark[:-1], 0.0, 0.999)
    return Schedule(beta, 1.0 - beta, np.cumprod(1.0 - beta))


def noised(how: Schedule, data: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """Return x_t. Args: data, noise `[..., A]`; t int32 `[..., 1]` in 1 ... T."""
    chex.assert_equal_shape([data, noise])
    abar = jnp.asarray(how.abar, data.dtype)[t - 1]
    return jnp.sqrt(abar) * data + jnp.sqrt(1.0 - abar) * noise


def denoise(
    predict: Callable[[jax.Array, jax.Array], jax.Array], noise: jax.Array, how: Schedule
) -> jax.Array:
    """Walk from t = T to an action in [-1, 1], with `predict(x [..., A], t [..., 1])` for eps.

    noise: standard normal `[..., T, A]`: x_T and what the steps T ... 2 add.   Returns `[..., A]`.
    """
    steps = len(how.beta)
    chex.assert_axis_dimension(noise, -2, steps)
    before = np.concatenate([[1.0], how.abar[:-1]])
    table = {
        "t": np.arange(1, steps + 1),
        "keep": np.sqrt(how.abar),
        "lost": np.sqrt(1.0 - how.abar),
        "x0": np.sqrt(before) * how.beta / (1.0 - how.abar),
        "x": np.sqrt(how.alpha) * (1.0 - before) / (1.0 - how.abar),
        "std": np.sqrt(how.beta * (1.0 - before) / (1.0 - how.abar)),
    }
    table = {name: jnp.asarray(row[::-1], noise.dtype) for name, row in table.items()}
    draws = jnp.moveaxis(noise, -2, 0)
    added = jnp.concatenate([draws[1:], jnp.zeros_like(draws[:1])])

    def step(x: jax.Array, now: tuple[dict[str, jax.Array], jax.Array]) -> tuple[jax.Array, None]:
        c, fresh = now
        eps = predict(x, jnp.full((*x.shape[:-1], 1), c["t"]))
        x0 = jnp.clip((x - c["lost"] * eps) / c["keep"], -1, 1)
        return c["x0"] * x0 + c["x"] * x + c["std"] * fresh, None

    return jnp.clip(jax.lax.scan(step, draws[0], (table, added))[0], -1, 1)
