"""OGBench's data sets made here, without the network: the same files that a download would give.

  python -m experiments.make_data --env=cube-single --type=play --out=data/ogbench
  python -m experiments.make_data --env=pointmaze-medium --type=navigate --episodes=100 --workers=8

Stopped and started again it goes on with the episodes that are missing. Episode i has the seed
`--seed` + i: other data needs a --seed further away than the number of episodes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from rlx.data.synth import expert, ogbench
from rlx.data.synth.shards import Plan, Shards
from rlx.infra.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, ConfigError, one_line
from rlx.infra.progress import Progress
from rlx.infra.signals import stop_signals

REPORT_S = 5.0  # between two lines of progress
TRAIN = "python -m experiments.offline --task={env}-{type}-singletask-v0 --data={out}"
TRAIN_EXPERT = "python -m experiments.expert --env={body} --workdir=results/expert_{body}"


def main(argv: list[str] | None = None) -> int:
    """Make one data set; return the exit code."""
    options = read(argv)
    ogbench.check(options.env, options.type)
    size = ogbench.size(options.env, options.type)
    episodes = size.episodes if options.episodes is None else options.episodes
    rows = size.rows if options.length is None else options.length
    if min(episodes, rows - 1, options.workers) < 1 or options.seed < 0:
        raise ConfigError("--episodes and --workers are >= 1, --length is >= 2, --seed >= 0")
    plan = Plan(options.env, options.type, episodes, rows, options.seed, options.expert)
    policy = walker(plan)
    # Whatever is wrong with environment or policy is said here, before any process starts.
    ogbench.Generator(plan.env, plan.type, rows, policy[0](policy[1]) if policy else None).close()
    shards = Shards(plan, options.out)
    if not shards.finished():
        with stop_signals() as stop:
            if not make(shards, plan, options.workers, policy, stop):
                print(f"{len(shards.missing())} episodes left; the same command goes on")
                return EXIT_INTERRUPTED if stop[0] == "interrupted" else EXIT_PREEMPTED
            shards.finish()
    print(f"{shards.train}; train on it with `{TRAIN.format(**plan._asdict(), out=options.out)}`")
    return 0


def read(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m experiments.make_data", allow_abbrev=False)
    parser.add_argument("--env", required=True, help="cube-single, scene, pointmaze-medium, ...")
    parser.add_argument("--type", required=True, help="play, noisy; navigate, stitch, ...")
    parser.add_argument("--episodes", type=int, help="for training; 10%% more for validation")
    parser.add_argument("--length", type=int, help="rows per episode; both default to OGBench's")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--out", type=Path, default=Path("results/data"))
    parser.add_argument("--expert", default="", help="workdir of the policy of ants and humanoids")
    return parser.parse_args(argv)


def walker(plan: Plan) -> tuple | None:
    """Return what makes the policy of those that need one, and its argument."""
    if ogbench.family(plan.env) not in ogbench.WALKERS:
        if plan.expert:
            raise ConfigError(f"{plan.env} needs no --expert")
        return None
    if not plan.expert:
        command = TRAIN_EXPERT.format(body=ogbench.family(plan.env).removesuffix("maze"))
        raise ConfigError(f"{plan.env} needs --expert=WORKDIR of a policy that walks: `{command}`")
    return expert.load, plan.expert


def make(shards: Shards, plan: Plan, workers: int, policy: tuple | None, stop: list[str]) -> bool:
    """Make what is missing and show how fast; return whether all is there."""
    there, begun = plan.total - len(shards.missing()), time.monotonic()
    progress, shown = Progress(plan.total * plan.rows), [0.0]
    progress.update(there * plan.rows, 0.0, None)

    def report(made: int) -> None:
        wall_s = time.monotonic() - begun
        if made and (wall_s - shown[0] > REPORT_S or there + made == plan.total):
            progress.update((there + made) * plan.rows, wall_s, None)
            shown[0] = wall_s

    done = shards.make(workers, policy, stop, report)
    progress.close()
    rows = (plan.total - len(shards.missing()) - there) * plan.rows
    print(f"{rows:,} rows, {rows / (time.monotonic() - begun):,.0f} rows/s, {workers} workers")
    return done


if __name__ == "__main__":
    sys.exit(one_line(main))
