"""Packs: S seeds x K numeric settings as one program's run axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from rlx.infra.errors import ConfigError, unknown
from rlx.infra.logging import Run


def expand(
    seeds: Sequence[int], grid: Mapping[str, Sequence[float]], hp: Mapping[str, float]
) -> list[Run]:
    """Return one `Run` per seed and point of `grid` = {numeric setting: values}, seeds fastest.

    Raises ConfigError for a name that is no numeric setting of the learner (`hp`), repeated values,
    or a seed that is no int32 >= 0.
    """
    for name, values in grid.items():
        if name not in hp:
            raise ConfigError(unknown("numeric setting", name, hp, "--print_config"))
        if len(set(values)) < len(values):
            raise ConfigError(f"{name} must list different values, got {tuple(values)}")
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError(f"seeds must be different, one at least, got {tuple(seeds)}")
    for seed in seeds:
        if not 0 <= seed < 2**31:
            raise ConfigError(f"seed is a whole number from 0 to {2**31 - 1}, got {seed}")
    runs = []
    for point in itertools.product(*grid.values()):
        setting = dict(zip(grid, point, strict=True))
        suffix = "".join(f"_{name}{value:g}" for name, value in setting.items())
        runs += [Run(f"s{seed}{suffix}", int(seed), setting) for seed in seeds]
    return runs


def arrays(
    runs: Sequence[Run], hp: Mapping[str, float], multiple: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return (seeds i32[R], {setting: f32[R]}), padded with the last run to a `multiple`."""
    padded = [*runs, *[runs[-1]] * (-len(runs) % multiple)]
    seeds = np.array([run.seed for run in padded], np.int32)
    settings = {
        name: np.array([run.hp.get(name, value) for run in padded], np.float32)
        for name, value in hp.items()
    }
    return seeds, settings
