"""Compare the data efficiency of algorithms on the same tasks, from tables of finished sweeps.

  python -m experiments.scaling_compare results/scaling_laws/CartpoleSwingup*_study/fit/runs.csv
  python -m experiments.scaling_compare sac=A/fit/runs.csv wide_sac=B/fit/runs.csv --min_utd=2

At every UTD of a task (from `--min_utd` on) the level J is the highest multiple of 50 that some
algorithm reaches in 95 % of the resamples of its seeds. D_J comes with its bootstrap interval over
seeds, and so does its ratio to that of the baseline. A baseline that does not reach J counts with
the whole length of its run: then the ratio is an upper bound (`at_most` = 1). Tables of one label
are one: more seeds of a setting join.
Writes `compare.csv` and `compare.png` into `--out` (default results/scaling_compare).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import scaling_compare_plot, scaling_compare_tables
from rlx.infra import errors, files
from rlx.scaling import cells
from rlx.scaling.curves import Crossings, crossings, ratio_interval

LEVELS = np.arange(50.0, 1000.0, 50.0)
COLUMNS = "task,J,utd,algo,seeds,D,D_low,D_high,ratio,at_most,ratio_low,ratio_high".split(",")
BOOTSTRAP = 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").replace("%", "%%"))
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--out", default="results/scaling_compare")
    parser.add_argument("--baseline", default="sac")
    parser.add_argument("--min_utd", type=float, default=0.0, help="leave smaller UTDs out")
    args = parser.parse_args(argv)
    found = [cell for cell in scaling_compare_tables.read(args.tables) if cell.utd >= args.min_utd]
    algos = sorted({cell.algo for cell in found}, key=lambda name: (name != args.baseline, name))
    if len(algos) < 2 or algos[0] != args.baseline:
        raise errors.ConfigError(
            f"compare needs {args.baseline} and another algorithm, the tables have: "
            + ", ".join(algos)
        )
    rows = []
    for task in sorted({cell.task for cell in found}):
        rows += compare(task, [cell for cell in found if cell.task == task], algos)
    out = Path(args.out)
    files.write_csv(out / "compare.csv", rows)
    print((out / "compare.csv").read_text(encoding="utf-8"))
    scaling_compare_plot.draw(rows, out / "compare.png")
    print(f"written: {out / 'compare.csv'}, {out / 'compare.png'}")
    return 0


def compare(task: str, own: list[cells.Cell], algos: Sequence[str]) -> list[dict]:
    """Rows of one task: the UTDs that all algorithms ran, each at its own level."""
    reached: dict[tuple[str, float], Crossings] = {}
    length = {cell.utd: cell.steps[-1] for cell in own if cell.algo == algos[0]}
    for index, cell in enumerate(own):
        reached[cell.algo, cell.utd] = crossings(
            cell.steps, cell.returns, LEVELS, BOOTSTRAP, seed=index, interpolate=True
        )
    rows = []
    for u in sorted({u for _, u in reached if all((algo, u) in reached for algo in algos)}):
        ends = np.array([reached[algo, u].interval()[:, 1] for algo in algos])
        reliable = np.flatnonzero(np.isfinite(ends).any(axis=0))
        if not len(reliable):
            raise errors.ConfigError(f"{task}: no level is reached reliably at UTD {u:g}")
        j = int(reliable[-1])
        base = reached[algos[0], u]
        for algo in algos:
            mine = reached[algo, u]
            (low, high), ends = mine.interval()[j], (np.nan, np.nan)
            if algo != algos[0]:
                ends = ratio_interval(mine.stretched[:, j], base.stretched[:, j], length[u])
            values = (task, LEVELS[j], u, algo, mine.num_seeds, mine.point[j], low, high)
            whole = np.nan_to_num(base.point[j], nan=length[u])
            values += (mine.point[j] / whole, int(np.isnan(base.point[j])), *ends)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
