"""Bandits with several good actions: what a flow, a one-step policy and a point keep of them.

  python -m experiments.bandits                           every part, 5 seeds: an hour of a core
  python -m experiments.bandits --part=offaxis --seeds=3  one part: ring, offaxis, ridge, turned
  python -m experiments.bandits --learner=fql,rebrac      some learners; other rows stay
  python -m experiments.bandits --smoke                   seconds, shows that it runs

`bandits.csv` has one row per run, `bandits.png` the actions and the reward against alpha. Flow
policies cover every mode, alpha trades reward against staying on data. These bandits do not rank
the methods: that is a question of long horizons.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import bandits_plot, bandits_result
from experiments.bandits_parts import BANDITS, METHODS, Bandit, Method
from experiments.bandits_train import train
from rlx.infra import runtime
from rlx.infra.errors import ConfigError, one_line, unknown

SAMPLES = 4_000  # actions per run that it is judged by
SEEDS = 5
SMALL = {"updates": 20, "hidden": (16, 16), "flow_hidden": (16, 16)}  # of --smoke
SMALL_LEARNER = {"batch_size": 32, "flow_steps": 2}
PARTS = tuple(bandit.name for bandit in BANDITS)
LEARNERS = tuple(method.agent for method in METHODS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = read(argv)
    runtime.start()
    table, figure = options.workdir / "bandits.csv", options.workdir / "bandits.png"
    bandits_result.load(table)  # what can't be read is said before an hour of work
    for bandit in BANDITS:
        if bandit.name in options.part:
            small = SMALL | {"fql": bandit.fql[:2], "rebrac": bandit.rebrac[:1]}
            bandit = bandit._replace(**small) if options.smoke else bandit
            for method in METHODS:
                if method.agent in options.learner:
                    one(method, bandit, options, table)
    found = bandits_result.load(table)
    bandits_plot.draw(found, BANDITS, METHODS, figure)
    print(bandits_result.summary(found.rows))
    print(f"written: {table}, {figure}")
    return 0


def one(method: Method, bandit: Bandit, options: argparse.Namespace, table: Path) -> None:
    """Train one learner on one bandit; its runs join those in the table, or take their place."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs, samples = len(seeds) * len(method.values(bandit)), 200 if options.smoke else SAMPLES
    print(f"{bandit.name} {method.label}: {runs} runs as one program", file=sys.stderr)
    small = SMALL_LEARNER if options.smoke else {}
    frames = train(method, bandit, tuple(seeds), samples, **small)
    found = bandits_result.load(table)  # anew: another process may add to it
    bandits_result.save(table, bandits_result.add(found, method, bandit, seeds, frames))


def read(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m experiments.bandits", allow_abbrev=False)
    parser.add_argument("--part", default="", help=f"of {', '.join(PARTS)}; several: a,b")
    parser.add_argument("--learner", default="", help=f"of {', '.join(LEARNERS)}; several: a,b")
    parser.add_argument("--seeds", type=int, help=f"runs per setting, default {SEEDS}")
    parser.add_argument("--first_seed", type=int, default=0, help="more runs later: go on here")
    parser.add_argument("--smoke", action="store_true", help="few updates of small networks")
    parser.add_argument("--workdir", type=Path, help="default results/bandits, or bandits_smoke")
    options = parser.parse_args(argv)
    options.part = chosen("part", options.part, PARTS)
    options.learner = chosen("learner", options.learner, LEARNERS)
    if options.seeds is None:
        options.seeds = 1 if options.smoke else SEEDS
    if options.seeds < 1 or options.first_seed < 0:
        raise ConfigError("--seeds is a whole number >= 1, --first_seed is >= 0")
    if options.workdir is None:
        options.workdir = Path("results/bandits_smoke" if options.smoke else "results/bandits")
    return options


def chosen(kind: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in `text`, all of them if it is empty."""
    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name not in known:
            raise ConfigError(unknown(kind, name, known, "--help"))
    return names or known


if __name__ == "__main__":
    sys.exit(one_line(main))
