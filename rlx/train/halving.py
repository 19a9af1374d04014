"""Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) over the runs of packs.

Rung 0 trains every setting for a short while; each later rung goes on with the best of them, from
where they stand, for longer. A rung is one pack: one compile, one workdir `rung_K`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from ml_collections import ConfigDict

from rlx.infra.errors import EXIT_OK, ConfigError
from rlx.infra.signals import agreed, stop_signals
from rlx.train import campaign, pack
from rlx.train.resume import Survivors
from rlx.types import Env

Point = Mapping[str, float]


class Rung(NamedTuple):
    """One round: how many settings it trains, and up to how many transitions."""

    settings: int
    env_steps: int


def rungs(settings: int, env_steps: int, count: int, eta: int) -> list[Rung]:
    """Return the rounds: `settings / eta**k` settings up to `env_steps / eta**(count - 1 - k)`.

    Raises ConfigError when fewer than two settings would enter the last round but one.
    """
    if eta < 2 or count < 1 or settings < eta ** (count - 1):
        raise ConfigError(
            f"search.points = {settings}, search.rungs = {count}, search.eta = {eta}: needs "
            "eta >= 2, rungs >= 1 and points >= eta ** (rungs - 1)"
        )
    return [
        Rung(math.ceil(settings / eta**k), math.ceil(env_steps / eta ** (count - 1 - k)))
        for k in range(count)
    ]


def check(
    config: ConfigDict,
    env: Env,
    make_learner: pack.MakeLearner,
    seeds: Sequence[int],
    points: Sequence[Point],
) -> list[Rung]:
    """Return the rounds, having refused, by rung, what could not be trained."""
    plan = rungs(len(points), config.train.env_steps, config.search.rungs, config.search.eta)
    for k, rung in enumerate(plan):
        own, some = at_rung(config, rung.env_steps), points[: rung.settings]
        try:
            campaign.make_entry(own, env, make_learner, seeds, some, Path(f"rung_{k}"))
        except ValueError as error:
            raise ConfigError(
                f"rung {k} of {len(plan)} (search.rungs, search.eta), {rung.env_steps} of "
                f"{config.train.env_steps} transitions: {error}"
            ) from error
    return plan


def best(returns: Sequence[float], seeds: int, keep: int) -> list[int]:
    """Return the `keep` best settings, best first, by their mean over seeds (seeds fastest); a
    setting with a seed that is not finite comes last.
    """
    means = np.asarray(returns, float).reshape(-1, seeds).mean(axis=1)
    order = np.argsort(-np.where(np.isfinite(means), means, -np.inf), kind="stable")
    return order[:keep].tolist()


def search(
    config: ConfigDict,
    env: Env,
    make_learner: pack.MakeLearner,
    seeds: Sequence[int],
    points: Sequence[Point],
    root: Path,
    report: Callable[[campaign.Entry, dict[str, Any]], dict[str, Any]],
    overwrite: bool = False,
    retry_failed: bool = False,
) -> tuple[int, list[Point]]:
    """Train all rungs that are not finished; return (exit code, the last rung's settings, best
    first).

    Args:
      report: entry, facts of `Session.run` -> `result.json`; `returns` and `ids` are added to it.
    """
    points, survivors = list(points), None
    with stop_signals() as stop:
        plan = rungs(len(points), config.train.env_steps, config.search.rungs, config.search.eta)
        for k, rung in enumerate(plan):
            own = at_rung(config, rung.env_steps)
            workdir = root / f"rung_{k}"
            entry = campaign.make_entry(own, env, make_learner, seeds, points, workdir)
            flags = {"overwrite": overwrite, "retry_failed": retry_failed}
            done = pack.claim(entry.config, entry.runs, workdir, **flags)
            if done is None:
                with campaign.failures_recorded(workdir):
                    session = campaign.compile_for(entry, env, make_learner)
                    done = campaign.run_one(entry, session, with_returns(report), stop, survivors)
            if agreed(stop, f"after {workdir}"):
                return campaign.stopped(stop[0], overwrite), points
            keep = plan[k + 1].settings if k + 1 < len(plan) else len(points)
            chosen = best(cast(dict[str, Any], done)["returns"], len(seeds), keep)
            rows = tuple(i * len(seeds) + s for i in chosen for s in range(len(seeds)))
            points = [points[i] for i in chosen]
            survivors = Survivors(workdir, len(entry.runs), rows)
    return EXIT_OK, points


def with_returns(report: Callable) -> Callable:
    """Add the last evaluation of every run, and their names, to a report."""

    def extended(entry: campaign.Entry, facts: dict[str, Any]) -> dict[str, Any]:
        dead = facts["dead"]
        last = zip(entry.runs, facts["evals"][-1]["return_"], strict=True)
        returns = [None if run.id in dead else value for run, value in last]
        names = [run.id for run in entry.runs]
        return {**report(entry, facts), "returns": returns, "ids": names}

    return extended


def at_rung(config: ConfigDict, env_steps: int) -> ConfigDict:
    """Return `config` cut to `env_steps`, with the ring and the events of the whole run."""
    own = ConfigDict(config.to_dict())
    total = config.train.env_steps
    own.data.capacity = config.data.capacity or min(1_000_000, total)
    own.train.log_every = config.train.log_every or max(1, math.ceil(total / 100))
    own.train.eval_every = config.train.eval_every or max(1, math.ceil(total / 40))
    own.train.env_steps = env_steps
    return own.lock()
