"""What a row of metrics holds, from the sums that a run keeps on device. Every logged name is
explained here.

train/return, train/length  mean return and agent steps of episodes that ended since the last row
train/episodes              how many those were
train/<loss, q, alpha ...>  the learner's own metrics, mean over the gradient steps since then
train/critic_loss_recent    the critic's loss on the newest transitions, at the row's step
train/critic_loss_replay    the same on transitions drawn from all of the replay ring
train/overfit_gap           recent - replay: how much better old data is known than new
train/<network>_param_norm  Euclidean norm of a network's parameters
data/nan                    environments that diverged since then (terminated with reward 0)
data/utd                    gradient steps per transition so far, those without updates not counted
eval/return                 mean over one deterministic episode per evaluation start
eval/return_iqm, _min       mean of the middle half, and the worst
eval/length                 mean agent steps of those episodes
time/env_steps_per_s        transitions of one run per second; time/updates_per_s: gradient steps;
                            in a row with an evaluation its time counts too
time/device_mem_gb          in use on the first device, where the backend says
"""

from __future__ import annotations

import numpy as np

from rlx.infra.runtime import used_bytes
from rlx.train.state import TrainMetrics

CURVES = {  # what is kept of every evaluation, for tables: name there -> name in a row
    "return_": "eval/return",
    "critic_loss_recent": "train/critic_loss_recent",
    "critic_loss_replay": "train/critic_loss_replay",
    "critic_param_norm": "train/critic_param_norm",
}


def curves(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return the values of `CURVES` of all runs."""
    return {name: [row[key] for row in rows] for name, key in CURVES.items()}


def probed(found: dict[str, np.ndarray], index: int) -> dict[str, float]:
    """Return what `train/probe.py` found of run `index`, each `[R]`, and the overfit gap."""
    row = {f"train/{name}": float(values[index]) for name, values in found.items()}
    row["train/overfit_gap"] = row["train/critic_loss_recent"] - row["train/critic_loss_replay"]
    return row


def training(metrics: TrainMetrics, index: int, updates: int, seconds: float) -> dict[str, float]:
    """Return the means of run `index` over a window with `updates` gradient steps; host arrays."""
    del seconds
    row = {}
    if updates:
        row = {
            f"train/{name}": float(sums[index]) / updates for name, sums in metrics.learner.items()
        }
    episodes = float(metrics.episodes[index].sum())
    if episodes:
        row["train/return"] = float(metrics.return_[index].sum()) / episodes
        row["train/length"] = float(metrics.length[index].sum()) / episodes
    return row | {"train/episodes": episodes, "data/nan": float(metrics.nan[index].sum())}


def evaluation(returns: np.ndarray, lengths: np.ndarray, index: int) -> dict[str, float]:
    """Return what one evaluation of run `index` found: `returns`, `lengths` are [R, E]."""
    values = np.sort(returns[index].astype(np.float64))
    quarter = len(values) // 4
    return {
        "eval/return": float(values.mean()),
        "eval/return_iqm": float(values[quarter : len(values) - quarter].mean()),
        "eval/return_min": float(values[0]),
        "eval/length": float(lengths[index].mean()),
    }


def speed(transitions: int, updates: int, seconds: float, utd: float | None) -> dict[str, float]:
    """Return the rates of one run over a window, its UTD so far, and the device memory in use."""
    memory = used_bytes()
    found = {} if utd is None else {"data/utd": utd}
    found["time/env_steps_per_s"] = transitions / seconds
    found["time/updates_per_s"] = updates / seconds
    return found if memory is None else found | {"time/device_mem_gb": memory / 2**30}
