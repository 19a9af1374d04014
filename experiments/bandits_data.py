"""Bandits whose good actions lie on a ring: their data, their true reward, what a sample is worth.

Actions are [B, 2] and lie around K modes on a ring of radius .7; one choice, no second step. A
`frame` is an action seen from the state: the same numbers, or turned back by the state's angle.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bandits_parts import Bandit
from rlx.types import Transition

CUT = 3.5  # of the noise, in standard deviations of each number: no datum leaves its mode


def centers(bandit: Bandit) -> jax.Array:
    """Return the modes, `[K, 2]`."""
    angle = np.deg2rad(bandit.first) + 2 * np.pi * np.arange(bandit.modes) / bandit.modes
    return jnp.asarray(bandit.radius * np.stack([np.cos(angle), np.sin(angle)], -1), jnp.float32)


def turn(xy: jax.Array, angle: jax.Array) -> jax.Array:
    """Turn points `[B, 2]` around the origin by `angle [B]`, radians."""
    x, y, c, s = xy[:, 0], xy[:, 1], jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([c * x - s * y, s * x + c * y], axis=-1)


def nearest(bandit: Bandit, frame: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Return the nearest mode int32[B] of each point, and whether the point is on data bool[B]."""
    away = jnp.linalg.norm(frame[:, None] - centers(bandit), axis=-1)
    return away.argmin(1), away.min(1) < bandit.near


def reward(bandit: Bandit, frame: jax.Array | np.ndarray) -> Any:
    """Return the true reward of each point `[B, 2]`, f32[B]."""
    mode, on_data = nearest(bandit, frame)
    value = frame[:, 0]
    if bandit.good:
        value = jnp.isin(mode, jnp.asarray(bandit.good)).astype(jnp.float32)
    return value if bandit.off_data is None else jnp.where(on_data, value, bandit.off_data)


def states(bandit: Bandit, key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Draw angles [B] and what a learner sees of them, `[B, 1]` or `[B, 2]`."""
    if not bandit.turned:
        return jnp.zeros(size), jnp.full((size, 1), bandit.constant)
    angle = jax.random.uniform(key, (size,), minval=-jnp.pi, maxval=jnp.pi)
    return angle, jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def draw(bandit: Bandit, key: jax.Array, size: int) -> Transition:
    """Draw fresh data: modes alike, nothing to bootstrap from."""
    mode_key, noise_key, state_key = jax.random.split(key, 3)
    mode = jax.random.randint(mode_key, (size,), 0, bandit.modes)
    noise = jax.random.truncated_normal(noise_key, -CUT, CUT, (size, 2))
    frame = centers(bandit)[mode] + bandit.std * noise
    angle, obs = states(bandit, state_key, size)
    action, ones, zeros = turn(frame, angle), jnp.ones(size), jnp.zeros(size)
    known = {"valid": ones, "action_valid": ones[:, None]}
    never = {"discount": zeros, "next_action": action, "next_action_valid": zeros}
    return Transition(obs, action, reward(bandit, frame), obs, ones > 0, zeros > 0, known | never)
