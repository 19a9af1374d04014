"""Why binned actions fail at high control frequencies: curves through four points, token by token.

  python -m experiments.fast_toy                  T = 25, 100, 200; a quarter of an hour of a core
  python -m experiments.fast_toy --full           T = 400 too, three seeds
  python -m experiments.fast_toy --steps=20 --T=25 --seeds=1    seconds, shows that it runs

After Pertsch et al. 2025 (arXiv 2501.09747), figure 3: a small decoder is given four points and
says the cubic through them, as 256 bins per sample (naive) or as FAST tokens, T samples per curve;
data, network and steps are the same. `toy.csv` has a row per run, `toy.png` the errors against T.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import fast_toy_plot
from experiments.fast_toy_data import Run
from experiments.fast_toy_train import train
from rlx.infra import files, runtime
from rlx.infra.errors import ConfigError, one_line

T_DEFAULT, T_FULL = (25, 100, 200), (25, 100, 200, 400)
LONG = 200  # from here on one seed, unless `--full`
EXTRA = (32, 128)  # tokens of FAST beyond its alphabet: the first everywhere, the others a sweep
OVER = 1024  # and this many in all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser("python -m experiments.fast_toy", allow_abbrev=False)
    parser.add_argument("--full", action="store_true", help="T = 400 and three seeds")
    parser.add_argument("--T", default="", help="samples per curve, several: 25,100")
    parser.add_argument("--seeds", type=int, help="default 2 (1 from T = 200 on), --full: 3")
    parser.add_argument("--steps", type=int, default=1_000, help="gradient steps")
    parser.add_argument("--sweep", action="store_true", help="vocabularies of FAST as well")
    parser.add_argument("--workdir", type=Path, default=Path("results/fast_toy"))
    options = parser.parse_args(argv)
    runtime.start()
    table = options.workdir / "toy.csv"
    rows = files.read_csv(table) if table.is_file() else []
    for run in runs(options):
        if not any(row["run"] == run.name for row in rows):
            print(f"{run.name} ...", file=sys.stderr)
            rows = [*rows, train(run)]
            files.write_csv(table, rows)
    shown = [row for row in rows if int(row["steps"]) == options.steps]  # equal work
    print(fast_toy_plot.summary(shown))
    fast_toy_plot.draw(shown, options.workdir / "toy.png")
    print(f"written: {table}, {options.workdir / 'toy.png'}")
    return 0


def runs(options: argparse.Namespace) -> list[Run]:
    """What is to be trained; runs that the table has are skipped."""
    try:
        lengths = [int(text) for text in options.T.split(",") if text]
    except ValueError:
        raise ConfigError(f"--T is a list of whole numbers, got {options.T!r}") from None
    lengths = lengths or list(T_FULL if options.full else T_DEFAULT)
    if min(lengths) < 4 or options.steps < 1 or (options.seeds or 1) < 1:
        raise ConfigError("--T is 4 and more, --steps and --seeds are 1 and more")
    found = []
    for T in lengths:
        seeds = options.seeds or (3 if options.full else 1 if T >= LONG else 2)
        for seed in range(seeds):
            found += [Run("naive", T, 256, seed, options.steps)]
            found += [Run("fast", T, EXTRA[0], seed, options.steps)]
    if options.sweep:
        found += [Run("fast", T, extra, 0, options.steps) for T in lengths for extra in EXTRA[1:]]
        found += [Run("fast", T, OVER, 0, options.steps) for T in lengths]
    return found


if __name__ == "__main__":
    sys.exit(one_line(main))
