"""One table of finished offline runs: method x task, mean with its 95 % interval over runs.

  python -m experiments.offline_compare results/offline/*/*
  python -m experiments.offline_compare A B min=C --value=return_ --last=1

A run counts with the mean of its last `--last` evaluations (default 3 as in OGBench's tables, 1
for D4RL), never with its best one. A method is the agent, the options it was run with (small,
chunk5 ...) and the settings of `--alpha=1,3`; `NAME=FOLDER` calls agent and options otherwise. Runs
of one method on one task join if they are as long and their seeds differ.
Writes `compare.csv` and `compare.md` into `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import offline_table
from rlx.infra import errors, files


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").replace("%", "%%"))
    parser.add_argument("workdirs", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("results/offline_compare"))
    parser.add_argument("--value", default="score")
    parser.add_argument("--last", type=int)
    options = parser.parse_args(argv)
    found: dict[offline_table.Cell, list[offline_table.Run]] = {}
    for source in options.workdirs:
        label, _, folder = ("", "", source) if Path(source).is_dir() else source.rpartition("=")
        for cell, run in offline_table.read(Path(folder), label, options.value, options.last):
            offline_table.join(found.setdefault(cell, []), run, cell)
    if not found:
        raise errors.ConfigError(f"none of {', '.join(options.workdirs)} has a curve to compare")
    rows = [offline_table.row(cell, runs) for cell, runs in found.items()]
    files.write_csv(options.out / "compare.csv", rows)
    text = offline_table.table(rows)
    files.write_text(options.out / "compare.md", text)
    print(text)
    print(f"written: {options.out / 'compare.csv'}, compare.md")
    return 0


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
