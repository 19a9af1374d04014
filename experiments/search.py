"""Find numeric settings by successive halving over vmapped runs.

  python -m experiments.search --env=pendulum
  python -m experiments.search --algo=bro --utd=2 --points=32 --rungs=4 --seeds=2
  python -m experiments.search --config.search.ranges.lr=1e-4,3e-3

Every rung is one program; the same command goes on where it was stopped. The table at the end is
`search.csv` in the workdir: every setting, how far it came and what it returned.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.common import sobol
from experiments import search_table
from experiments.scaling_laws import DEFAULT, HINTS
from experiments.scaling_points import at_utd
from rlx import agents, envs
from rlx.infra import cli, distributed, errors, runtime
from rlx.train import campaign, halving

SHORT = {
    "algo": "learner.name",
    "utd": "train.utd",
    "env": "env.name",
    "seeds": "num_seeds",
    "steps": "train.env_steps",
    "batch_size": "learner.batch_size",
    "points": "search.points",
    "rungs": "search.rungs",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code (0, or 42 and 130 after a saved stop)."""
    runtime.start()
    default = DEFAULT if runtime.on_cpu() else f"{DEFAULT}:wide"
    argv = cli.into_config(sys.argv[1:] if argv is None else argv, default, "env", "algo")
    config, workdir, options = cli.start(default, SHORT, argv, hints=HINTS)
    name = "_".join(filter(None, (config.env.name.replace("/", "_"), config.tag)))
    root = workdir if "workdir" in options.explicit else Path("results/search") / name
    env = envs.make(config.env.name, config.env.impl)
    config = at_utd(config, config.train.utd, options.explicit)
    points = draw(config)
    seeds = tuple(range(config.num_seeds))
    plan = halving.check(config, env, agents.make, seeds, points)
    if options.dry_run:
        print(json.dumps([rung._asdict() for rung in plan], indent=2))
        return 0
    code, order = halving.search(
        config,
        env,
        agents.make,
        seeds,
        points,
        root,
        report,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
    )
    if code:
        return code
    return distributed.on_main(lambda: search_table.finish(root, len(plan), order), "search table")


def draw(config: ConfigDict) -> list[dict[str, float]]:
    """Return `search.points` settings, evenly spread over the logarithms of `search.ranges`."""
    ranges = {name: tuple(ends) for name, ends in config.search.ranges.items()}
    try:
        drawn = list(sobol(ranges, config.search.points, config.seed, log=ranges))
    except ValueError as error:
        raise errors.ConfigError(f"search.ranges: {error}") from error
    return [{name: float(f"{value:.4g}") for name, value in point.items()} for point in drawn]


def report(entry: campaign.Entry, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a rung's `result.json` holds."""
    kept = ("status", "env_steps", "grad_steps", "wall_s", "updates_per_s", "compile_s")
    settings = [dict(run.hp) for run in entry.runs]
    return {**{key: facts[key] for key in kept}, "settings": settings, "nan_runs": facts["dead"]}


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
