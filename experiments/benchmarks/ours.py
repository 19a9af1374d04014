"""Our online program for one benchmark setting, and blocks of its work."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmarks.measure import Block
from rlx import agents, envs
from rlx.data.buffer import make_buffer
from rlx.envs.core import vectorize
from rlx.infra import sharding
from rlx.train import online


@dataclass(frozen=True)
class Setting:
    """What is run; both sides of a comparison read the same one."""

    env: str = "brax/inverted_pendulum"
    num_envs: int = 8
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 128
    updates: int = 8  # gradient steps per vector step
    capacity: int = 262_144  # transitions
    prefill: int = 256  # vector steps before the first update
    full: bool = False  # time with a ring that is full, as in any run longer than its capacity
    num_runs: int = 1
    algo: str = "sac"
    learner: tuple[tuple[str, Any], ...] = ()  # further settings of the learner, (name, value)
    data: int = 1  # devices on the data axis


def configured(setting: Setting) -> ConfigDict:
    """Return the learner's config of a setting."""
    config = importlib.import_module(f"rlx.agents.{setting.algo}").get_config()
    config.update(
        batch_size=setting.batch_size,
        critic_hidden=setting.hidden,
        actor_hidden=setting.hidden,
    )
    config.update(dict(setting.learner))
    return config


def build(setting: Setting) -> online.Online:
    """Return our jitted programs, not yet compiled; runs split over devices that divide them."""
    config = configured(setting)
    env = envs.make(setting.env, "jax")
    devices = jax.device_count() // setting.data
    run = sharding.largest_divisor(max(1, devices), setting.num_runs)
    return online.build(
        lambda axis_name: agents.make(config, env.spec, axis_name),
        vectorize(env, setting.num_envs),
        make_buffer(setting.capacity, setting.num_envs),
        batch_size=setting.batch_size,
        shards=sharding.default_shards(setting.num_envs, setting.batch_size),
        eval_episodes=8,
        mesh=sharding.make_mesh(run, setting.data),
    )


def initial(programs: Any, setting: Setting, first_seed: int = 0) -> online.TrainState:
    """Return the state of `setting.num_runs` runs before their first step."""
    hp = {name: np.full(setting.num_runs, x, np.float32) for name, x in numeric(setting).items()}
    return programs.init(np.arange(first_seed, first_seed + setting.num_runs, dtype=np.int32), hp)


def numeric(setting: Setting) -> dict[str, float]:
    """Return the learner's numeric settings on the environment of `setting`."""
    return agents.make(configured(setting), envs.make(setting.env, "jax").spec).hp


def call(programs: Any, state: Any, n: int, H: int, G: int, random: bool = False) -> Any:
    """Run one chunk to its end and return the new state."""
    state, *_ = programs.chunk(state, np.int32(n), np.int32(H), np.int32(G), np.bool_(random))
    return jax.block_until_ready(state)


def update_block(programs: Any, state: Any, setting: Setting, vector_steps: int) -> Block:
    """Return a block of `vector_steps` x (one step, `setting.updates`), after the prefill."""
    state = call(programs, state, setting.prefill, 1, 0, random=True)
    if setting.full:  # the counter is all that says so
        slots = state.buffer.reward.shape[1]
        state = state.replace(step=jax.device_put(np.int32(slots), state.step.sharding))

    def block() -> int:
        nonlocal state
        state = call(programs, state, vector_steps, 1, setting.updates)
        return vector_steps * setting.updates * setting.num_runs

    return block


def collect_block(programs: Any, state: Any, setting: Setting, vector_steps: int) -> Block:
    """Return a block of environment steps: policy, physics, resets and the write to the ring."""

    def block() -> int:
        nonlocal state
        state = call(programs, state, vector_steps, 1, 0)
        return vector_steps * setting.num_envs * setting.num_runs

    return block
