"""The entries of a sweep one after another: checked together, claimed together, sharing compiled
programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

from ml_collections import ConfigDict

from rlx.infra import distributed
from rlx.infra.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PREEMPTED,
    ConfigError,
    NaNError,
)
from rlx.infra.files import plain, write_json
from rlx.infra.logging import Run
from rlx.infra.signals import agreed, stop_signals
from rlx.ops import learning
from rlx.train import pack, sweep
from rlx.train.checks import Sizes, check, check_counts
from rlx.train.offline_plan import OfflinePlan
from rlx.train.resume import Survivors
from rlx.train.schedule import Schedule
from rlx.types import Env

EXIT_CODES = {"preempted": EXIT_PREEMPTED, "interrupted": EXIT_INTERRUPTED}


class Entry(NamedTuple):
    """One pack of runs: what it trains, with which steps, and where."""

    config: ConfigDict
    hp: dict[str, float]  # the learner's numeric settings
    sizes: Sizes | None  # None offline
    plan: Schedule | OfflinePlan
    runs: list[Run]
    workdir: Path


class Opener(NamedTuple):
    """How the programs of an entry come about; entries of one key share them."""

    key: Callable[[Entry], str]
    open: Callable[[Entry], AbstractContextManager]  # of an object with `run`


def online(env: Env, make_learner: pack.MakeLearner) -> Opener:
    """Programs of online runs."""

    def key(entry: Entry) -> str:
        return pack.static_key(entry.config, entry.hp, cast(Sizes, entry.sizes), len(entry.runs))

    return Opener(key, lambda entry: nullcontext(compile_for(entry, env, make_learner)))


def make_entry(
    config: ConfigDict,
    env: Env,
    make_learner: pack.MakeLearner,
    seeds: Sequence[int],
    points: Sequence[Mapping[str, float]],
    workdir: Path,
) -> Entry:
    """Check one pack (S seeds x points of settings) before any compile; resolve its defaults."""
    check_counts(config)  # a learner is built of them
    hp = make_learner(config.learner, env.spec, None).hp
    runs = sweep.expand(seeds, points, hp)
    for point in points:
        learning.settings(point, tuple(point))
    sizes, plan = check(config, env, len(runs))
    resolved = ConfigDict(config.to_dict())
    resolved.data.capacity, resolved.mesh.shards = sizes.capacity, sizes.shards
    resolved.train.learning_starts = sizes.learning_starts
    resolved.train.log_every, resolved.train.eval_every = sizes.log_every, sizes.eval_every
    return Entry(resolved.lock(), hp, sizes, plan, runs, workdir)


def run_all(
    entries: Sequence[Entry],
    opener: Opener,
    report: Callable[[Entry, dict[str, Any]], dict[str, Any]],
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> int:
    """Train every entry that is not finished.

    Returns the exit code: 0; 42 or 130 after a saved stop; 1 when an entry ended in NaN, in which
    case the others were trained all the same.

    Args:
      entries: those that can share compiled programs next to each other.
      report: entry, facts of `Session.run` -> what `result.json` holds.
    """
    flags = {"overwrite": overwrite, "retry_failed": retry_failed}
    finished = [pack.claim(entry.config, entry.runs, entry.workdir, **flags) for entry in entries]
    code, key, session = EXIT_OK, "", None
    with stop_signals() as stop, ExitStack() as opened:
        for entry, before in zip(entries, finished, strict=True):
            if before is not None:
                print(f"{entry.workdir}: finished before, skipped")
                continue
            try:
                with failures_recorded(entry.workdir):
                    if session is None or key != opener.key(entry):
                        opened.close()
                        key, session = opener.key(entry), opened.enter_context(opener.open(entry))
                    run_one(entry, session, report, stop)
            except NaNError as error:
                print(f"error: {error}", file=sys.stderr)
                code = EXIT_FAILED
            if agreed(stop, f"after {entry.workdir}"):
                return stopped(stop[0], overwrite)
    return code


def stopped(reason: str, overwrite: bool) -> int:
    """Say how a stopped program goes on; return its exit code."""
    again = "the same command" + (" without --overwrite" if overwrite else "")
    print(f"{reason}: saved; {again} goes on from there", file=sys.stderr)
    return EXIT_CODES[reason]


def compile_for(entry: Entry, env: Env, make_learner: pack.MakeLearner) -> pack.Session:
    """Compile the programs of an entry."""
    print(f"compiling for batch size {entry.config.learner.batch_size} ...", file=sys.stderr)
    sizes = cast(Sizes, entry.sizes)
    return pack.Session(entry.config, env, make_learner, len(entry.runs), sizes)


def run_one(
    entry: Entry,
    session: Any,
    report: Callable,
    stop: list[str],
    *survivors: Survivors | None,
) -> dict[str, Any] | None:
    """Train one entry; write and return its `result.json` if it came to its end.

    session: an object whose `run(config, plan, runs, workdir, stop)` returns the facts.
    """
    online = "env_steps" in entry.config.train
    what = f"utd {entry.config.train.utd:g}" if online else entry.config.learner.name
    print(f"{what} -> {entry.workdir}", file=sys.stderr)
    own = entry.config, entry.plan, entry.runs, entry.workdir
    facts = session.run(*own, stop, *survivors)
    if facts["status"] != "done":
        return None
    path = entry.workdir / "result.json"

    def write() -> dict[str, Any]:
        found = report(entry, facts)
        write_json(path, found)
        return plain(found)

    return distributed.on_main(write, f"report {path}")


@contextmanager
def failures_recorded(workdir: Path) -> Iterator[None]:
    """Let `result.json` say "failed" when a run does; what the user typed wrong fails no run."""

    def record(message: str) -> None:
        write_json(workdir / "result.json", {"status": "failed", "message": message})

    distributed.record_failures(record)
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        # A lost machine fails no run either: launchers start all processes again.
        if distributed.is_main() and not distributed.by_peer(error):
            record(f"{type(error).__name__}: {error}")
        raise
    finally:
        distributed.record_failures(lambda message: None)
