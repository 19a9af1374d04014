"""What an offline config comes to, and what cannot run: refused before any compile."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rlx.data.trajectories import Dataset
from rlx.envs import host
from rlx.infra import config as configs
from rlx.infra import runtime, sharding, tracking
from rlx.infra.errors import ConfigError
from rlx.ops import learning
from rlx.train import sweep
from rlx.train.campaign import Entry
from rlx.train.checks import MEMORY_SHARE
from rlx.train.offline_plan import OfflinePlan
from rlx.train.offline_spec import learner_spec, one_spec, windows
from rlx.train.pack import MakeLearner

COUNTS = (  # whole numbers >= 1 where they are given at all
    "learner.batch_size",
    "train.log_every",
    "train.eval_every",
    "train.utd",
    "train.capacity",
    "data.n_step",
    "data.chunk",
    "data.frame_stack",
    "eval.lanes",
    "checkpoint.keep",
    "mesh.shards",
)
NATURAL = ("train.offline_steps", "train.online_steps", "train.warmup", "eval.episodes")


def points(
    given: Mapping[str, Sequence[float]], explicit: Collection[str], learner: ConfigDict
) -> list[dict[str, float]]:
    """Return every combination of the settings {short flag: values} that the user listed."""
    listed = {name: values for name, values in given.items() if f"learner.{name}" in explicit}
    for name in listed:
        if name not in learner:
            raise ConfigError(f"--{name} is no setting of {learner.name}; see --print_config")
    found: list[dict[str, float]] = [{}]
    for name, values in listed.items():
        found = [{**point, name: float(value)} for point in found for value in values]
    return found


def before_data(config: ConfigDict, settings: Sequence[Mapping[str, float]]) -> None:
    """Refuse what can be refused before any data is read or made."""
    check_numbers(config)
    for name, value in [item for point in settings for item in point.items()]:
        learning.settings({name: value}, (name,))
    if config.env.name.startswith("visual-"):
        check_name(config, config.env.name)


def entry(
    config: ConfigDict,
    dataset: Dataset,
    make_learner: MakeLearner,
    seeds: Sequence[int],
    settings: Sequence[Mapping[str, float]],
    workdir: Path,
) -> tuple[Entry, OfflinePlan]:
    """Check a pack (seeds x settings) and resolve its defaults; errors name field and value."""
    check_numbers(config)
    how, own = windows(config), one_spec(dataset.train)
    seen = learner_spec(own, how)
    hp = make_learner(config.learner, seen, None).hp
    runs = sweep.expand(seeds, settings, hp)
    for point in settings:  # each value is checked as if it were the only one
        alone = ConfigDict(config.learner.to_dict())
        alone.update(point)
        make_learner(alone, seen, None)
    check_data(config, dataset)
    check_memory(config, dataset, len(runs))
    check_name(config, dataset.env)
    tracking.check_mode(config.log.wandb)
    resolved = ConfigDict(config.to_dict())
    batch = config.learner.batch_size
    resolved.mesh.shards = config.mesh.shards or sharding.default_shards(batch, batch)
    data = 1 if config.mesh.data < 1 else config.mesh.data
    sharding.check_shards(resolved.mesh.shards, data, **{"learner.batch_size": batch})
    train = config.train
    plan = OfflinePlan(
        train.offline_steps,
        train.online_steps,
        train.log_every,
        train.eval_every,
        train.warmup,
        train.utd,
    )
    return Entry(resolved.lock(), hp, None, plan, runs, workdir), plan


def check_numbers(config: ConfigDict) -> None:
    """Refuse numbers that mean nothing."""
    flat = configs.flatten(config)
    for names, least in ((COUNTS, 1), (NATURAL, 0)):
        for name in names:
            if flat.get(name) is not None and flat[name] < least:
                raise ConfigError(f"{name} is a whole number >= {least}, got {flat[name]}")
    train, data = config.train, config.data
    if not train.offline_steps + train.online_steps:
        raise ConfigError("train.offline_steps = 0 and train.online_steps = 0: nothing to do")
    if data.n_step > 1 and data.chunk > 1:
        raise ConfigError(
            f"data.n_step = {data.n_step} and data.chunk = {data.chunk}: a chunk of actions is "
            "that many steps already, leave data.n_step at 1"
        )
    if not 0.0 <= data.crop <= 1.0:
        raise ConfigError(f"data.crop is a probability in [0, 1], got {data.crop:g}")
    if train.balanced_sampling and config.learner.batch_size % 2:
        raise ConfigError(
            f"train.balanced_sampling takes half of each batch from the data: "
            f"learner.batch_size = {config.learner.batch_size} is odd"
        )


def check_data(config: ConfigDict, dataset: Dataset) -> None:
    """Refuse data that the config cannot be trained on."""
    rows, how = dataset.train, windows(config)
    image = rows.obs.ndim == 4
    if how.frame_stack > 1 and not image:
        raise ConfigError(
            f"data.frame_stack = {how.frame_stack} is for images; observations are vectors "
            f"of {rows.obs.shape[1]} numbers"
        )
    if config.data.crop and not image:
        raise ConfigError(f"data.crop = {config.data.crop:g} is for images; set it to 0")
    if not len(rows.index):
        if config.train.offline_steps or not config.train.warmup:
            raise ConfigError(
                f"{dataset.name} has no data: train.offline_steps must be 0 and train.warmup at "
                f"least 1, got {config.train.offline_steps} and {config.train.warmup}"
            )
        return
    ends = np.flatnonzero(~rows.transition)
    shortest = int(np.diff(ends, prepend=-1).min()) - 1
    if how.horizon > shortest:
        raise ConfigError(
            f"data.{'chunk' if how.chunk > 1 else 'n_step'} = {how.horizon} is longer than the "
            f"shortest trajectory of the data ({shortest} transitions)"
        )
    if len(rows.index) < config.learner.batch_size:
        warnings.warn(
            f"the data has {len(rows.index)} transitions, fewer than learner.batch_size = "
            f"{config.learner.batch_size}: a batch holds some of them several times",
            stacklevel=2,
        )


def check_name(config: ConfigDict, env: str) -> None:
    """Refuse a task whose environment is not here, where it is needed."""
    if not config.eval.episodes and not config.train.online_steps:
        return
    try:
        host.environment_id(env)
    except ValueError as error:
        raise ConfigError(
            f"{error}. Without its environment a task can be trained, not evaluated: "
            "--config.eval.episodes=0"
        ) from error


def ring_rows(config: ConfigDict) -> int:
    """Rows that each run's ring holds: its transitions, and an end for every tenth of them."""
    return config.train.capacity or min(2_000_000, config.train.online_steps * 11 // 10 + 2)


def check_memory(config: ConfigDict, dataset: Dataset, num_runs: int) -> None:
    """Refuse data and rings that take more than their share of a device's memory."""
    sets = [rows for rows in (dataset.train, dataset.val) if rows is not None]
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(sets))
    obs, action = dataset.train.obs, dataset.train.action
    frame = obs.itemsize * int(np.prod(obs.shape[1:]))
    row = frame + 4 * action.shape[1] + 16  # reward, age, index, flags
    ring = num_runs * row if config.train.online_steps else 0
    limit = MEMORY_SHARE * runtime.device_bytes()
    if size + ring * ring_rows(config) > limit:
        fits = f"; train.capacity that fits: {max(0, int((limit - size) / ring))}" if ring else ""
        raise ConfigError(
            f"the data of {dataset.name} takes {size / 1e9:.1f} GB and {num_runs} rings of "
            f"{ring_rows(config)} rows {ring * ring_rows(config) / 1e9:.1f} GB, together more than "
            f"{limit / 1e9:.1f} GB ({MEMORY_SHARE:.0%} of a device's memory){fits}"
        )
