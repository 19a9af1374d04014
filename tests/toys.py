"""Toy environments whose every number is known, and helpers that several test files share."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlx import agents, envs
from rlx.data.buffer import make_buffer
from rlx.envs.core import vectorize
from rlx.infra.random import shard_keys
from rlx.infra.sharding import make_mesh
from rlx.train.compiled import Compiled, compile_programs
from rlx.train.online import Online, build
from rlx.train.state import TrainState
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


class Tiny(NamedTuple):
    """A compiled program of one learner on the pendulum with 16x16 networks and batches of 16."""

    online: Online
    compiled: Compiled
    num_envs: int
    hp: dict[str, float]

    def start(self, seeds: Sequence[int], **hp: Sequence[float]) -> TrainState:
        """A new state; `hp` = {setting: one value per run}."""
        filled = {name: [value] * len(seeds) for name, value in self.hp.items()} | hp
        settings = {name: np.asarray(values, np.float32) for name, values in filled.items()}
        return self.compiled.init(np.asarray(seeds, np.int32), settings)

    def run(self, state: TrainState, n: int, H: int, G: int, random: bool = False) -> TrainState:
        """Run `n` iterations; `state` is donated."""
        lengths = (np.int32(n), np.int32(H), np.int32(G), np.bool_(random))
        return self.compiled.chunk(state, *lengths)[0]


SMALL = {  # settings that make each learner compile fast
    "sac": dict(critic_hidden=(16, 16), actor_hidden=(16, 16)),
    "bro": dict(critic_hidden=(16,), actor_hidden=(16,), quantiles=8, reset_at=()),
    "pql": dict(critic_hidden=(16, 16), actor_hidden=(16, 16)),
}


def tiny(
    num_envs: int = 16,
    runs: int = 1,
    capacity: int = 4096,
    mesh: tuple[int, int] = (1, 1),
    n_step: int = 1,
    algo: str = "sac",
    **learner: Any,
) -> Tiny:
    """Compile a `Tiny` of the learner `algo` on a `run x data` mesh; 8 logical shards whatever the
    mesh is.
    """
    config = importlib.import_module(f"rlx.agents.{algo}").get_config()
    config.update({"batch_size": 16, "lr": 1e-3} | SMALL[algo] | learner)
    env = envs.make("pendulum")
    online = build(
        lambda axis_name: agents.make(config, env.spec, axis_name),
        vectorize(env, num_envs, pool_size=8),
        make_buffer(capacity, num_envs, n_step),
        batch_size=config.batch_size,
        shards=8,
        eval_episodes=8,
        mesh=make_mesh(*mesh),
    )
    hp = agents.make(config, env.spec).hp
    return Tiny(online, compile_programs(online, runs, hp), num_envs, hp)
