"""What a row of a sequence run holds. Every logged name is explained here.

train/loss, train/<part>_loss  the learner's objective and its parts, mean over the gradient steps
train/accuracy_<k>           share of right k-th tokens among those to be predicted, of the first 8
train/grad_norm, _update_norm, _param_norm  Euclidean norms over all trained parameters
train/tokens                 predicted tokens per sequence
train/read                   tokens read per gradient step, padding and images apart
train/truncated              share of sequences that were too long and taught nothing
eval/loss                    the learner's loss on sequences that it does not train on
eval/action_mse              mean squared error of decoded actions, in normalised units
eval/invalid                 share of decoded sequences that do not stand for a whole chunk
eval/tokens, eval/steps      decoded tokens per sequence, turns of the decoding loop
eval/success                 share of closed-loop episodes that reach their goal
time/updates_per_s           gradient steps per second; time/tokens_per_s: of train/read
"""

from __future__ import annotations

import numpy as np

from rlx.train.sequence import Sums


def training(sums: Sums, index: int, updates: int, seconds: float) -> dict[str, float]:
    """Return the means over a window of `updates` gradient steps and `seconds`; host arrays [1]."""
    if not updates:
        return {}
    row = {f"train/{name}": float(x[index]) / updates for name, x in sums.learner.items()}
    if "read" in sums.learner:
        row["time/tokens_per_s"] = float(sums.learner["read"][index]) / seconds
    return row


def probed(found: dict[str, np.ndarray], index: int) -> dict[str, float]:
    """Return what was found at the end of a chunk: nothing."""
    del found, index
    return {}


def evaluation(found: dict[str, float], index: int) -> dict[str, float]:
    """Return what one evaluation found, by name."""
    del index  # one run
    return {f"eval/{name}": float(value) for name, value in found.items()}


def curves(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what is kept of every evaluation, for tables: all of it."""
    names = [name for name in rows[0] if name.startswith("eval/")]
    return {name.removeprefix("eval/"): [row[name] for row in rows] for name in names}
