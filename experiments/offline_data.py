"""The data set and the score that a task's name stands for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from rlx.data import d4rl, ogbench
from rlx.data.trajectories import Dataset

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load(config: ConfigDict) -> Dataset:
    """Read the data of `config.env.name`; errors say how to get what is missing."""
    name, data = config.env.name, config.data
    if name in d4rl.TASKS:
        return d4rl.load(name, data.path)
    return ogbench.load(name, data.folder, data.path, sparse=data.sparse, download=data.download)


def score(name: str) -> Score:
    """Return (returns, successes) [R, E] -> what published tables have, 0 to 100 and more."""
    if name in d4rl.TASKS and "antmaze" not in name:
        return lambda returns, successes: d4rl.normalized_score(name, returns)
    return lambda returns, successes: 100.0 * successes
