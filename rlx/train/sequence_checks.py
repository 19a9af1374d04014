"""What a sequence config comes to, and what cannot run: refused before any compile."""

from __future__ import annotations

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from rlx.infra import config as configs
from rlx.infra import sharding, tracking
from rlx.infra.errors import ConfigError
from rlx.train.campaign import Entry, Opener
from rlx.train.offline_plan import OfflinePlan
from rlx.train.sequence_pack import Session

COUNTS = (  # whole numbers >= 1 where they are given at all
    "learner.batch_size",
    "learner.accumulate",
    "train.steps",
    "train.tokens",
    "train.log_every",
    "train.eval_every",
    "eval.episodes",
    "data.episodes",
    "data.hz",
    "data.horizon",
    "data.workers",
    "checkpoint.keep",
    "mesh.shards",
)


def plan(config: ConfigDict) -> OfflinePlan:
    """Return the steps of a run: gradient steps alone."""
    train = config.train
    return OfflinePlan(train.steps, 0, train.log_every, train.eval_every)


def steps(config: ConfigDict) -> int:
    """Return the gradient steps that read `train.tokens` tokens, of `data.max_len` a row."""
    return max(config.train.tokens // (config.learner.batch_size * config.data.max_len), 1)


def check(config: ConfigDict) -> None:
    """Refuse numbers that mean nothing or do not divide; errors name field and value."""
    flat = configs.flatten(config)
    for name in COUNTS:
        if flat.get(name) is not None and flat[name] < 1:
            raise ConfigError(f"{name} is a whole number >= 1, got {flat[name]}")
    if (room := flat.get("data.prompt_room", 0)) < 0:
        raise ConfigError(f"data.prompt_room is a whole number >= 0, got {room}")
    tracking.check_mode(config.log.wandb)
    mesh, learner = config.mesh, config.learner
    for name in ("data", "fsdp"):
        if mesh[name] < 1 and mesh[name] != -1:
            raise ConfigError(f"mesh.{name} is a whole number >= 1, or -1, got {mesh[name]}")
    devices = jax.device_count() if -1 in (mesh.data, mesh.fsdp) else mesh.data * mesh.fsdp
    rows = {"learner.batch_size": learner.batch_size, "eval.episodes": config.eval.episodes}
    sharding.check_shards(mesh.shards, devices, **rows)
    slices = learner.get("accumulate", 1)
    if learner.batch_size % (slices * mesh.shards):
        raise ConfigError(
            f"learner.batch_size = {learner.batch_size} is not divisible by learner.accumulate = "
            f"{slices} times mesh.shards = {mesh.shards}"
        )


def opener(open_session: Callable[[Entry], Session]) -> Opener:
    """Programs of sequence runs: each run has its own, with its own data."""
    return Opener(lambda entry: str(entry.workdir), open_session)
