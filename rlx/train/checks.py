"""What a config comes to, and what cannot run: refused before any compile, by field and value."""

from __future__ import annotations

import math
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from rlx.data.buffer import buffer_bytes, make_buffer
from rlx.envs.core import vectorize
from rlx.infra import config as configs
from rlx.infra import runtime, sharding, tracking
from rlx.infra.errors import ConfigError
from rlx.infra.fields import parse_ratio
from rlx.train.schedule import Schedule, utd_schedule
from rlx.types import Env

MEMORY_SHARE = 0.8  # of a device, for replay; the rest is for programs, parameters and physics

COUNTS = (  # whole numbers >= 1, or several of them, where they are given at all
    "env.num_envs",
    "env.action_repeat",
    "env.episode_length",
    "env.pool_size",
    "learner.batch_size",
    "learner.ensemble",
    "learner.quantiles",
    "learner.critic_hidden",
    "learner.actor_hidden",
    "train.env_steps",
    "train.log_every",
    "train.eval_every",
    "eval.episodes",
    "data.capacity",
    "data.n_step",
    "checkpoint.keep",
    "mesh.shards",
)


class Sizes(NamedTuple):
    """What the defaults of a config come to for one environment."""

    capacity: int
    learning_starts: int  # transitions
    shards: int
    log_every: int
    eval_every: int


def check(config: ConfigDict, env: Env, num_runs: int = 1) -> tuple[Sizes, Schedule]:
    """Resolve the defaults and refuse what cannot run, before any compile; errors name field and
    value.
    """
    train, num_envs, batch = config.train, config.env.num_envs, config.learner.batch_size
    check_counts(config)
    starts = max(1000, batch) if train.learning_starts is None else train.learning_starts
    if starts < batch:
        raise ConfigError(
            f"train.learning_starts = {starts} is less than learner.batch_size = {batch}"
        )
    prefill = -(-starts // num_envs)  # vector steps
    if train.env_steps <= prefill * num_envs:
        raise ConfigError(
            f"train.env_steps = {train.env_steps} leaves nothing after the "
            f"{prefill * num_envs} random transitions of train.learning_starts; "
            f"give more than {prefill * num_envs}"
        )
    shards = config.mesh.shards or sharding.default_shards(num_envs, batch)
    data = 1 if config.mesh.data < 1 else config.mesh.data
    sharding.check_shards(shards, data, **{"env.num_envs": num_envs, "learner.batch_size": batch})
    mesh = sharding.lay_out(config.mesh.run, config.mesh.data, config.mesh.fsdp, num_runs, shards)
    if config.eval.episodes % mesh.shape["data"]:
        raise ConfigError(
            f"eval.episodes = {config.eval.episodes} is not divisible by the {mesh.shape['data']} "
            "devices on the data axis"
        )
    capacity = config.data.capacity or min(1_000_000, train.env_steps)
    check_memory(capacity, env, num_runs, mesh)
    # What these two and wandb refuse is refused here, while nothing is claimed or compiled yet.
    vectorize(env, num_envs, config.env.episode_length, reset=config.env.reset)
    make_buffer(capacity, num_envs, config.data.n_step)
    tracking.check_mode(config.log.wandb)
    H, G = utd_schedule(parse_ratio(train.utd), num_envs)
    sizes = Sizes(
        capacity=capacity,
        learning_starts=starts,
        shards=shards,
        log_every=train.log_every or max(1, math.ceil(train.env_steps / 100)),
        eval_every=train.eval_every or max(1, math.ceil(train.env_steps / 40)),
    )
    plan = Schedule(num_envs, train.env_steps, prefill, H, G, sizes.log_every, sizes.eval_every)
    return sizes, plan


def check_counts(config: ConfigDict) -> None:
    """Refuse sizes that no network and no loop can have."""
    flat = configs.flatten(config)
    for name in COUNTS:
        value = flat.get(name)
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and one < 1:
                raise ConfigError(f"{name} is a whole number >= 1, got {one}")


def check_memory(capacity: int, env: Env, num_runs: int, mesh: Mesh) -> None:
    """Refuse replay rings that take more than their share of memory, naming what fits."""
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    rows = -(-num_runs // mesh.shape["run"])  # runs per device
    sharing = len(mesh.local_devices) if runtime.on_cpu() else 1  # CPU devices share one memory
    row = buffer_bytes(1, obs, action) * rows * sharing / mesh.shape["data"]
    limit = MEMORY_SHARE * runtime.device_bytes()
    if capacity * row > limit:
        raise ConfigError(
            f"data.capacity = {capacity} transitions x {num_runs} runs take "
            f"{capacity * row / 1e9:.1f} GB per device, more than {limit / 1e9:.1f} GB "
            f"({MEMORY_SHARE:.0%} of its memory); the capacity that fits: {int(limit / row)}"
        )
