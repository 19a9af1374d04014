"""Train at one or many updates-to-data ratios (UTD) and fit the laws of data and compute through them.

  python -m experiments.scaling_laws --utd=8                 one UTD, several seeds in one program
  python -m experiments.scaling_laws                         the config's sweep, then the fit and the figures
  python -m experiments.scaling_laws --utd=0.5,1,2,4,8 --env=pendulum --seeds=8
  python -m experiments.scaling_laws --fit_only              fit again what lies in the workdir

The same command goes on where it was stopped and skips what is finished. `--help` lists the flags.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments import scaling_table
from rlx import agents, envs
from rlx.infra import cli, errors, files, runtime
from rlx.infra.logging import Run
from rlx.scaling import rules
from rlx.train import pack, sweep
from rlx.types import Env

DEFAULT = "configs/scaling_laws.py"
SHORT = {
    "utd": "train.utd",
    "env": "env.name",
    "seed": "seed",
    "seeds": "num_seeds",
    "steps": "train.env_steps",
    "batch_size": "learner.batch_size",
    "lr": "learner.lr",
}
HINTS = {"train.utd": "a number > 0 or a fraction such as 1/16"}


class Entry(NamedTuple):
    """One UTD of the sweep: its config, sizes, step plan, runs and folder."""

    config: ConfigDict
    sizes: pack.Sizes
    plan: pack.Schedule
    runs: list[Run]
    workdir: Path


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code (0, or 42 and 130 after a saved stop)."""
    argv = cli.into_config(sys.argv[1:] if argv is None else argv, DEFAULT, "env")
    config, workdir, options = cli.start(
        DEFAULT, SHORT, argv, lists=("utd", "seed", "lr"), extra={"fit_only": False}, hints=HINTS
    )
    given = options.explicit
    root = workdir if "workdir" in given else Path("results/scaling_laws") / config.env.name.replace("/", "_")
    utds = options.utd if "train.utd" in given else tuple(config.sweep.utd)
    seeds = options.seed if "seed" in given else tuple(range(config.num_seeds))
    grid = {"lr": options.lr} if len(options.lr) > 1 else {}
    alone = len(utds) == 1 and "workdir" in given
    if options.fit_only:
        return fit(config, root, options)
    runtime.start(len(seeds) * max(1, len(options.lr) if grid else 1), config.mesh.cpu_devices)
    env = envs.make(config.env.name, config.env.impl)
    entries = plan_sweep(config, env, utds, seeds, grid, given, lambda u: root if alone else root / f"utd_{u:g}")
    if options.dry_run:
        return describe(entries, env)
    status = train(entries, env, options)
    if status != "done":
        print(f"{status}: saved; the same command goes on from there", file=sys.stderr)
        return errors.EXIT_PREEMPTED if status == "preempted" else errors.EXIT_INTERRUPTED
    return fit(config, root, options) if len(utds) > 1 else 0


def plan_sweep(config, env: Env, utds, seeds, grid, given, folder) -> list[Entry]:
    """Make and check every entry before any compile; sorted so that entries of one batch size follow."""
    entries = []
    longest = max([config.train.env_steps, *config.sweep.env_steps])
    lengths = dict(zip(config.sweep.utd, config.sweep.env_steps, strict=False))
    for utd in utds:
        own = ConfigDict(config.to_dict()).unlock()
        own.train.utd = utd
        if "train.env_steps" not in given:
            own.train.env_steps = lengths.get(utd, config.train.env_steps)
        if own.data.capacity is None:
            own.data.capacity = min(1_000_000, longest)  # one ring size, so that all UTDs share a compile
        own.learner.batch_size, own.learner.lr = settings(config, utd, given)
        sizes, plan = pack.check(own.lock(), env, len(seeds) * max(1, len(grid.get("lr", ()))))
        hp = agents.make(own.learner, env.spec).hp
        entries.append(Entry(own, sizes, plan, sweep.expand(seeds, grid, hp), folder(utd)))
    return sorted(entries, key=lambda entry: entry.config.learner.batch_size)


def settings(config: ConfigDict, utd: float, given: frozenset[str]) -> tuple[int, float]:
    """Return (batch size, learning rate) at `utd`: set by hand, or from the rule."""
    rule, learner = config.rule, config.learner
    published = rules.published_rule(rule.benchmark)
    batch, lr = published.batch_size(utd), published.learning_rate(utd)
    if rule.anchor_utd:  # published slopes through the config's own point
        ratio = utd / rule.anchor_utd
        batch = rules.tabulated_batch(learner.batch_size * ratio**published.batch_slope)
        lr = rules.tabulated_rate(learner.lr * ratio**published.rate_slope)
    use_batch = rule.batch_size and "learner.batch_size" not in given
    use_lr = rule.lr and "learner.lr" not in given
    return (batch if use_batch else learner.batch_size, lr if use_lr else learner.lr)


def train(entries: list[Entry], env: Env, options: SimpleNamespace) -> str:
    """Run every entry that is not finished; entries that can share compiled programs do."""
    flags = {"overwrite": options.overwrite, "retry_failed": options.retry_failed}
    finished = [pack.claim(e.config, e.runs, e.workdir, **flags) for e in entries]
    sessions: dict[str, pack.Session] = {}
    for entry, result in zip(entries, finished, strict=True):
        if result is not None:
            print(f"{entry.workdir}: finished before, skipped")
            continue
        hp = agents.make(entry.config.learner, env.spec).hp
        key = pack.static_key(entry.config, hp, entry.sizes, len(entry.runs))
        if key not in sessions:
            print(f"compiling for batch size {entry.config.learner.batch_size} ...", file=sys.stderr)
            sessions = {key: pack.Session(entry.config, env, agents.make, len(entry.runs), entry.sizes)}
        status = run(entry, env, sessions[key])
        if status != "done":
            return status
    return "done"


def run(entry: Entry, env: Env, session: pack.Session) -> str:
    """Train one entry and write its `result.json` and `runs.csv`."""
    print(f"utd {entry.config.train.utd:g} -> {entry.workdir}", file=sys.stderr)
    try:
        facts = session.run(entry.config, entry.plan, entry.runs, entry.workdir)
    except BaseException as error:
        failure = {"status": "failed", "message": f"{type(error).__name__}: {error}"}
        files.write_json(entry.workdir / "result.json", failure)
        raise
    if facts["status"] == "done":
        rows = scaling_table.rows(entry.config, env, entry.runs, facts)
        scaling_table.write(entry.workdir / "runs.csv", rows)
        result = scaling_table.result(entry.config, env, entry.runs, facts)
        files.write_json(entry.workdir / "result.json", result)
        print(scaling_table.summary(result))
        print(f"written: {entry.workdir / 'result.json'}")
    return facts["status"]


def describe(entries: list[Entry], env: Env) -> int:
    """Print what would run: the step plan, memory and parameters of every entry. Compiles nothing."""
    for entry in entries:
        print(json.dumps(scaling_table.plan(entry, env), indent=2))
    return 0


def fit(config: ConfigDict, root: Path, options: SimpleNamespace) -> int:
    """Fit every `runs.csv` under `root` and draw; print the report and where it lies."""
    tables = sorted(root.glob("utd_*/runs.csv"))
    if not tables:
        raise errors.ConfigError(f"nothing to fit: no finished run under {root}")
    scaling_table.fit(config, tables, root)
    return 0


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
