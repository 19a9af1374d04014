"""Learning rates as functions of the gradient step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SCHEDULES = ("constant", "cosine")


def learning_rate(kind: str, step: jax.Array, hp: dict[str, jax.Array]) -> jax.Array:
    """Return the rate of gradient step `step` (int32[], from 0).

    It grows linearly to `lr` over the first `warmup_steps`, and then stays, or falls along a half
    cosine to `lr_end` x `lr` at `decay_steps`, where it stays.   hp: f32[] by name.
    """
    now = step.astype(jnp.float32)
    warm = jnp.minimum((now + 1.0) / jnp.maximum(hp["warmup_steps"], 1.0), 1.0)
    if kind == "constant":
        return hp["lr"] * warm
    span = jnp.maximum(hp["decay_steps"] - hp["warmup_steps"], 1.0)
    share = jnp.clip((now - hp["warmup_steps"]) / span, 0.0, 1.0)
    fall = hp["lr_end"] + (1.0 - hp["lr_end"]) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    return hp["lr"] * warm * fall
