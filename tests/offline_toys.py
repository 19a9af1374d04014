"""A tiny data set of a tiny environment, and packs of runs on it, to test learning from data."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import tiny_env
from ml_collections import ConfigDict

from configs import offline as offline_config
from rlx import agents
from rlx.data import trajectories
from rlx.data.trajectories import Dataset
from rlx.infra.random import shard_keys
from rlx.train import offline_checks, offline_pack
from rlx.types import Keys

NETS = {"critic_hidden": (8, 8), "actor_hidden": (8, 8)}


def keys(seed: int = 0) -> Keys:
    """Keys of one logical shard."""
    return shard_keys(jax.random.key(seed), 1)


def dataset(lengths=(12, 20, 15), seed: int = 0, images: bool = False) -> Dataset:
    """Random walks of two numbers, one action; the last trajectory terminates at its end."""
    rng = np.random.default_rng(seed)
    parts = []
    for i, length in enumerate(lengths):
        n = length + 1
        masks, terminals = np.ones(n), np.zeros(n)
        masks[length - 1] = float(i < len(lengths) - 1)
        terminals[length - 1 :] = 1
        action = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
        obs = np.concatenate([[[0.0, 0.0]], np.cumsum(rng.normal(size=(length, 2)), 0)]) / 5
        parts.append(
            dict(
                observations=obs.astype(np.float32),
                actions=action,
                rewards=(-np.abs(obs[:, 0])).astype(np.float32),
                masks=masks.astype(np.float32),
                terminals=terminals.astype(np.float32),
                valids=(np.arange(n) < length).astype(np.float32),
            )
        )
    if images:  # what the environment shows: the step, in every pixel
        for part in parts:
            steps = np.arange(len(part["actions"]), dtype=np.uint8)
            part["observations"] = np.broadcast_to(
                steps[:, None, None, None], (len(steps), 2, 2, 3)
            ).copy()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = trajectories.from_arrays(joined, final_actions=True)
    return Dataset("tiny", "tiny_env:TinyImage-v0" if images else tiny_env.NAME, rows, rows)


def config(agent: str = "fql", **fields) -> ConfigDict:
    """The smoke config with tiny networks; `fields` as flat overrides, dots as `__`."""
    made = offline_config.get_config(f"smoke,agent={agent},task=tiny")
    known = made.learner.to_dict()
    made.learner.update({name: value for name, value in NETS.items() if name in known})
    base = {
        "learner.batch_size": 16,
        "train.offline_steps": 40,
        "train.log_every": 10,
        "train.eval_every": 20,
        "train.chunk_seconds": 0.05,
        "eval.episodes": 3,
        "eval.lanes": 2,
        "eval.workers": 0,
    }
    given = {name.replace("__", "."): value for name, value in fields.items()}
    made.update_from_flattened_dict(base | given)
    return made


def train(config: ConfigDict, workdir: Path, seeds=(0,), points=({},), data=None, make=agents.make):
    """Train a pack to its end or a stop; return (facts, session)."""
    data = data or dataset()
    entry, plan = offline_checks.entry(config, data, make, seeds, list(points), Path(workdir))
    score = lambda returns, successes: 100 * successes  # noqa: E731
    with offline_pack.Session(entry.config, data, make, plan, len(entry.runs), score) as session:
        facts = session.run(entry.config, plan, entry.runs, entry.workdir, [])
    return facts, session
