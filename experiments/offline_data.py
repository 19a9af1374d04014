"""The data set and the score that a task's name stands for; small data sets are made if need be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments import make_data
from rlx.data import d4rl, ogbench
from rlx.data.rows import Rows
from rlx.data.trajectories import Dataset
from rlx.envs import host, host_names
from rlx.infra.errors import ConfigError

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load(config: ConfigDict) -> Dataset:
    """Read the data of `config.env.name`; errors say how to get what is missing."""
    name, data = config.env.name, config.data
    if name in host_names.WALKERS:
        return nothing(name)
    if name in d4rl.TASKS:
        for field in ("folder", "sparse", "download"):
            if data[field]:
                raise ConfigError(f"data.{field} is for OGBench's tasks; {name} takes data.path")
        return d4rl.load(name, data.path)
    folder = data.folder
    if data.generate and not data.path:
        folder = made(name, data.generate, data.folder)
    return ogbench.load(name, folder, data.path, sparse=data.sparse, download=data.download)


def nothing(name: str) -> Dataset:
    """An empty data set of the environment's shapes, for what learns online alone."""
    env = host.make(name)
    spec = host.spec(env)
    env.close()
    obs, action = spec.obs, spec.action
    flags, numbers = np.zeros(0, bool), np.zeros(0, np.int32)
    rows = Rows(
        obs=np.zeros((0, *obs.shape), obs.dtype),
        action=np.zeros((0, *action.shape), np.float32),
        reward=np.zeros(0, np.float32),
        terminated=flags,
        transition=flags,
        action_known=flags,
        age=numbers,
        index=numbers,
    )
    return Dataset(name, name, rows, None)


def made(name: str, episodes: int, folder: str | None) -> str:
    """Make so many episodes of the task's data where `folder` has none; return their folder.

    They lie apart from whole data sets, so that neither is ever taken for the other.
    """
    task = ogbench.parse(name)
    if folder and (Path(folder).expanduser() / f"{task.data}.npz").is_file():
        return folder
    out = f"{folder or 'results/data'}/{episodes}_episodes"
    env = task.data.removesuffix(f"-{task.type}-v0")
    flags = [f"--env={env}", f"--type={task.type}", f"--episodes={episodes}", f"--out={out}"]
    if code := make_data.main(flags):
        raise SystemExit(code)  # stopped; the same command goes on
    return out


def score(name: str) -> Score:
    """Return (returns, successes) [R, E] -> what published tables have, 0 to 100 and more."""
    if name in d4rl.TASKS and "antmaze" not in name:
        return lambda returns, successes: np.asarray(d4rl.normalized_score(name, returns))
    return lambda returns, successes: 100.0 * successes
