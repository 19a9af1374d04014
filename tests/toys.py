"""Toy environments whose every number is known, and helpers that several test files share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rlx.infra.random import shard_keys
from rlx.types import Env, EnvSpec, EnvState, Keys, Spec


def keys(seed: int = 0, shards: int = 1) -> Keys:
    """Keys of `shards` logical shards on one device."""
    return shard_keys(jax.random.key(seed), shards)


def counter(
    ends_at: int = 10**9, episode_length: int = 10**6, nan_at: int = -1, starts: int = 1
) -> Env:
    """Counts frames: obs [2] = (start, frames since reset), reward = frames + 10 * action.

    Terminates when `frames` reaches `ends_at`; the reward is NaN at frame `nan_at`. `start` is
    drawn from 0 .. starts - 1.
    """

    def reset(key: jax.Array) -> EnvState:
        start = jax.random.randint(key, (), 0, starts).astype(jnp.float32)
        zero = jnp.zeros(())
        return EnvState(zero, jnp.stack([start, zero]), zero, jnp.zeros((), bool))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        frames = state.inner + 1.0
        reward = frames + 10.0 * action[0]
        return EnvState(
            inner=frames,
            obs=jnp.stack([state.obs[0], frames]),
            reward=jnp.where(frames == nan_at, jnp.nan, reward),
            terminated=frames >= ends_at,
        )

    spec = EnvSpec(Spec((2,), np.float32), Spec((1,), np.float32, -1.0, 1.0))
    return Env("counter", spec, None, episode_length, reset, step)
