"""What a row of an offline run holds. Every logged name is explained here.

train/<loss, q ...>          the learner's own metrics, mean over the gradient steps since then
train/<network>_param_norm   Euclidean norm of a network's parameters
train/return, _length, _success, _episodes  of episodes that ended online since then; their rewards
                             are the data set's version (D4RL's ant mazes: minus 1)
val/loss                     the learner's loss (of its critic, if it has one) on validation data
eval/success                 mean over the episodes of success at their last step, 0 to 1
eval/return, eval/length     mean return (of the environment's rewards) and agent steps
eval/score                   normalised return (D4RL) or 100 * success, as published tables have it
time/updates_per_s           gradient steps of one run per second; time/env_steps_per_s
"""

from __future__ import annotations

import numpy as np

from rlx.train.offline_state import Sums


def training(sums: Sums, index: int, updates: int, seconds: float) -> dict[str, float]:
    """Return the means of run `index` over a window with `updates` gradient steps; host arrays."""
    del seconds
    row = {}
    if updates:
        row = {f"train/{name}": float(x[index]) / updates for name, x in sums.learner.items()}
    episodes = float(sums.episodes[index])
    if episodes:
        for name in ("return_", "length", "success"):
            row[f"train/{name.rstrip('_')}"] = float(getattr(sums, name)[index]) / episodes
        row["train/episodes"] = episodes
    return row


def probed(found: dict[str, np.ndarray], index: int) -> dict[str, float]:
    """Return what was found of run `index` at the end of a chunk: each `[R]`."""
    return {f"train/{name}": float(values[index]) for name, values in found.items()}


def evaluation(found: dict[str, np.ndarray], index: int) -> dict[str, float]:
    """Return what one evaluation of run `index` found: arrays `[R]` or `[R, E]`."""
    rows = {name: np.asarray(x, np.float64) for name, x in found.items()}
    return {k if "/" in k else f"eval/{k}": float(x[index].mean()) for k, x in rows.items()}


def curves(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what is kept of every evaluation, for tables: of all runs."""
    kept = ("eval/success", "eval/return", "eval/score", "train/q")
    return {
        name.replace("eval/return", "return_").split("/")[-1]: [row[name] for row in rows]
        for name in kept
        if all(name in row for row in rows)
    }
