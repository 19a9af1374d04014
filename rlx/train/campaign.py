"""The entries of a sweep one after another: checked together, claimed together, sharing compiled
programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from rlx.infra.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_PREEMPTED
from rlx.infra.files import write_json
from rlx.infra.logging import Run
from rlx.train import pack, sweep
from rlx.train.checks import Sizes, check
from rlx.train.schedule import Schedule
from rlx.types import Env

EXIT_CODES = {"done": EXIT_OK, "preempted": EXIT_PREEMPTED, "interrupted": EXIT_INTERRUPTED}


class Entry(NamedTuple):
    """One pack of runs: what it trains, with which steps, and where."""

    config: ConfigDict
    hp: dict[str, float]  # the learner's numeric settings
    sizes: Sizes
    plan: Schedule
    runs: list[Run]
    workdir: Path


def make_entry(
    config: ConfigDict,
    env: Env,
    make_learner: pack.MakeLearner,
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[float]],
    workdir: Path,
) -> Entry:
    """Check one pack (S seeds x the points of `grid`) before any compile."""
    hp = make_learner(config.learner, env.spec, None).hp
    runs = sweep.expand(seeds, grid, hp)
    sizes, plan = check(config, env, len(runs))
    return Entry(config, hp, sizes, plan, runs, workdir)


def run_all(
    entries: Sequence[Entry],
    env: Env,
    make_learner: pack.MakeLearner,
    report: Callable[[Entry, dict[str, Any]], dict[str, Any]],
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> int:
    """Train every entry that is not finished; return the exit code (0, or 42 and 130 after a saved
    stop).

    Args:
      entries: those that can share compiled programs next to each other.
      report: entry, facts of `Session.run` -> what `result.json` holds.
    """
    flags = {"overwrite": overwrite, "retry_failed": retry_failed}
    finished = [pack.claim(entry.config, entry.runs, entry.workdir, **flags) for entry in entries]
    key, session = None, None
    for entry, before in zip(entries, finished, strict=True):
        if before is not None:
            print(f"{entry.workdir}: finished before, skipped")
            continue
        needed = pack.static_key(entry.config, entry.hp, entry.sizes, len(entry.runs))
        if session is None or key != needed:
            print(
                f"compiling for batch size {entry.config.learner.batch_size} ...", file=sys.stderr
            )
            key, session = (
                needed,
                pack.Session(entry.config, env, make_learner, len(entry.runs), entry.sizes),
            )
        status = run_one(entry, session, report)
        if status != "done":
            print(
                f"{status}: saved in {entry.workdir}; the same command goes on from there",
                file=sys.stderr,
            )
            return EXIT_CODES[status]
    return EXIT_OK


def run_one(entry: Entry, session: pack.Session, report: Callable) -> str:
    """Train one entry and write its `result.json`, which says "failed" if anything went wrong."""
    print(f"utd {entry.config.train.utd:g} -> {entry.workdir}", file=sys.stderr)
    result = entry.workdir / "result.json"
    try:
        facts = session.run(entry.config, entry.plan, entry.runs, entry.workdir)
        if facts["status"] == "done":
            write_json(result, report(entry, facts))
    except Exception as error:
        write_json(result, {"status": "failed", "message": f"{type(error).__name__}: {error}"})
        raise
    return facts["status"]
