"""Train at one or many updates-to-data ratios (UTD) and fit the laws of data and compute through
them.

  python -m experiments.scaling_laws --utd=8                 one UTD, several seeds in one program
  python -m experiments.scaling_laws                         the config's sweep, fit and figures
  python -m experiments.scaling_laws --utd=0.5,1,2,4 --env=pendulum --seeds=8 --algo=bro
  python -m experiments.scaling_laws --batch_size=64,128 --lr=3e-4,1e-3 --width=64,128   a grid
  python -m experiments.scaling_laws --fit_only              fit again what lies in the workdir
The same command goes on where it was stopped and skips what is finished. `--help` lists the flags.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from experiments import scaling_fit, scaling_result
from experiments.scaling_plan import describe
from experiments.scaling_points import points
from rlx import agents, envs
from rlx.infra import cli, distributed, errors, runtime
from rlx.train import campaign

DEFAULT = "configs/scaling_laws.py"
SHORT = {
    "algo": "learner.name",
    "utd": "train.utd",
    "env": "env.name",
    "seed": "seed",
    "seeds": "num_seeds",
    "steps": "train.env_steps",
    "batch_size": "learner.batch_size",
    "lr": "learner.lr",
    "width": "width",
}
LISTS = ("utd", "seed", "lr", "batch_size", "width")
MIN_FIT = 3  # UTDs: fewer leave the laws open
HINTS = {"train.utd": "a number > 0 or a fraction such as 1/16"}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code (0, or 42 and 130 after a saved stop)."""
    runtime.start()
    default = DEFAULT if runtime.on_cpu() else f"{DEFAULT}:wide"
    argv = cli.into_config(sys.argv[1:] if argv is None else argv, default, "env", "algo")
    config, workdir, options = cli.start(
        default, SHORT, argv, lists=LISTS, extra={"fit_only": False}, hints=HINTS
    )
    given = options.explicit
    name = "_".join(filter(None, (config.env.name.replace("/", "_"), config.tag)))
    root = workdir if "workdir" in given else Path("results/scaling_laws") / name
    scaling_fit.check(config)
    if options.fit_only:
        return distributed.on_main(lambda: scaling_fit.fit(config, root), "fit")
    if {"seed", "num_seeds"} <= given:
        raise errors.ConfigError("--seed and --seeds are both given: use one of them")
    seeds = options.seed if "seed" in given else tuple(range(config.num_seeds))
    env = envs.make(config.env.name, config.env.impl)
    plan = points(config, options)
    solo = len(plan) == 1 and "workdir" in given
    entries = [
        campaign.make_entry(
            point.config,
            env,
            agents.make,
            seeds,
            [{"lr": lr} for lr in point.lrs] or [{}],
            root if solo else root / point.name,
        )
        for point in plan
    ]
    entries.sort(key=shape)  # one compile per batch size and width
    plans = [describe(entry, env) for entry in entries]  # what it refuses is refused before a run
    if options.dry_run:
        print(json.dumps(plans, indent=2))
        return 0

    def report(entry: campaign.Entry, facts: dict) -> dict:
        return scaling_result.report(entry, env, facts)

    code = campaign.run_all(
        entries,
        campaign.online(env, agents.make),
        report,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
    )
    if code or len({entry.config.train.utd for entry in entries}) < MIN_FIT:
        return code
    return distributed.on_main(lambda: scaling_fit.fit(config, root), "fit")


def shape(entry: campaign.Entry) -> tuple:
    """What a compile depends on within one sweep."""
    return entry.config.learner.batch_size, entry.config.learner.critic_hidden


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
