"""One table of finished offline runs: method x task, mean with its 95 % interval over runs.

  python -m experiments.offline_compare results/offline/*/*
  python -m experiments.offline_compare A B C --value=return_ --last=1

A run counts with the mean of its last `--last` evaluations (default 3 as in OGBench's tables, 1
for D4RL), never with its best one. Writes `compare.csv` and `compare.md` into `--out`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.offline_plot import FIXED
from rlx.data import d4rl
from rlx.infra import errors, files

BOOTSTRAP = 5000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(usage=__doc__.replace("%", "%%"))
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/offline_compare"))
    parser.add_argument("--value", default="score")
    parser.add_argument("--last", type=int)
    options = parser.parse_args(argv)
    rows = [row for path in options.workdirs for row in summarise(path, options)]
    files.write_csv(options.out / "compare.csv", rows)
    text = table(rows)
    files.write_text(options.out / "compare.md", text)
    print(text)
    print(f"written: {options.out / 'compare.csv'}, compare.md")
    return 0


def summarise(workdir: Path, options: argparse.Namespace) -> list[dict]:
    """One row per setting of a workdir."""
    path = workdir / "curve.csv"
    if not path.is_file():
        print(f"{workdir}: no curve.csv, left out", file=sys.stderr)
        return []
    with path.open(encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    if options.value not in points[0]:
        raise errors.ConfigError(f"{path} has no column {options.value}: {', '.join(points[0])}")
    last = options.last or (1 if points[0]["task"] in d4rl.TASKS else 3)
    runs: dict[str, dict[str, list]] = {}
    for point in points:
        settings = {k: v for k, v in point.items() if k not in FIXED}
        name = " ".join([point["agent"], *(f"{k} {float(v):g}" for k, v in settings.items())])
        runs.setdefault(name, {}).setdefault(point["run"], []).append(float(point[options.value]))
    found = []
    for name, own in runs.items():
        values = np.array([np.mean(run[-last:]) for run in own.values()])
        low, high = interval(values)
        found.append(
            {
                "task": points[0]["task"],
                "method": name,
                "runs": len(values),
                "mean": values.mean(),
                "low": low,
                "high": high,
                "step": int(points[-1]["step"]),
            }
        )
    return found


def interval(values: np.ndarray) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean over runs."""
    picks = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAP, len(values)))
    return tuple(np.quantile(values[picks].mean(1), [0.025, 0.975]))


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


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
