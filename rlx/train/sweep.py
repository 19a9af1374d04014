"""Packs: S seeds x K numeric settings as one program's run axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rlx.infra.errors import ConfigError, unknown
from rlx.infra.logging import Run


def expand(
    seeds: Sequence[int], points: Sequence[Mapping[str, float]], hp: Mapping[str, float]
) -> list[Run]:
    """Return one `Run` per seed and point {numeric setting: value}, seeds fastest.

    Raises ConfigError for a name that is no numeric setting of the learner (`hp`), repeated points,
    or a seed that is no int32 >= 0.
    """
    for name in dict.fromkeys(name for point in points for name in point):
        if name not in hp:
            raise ConfigError(unknown("numeric setting", name, hp, "--print_config"))
    suffixes = ["".join(f"_{name}{value:g}" for name, value in point.items()) for point in points]
    if len(set(suffixes)) < len(points) or not points:
        raise ConfigError(f"settings must be different, one at least, got {list(points)}")
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError(f"seeds must be different, one at least, got {tuple(seeds)}")
    for seed in seeds:
        if not 0 <= seed < 2**31:
            raise ConfigError(f"seed is a whole number from 0 to {2**31 - 1}, got {seed}")
    return [
        Run(f"s{seed}{suffix}", int(seed), dict(point))
        for point, suffix in zip(points, suffixes, strict=True)
        for seed in seeds
    ]


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
