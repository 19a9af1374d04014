"""The card of a data set: `python -m rlx.data.card NAME_OR_PATH [--folder=DIR | --path=FILE]`.

NAME is a task of OGBench or D4RL; PATH is an OGBench (.npz) or D4RL (.hdf5) file whose stem is its
name. Printed are counts, ranges per dimension, the histogram of rewards and, for OGBench, the
completed states of each of its five tasks. `--list` prints all names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlx.data import d4rl, ogbench, trajectories
from rlx.data.rows import Rows
from rlx.infra import errors

_SHOWN = 8  # dimensions whose ranges are printed one by one


class Summary(NamedTuple):
    """Facts about Rows. Ranges are per dimension; those of images are of all pixels, [1]."""

    rows: int
    transitions: int
    trajectories: int
    lengths: tuple[int, float, int]  # transitions of the shortest, the mean, the longest one
    obs_shape: tuple[int, ...]
    obs_dtype: str
    obs_range: tuple[np.ndarray, np.ndarray]  # least, greatest
    action_range: tuple[np.ndarray, np.ndarray]  # [A], of the transitions
    rewards: dict[str, int]  # value, or range of values, -> transitions
    terminated: int  # transitions from a completed state, in OGBench's rewards
    megabytes: float  # of observations and actions


def summary(rows: Rows) -> Summary:
    """Return the facts about `rows`, whose leaves are NumPy arrays."""
    finals = np.flatnonzero(~rows.transition)
    lengths = np.diff(finals, prepend=-1) - 1
    obs = rows.obs if rows.obs.ndim == 2 else rows.obs.reshape(-1, 1)
    return Summary(
        rows=len(rows.reward),
        transitions=len(rows.index),
        trajectories=len(finals),
        lengths=(int(lengths.min()), float(lengths.mean()), int(lengths.max())),
        obs_shape=tuple(rows.obs.shape[1:]),
        obs_dtype=str(rows.obs.dtype),
        obs_range=(obs.min(axis=0), obs.max(axis=0)),
        action_range=trajectories.action_range(rows.action[rows.index]),
        rewards=_histogram(rows.reward[rows.index]),
        terminated=int(rows.terminated.sum()),
        megabytes=(rows.obs.nbytes + rows.action.nbytes) / 1e6,
    )


def completed(path: Path, task: ogbench.Task, rows: Rows) -> dict[str, int]:
    """Return, for each single task of the OGBench file at `path`, the transitions of `rows` (its
    own, in order) that start in a completed state; {} for a file without qpos.
    """
    info = ogbench.read_info(path)
    if "qpos" not in info:
        return {}
    out = {}
    for single in ogbench.single_tasks(task):
        masks = ogbench.relabel(single, info)["masks"]
        out[single.name] = int(((masks == 0) & rows.transition).sum())
    return out


def card(name_or_path: str, folder: str | None = None, path: str | None = None) -> str:
    """Return the card as text; where the data lies is as in `ogbench.load` and `d4rl.load`."""
    name = name_or_path
    if name.endswith((".npz", ".hdf5")):
        path, name = name, Path(name).stem.removesuffix("-val")
    if name in d4rl.TASKS:
        source = path or (folder and f"{folder}/{name}.hdf5")
        return _text(name, d4rl.load(name, source).train, {})
    task = ogbench.parse(name)
    rows = ogbench.load(name, folder, path).train
    counts = completed(ogbench.train_file(task, folder, path), task, rows)
    return _text(name, rows, counts, rewarded=task.task is not None)


def main(arguments: list[str] | None = None) -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m rlx.data.card", description=__doc__)
    parser.add_argument("name_or_path", nargs="?", help="a task, or its .npz or .hdf5 file")
    parser.add_argument("--folder", help="where the files of NAME lie")
    parser.add_argument("--path", help="NAME's file itself; D4RL: also an RLDS folder, minari:ID")
    parser.add_argument("--list", action="store_true", help="print all names and end")
    given = parser.parse_args(arguments)
    if given.list == bool(given.name_or_path):
        parser.error("give either a name (or a path) or --list")
    if given.list:
        print("\n".join([*ogbench.names(), *d4rl.TASKS]))
    else:
        print(card(given.name_or_path, given.folder, given.path))


def _histogram(rewards: np.ndarray) -> dict[str, int]:
    """Counts of each value where there are at most 12, else of 10 ranges of equal width."""
    values, counts = np.unique(rewards, return_counts=True)
    if len(values) <= 12:
        return {f"{value:g}": int(count) for value, count in zip(values, counts)}
    counts, edges = np.histogram(rewards, bins=10)
    return {f"{a:.4g} to {b:.4g}": int(n) for a, b, n in zip(edges[:-1], edges[1:], counts)}


def _text(name: str, rows: Rows, tasks: dict[str, int], *, rewarded: bool = True) -> str:
    facts = summary(rows)
    shortest, mean, longest = facts.lengths
    lines = [
        ("name", name),
        ("rows", f"{facts.rows:,}"),
        ("transitions", f"{facts.transitions:,}"),
        ("trajectories", f"{facts.trajectories:,}"),
        ("lengths", f"{shortest} to {longest}, mean {mean:.1f}"),
        ("memory", f"{facts.megabytes:,.1f} MB"),
        ("observations", f"{facts.obs_dtype} {list(facts.obs_shape)}"),
        *_ranges(facts.obs_range),
        ("actions", f"float32 [{len(facts.action_range[0])}]"),
        *_ranges(facts.action_range),
    ]
    if rewarded:
        lines += [("masks 0", f"{facts.terminated:,}"), ("rewards", "transitions")]
        lines += [(f"  {value}", f"{count:,}") for value, count in facts.rewards.items()]
    if tasks:
        lines.append(("completed", "transitions from a completed state"))
        lines += [(f"  {task}", f"{count:,}") for task, count in tasks.items()]
    width = max(len(key) for key, _ in lines) + 2
    return "\n".join(f"{key:<{width}}{value}" for key, value in lines)


def _ranges(bounds: tuple[np.ndarray, np.ndarray]) -> list[tuple[str, str]]:
    """A line for each of the first dimensions, one for all the others together."""
    low, high = bounds
    lines = [(f"  {i}", f"{a:.4g} to {b:.4g}") for i, (a, b) in enumerate(zip(low, high))]
    if len(lines) <= _SHOWN + 1:
        return lines
    rest = f"{low[_SHOWN:].min():.4g} to {high[_SHOWN:].max():.4g}"
    return [*lines[:_SHOWN], (f"  {_SHOWN} to {len(low) - 1}", rest)]


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
