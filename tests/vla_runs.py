"""A vision-language-action run of seconds, for the tests of several rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from configs import vla as vla_config
from experiments.vla_data import Problem, load
from experiments.vla_session import session
from rlx.infra.logging import Run
from rlx.train import pack, sequence_checks


def config(**changes: Any) -> ConfigDict:
    """The smoke config; `train__steps=8` changes train.steps."""
    made = vla_config.get_config("smoke,hz=5")
    made.update_from_flattened_dict(
        {
            "data.episodes": 40,
            "train.steps": 12,
            "train.eval_every": 12,
            "checkpoint.every_steps": 5,
            "learner.state_input": "token",
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
    )
    return made


def problem(own: ConfigDict) -> Problem:
    """The data and layout of a config."""
    return load(own, own.data.hz, own.data.tokenizer)


def train(own: ConfigDict, workdir: Path, stop: list[str] | None = None) -> dict[str, Any]:
    """Train to the end, or until `stop` is filled; the facts, and how many leaves are cut."""
    own = ConfigDict(own.to_dict()).lock()
    runs = [Run(f"s{own.seed}", own.seed)]
    pack.claim(own, runs, workdir, overwrite=False, retry_failed=False)
    with session(own, problem(own)) as opened:
        stop = [] if stop is None else stop
        facts = opened.run(own, sequence_checks.plan(own), runs, workdir, stop)
        leaves = jax.tree.leaves(opened.programs.template)
        return facts | {"cut": sum(not x.sharding.is_fully_replicated for x in leaves)}
