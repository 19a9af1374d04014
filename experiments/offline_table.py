"""Finished offline runs as rows of a table: who belongs together, mean and interval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.offline_plot import FIXED
from rlx.data import d4rl
from rlx.infra import errors, files

BOOTSTRAP = 5000


class Cell(NamedTuple):
    """Where a run belongs."""

    method: str
    task: str


class Run(NamedTuple):
    """One finished run."""

    folder: Path
    seed: str
    step: int  # of its last evaluation
    worth: float  # mean of its last evaluations


def read(folder: Path, label: str, value: str, last: int | None) -> list[tuple[Cell, Run]]:
    """The runs of a workdir, each with its method (`label` for agent and options) and task."""
    path = folder / "curve.csv"
    points = files.read_csv(path) if path.is_file() else []
    if not points or value not in points[0]:
        missing = f"no column {value} in curve.csv" if points else "no curve.csv"
        print(f"{folder}: {missing}, left out", file=sys.stderr)
        return []
    found = []
    for run in dict.fromkeys(point["run"] for point in points):
        own = [point for point in points if point["run"] == run]
        task, end = own[0]["task"], own[-1]
        name = label or " ".join(filter(None, (end["agent"], end.get("tag"))))
        settings = [f"{k} {float(v):g}" for k, v in end.items() if k not in FIXED]
        ends = last or (1 if task in d4rl.TASKS else 3)
        worth = float(np.mean([float(point[value]) for point in own[-ends:]]))
        cell = Cell(" ".join([name, *settings]), task)
        found.append((cell, Run(folder, end["seed"], int(end["step"]), worth)))
    return found


def join(runs: list[Run], run: Run, cell: Cell) -> None:
    """Add a run to those of its method and task."""
    for other in runs:
        if other.seed == run.seed or other.step != run.step:
            both = f"seed {run.seed}" if other.seed == run.seed else "runs of unequal length"
            raise errors.ConfigError(
                f"{other.folder} and {run.folder} hold '{cell.method}' on {cell.task}, {both}: "
                f"call one of them otherwise, NAME={run.folder}"
            )
    runs.append(run)


def row(cell: Cell, runs: Sequence[Run]) -> dict:
    """Mean over runs and its bootstrap 95 % interval."""
    values = np.array([run.worth for run in runs])
    picks = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAP, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    found = {"task": cell.task, "method": cell.method, "runs": len(runs), "mean": values.mean()}
    return found | {"low": low, "high": high, "step": runs[0].step}


def table(rows: Sequence[dict]) -> str:
    """Markdown: one line per method, one column per task."""
    tasks = sorted({row["task"] for row in rows})
    cells = {
        (row["method"], row["task"]): f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        for row in rows
    }
    lines = ["| method | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        values = [cells.get((method, task), "-") for task in tasks]
        lines.append(f"| {method} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"
