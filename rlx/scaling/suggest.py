"""Which runs to do next: those that shrink the interval of the wanted prediction most (spec 13.6).

Over the bootstrap replicates the target T (say log sigma*(F)) and what a candidate run would
measure, y (log D at a few levels), are jointly near-normal.  Measuring y with noise covariance V
then lowers var T by (Bayesian linear update)

    cov(T, y) (cov(y) + V)^-1 cov(y, T)

Candidates: more random seeds of a measured configuration of one task, y being that cell's own
crossings; and new UTDs (and model sizes) between and around the measured ones, run on every task,
y being the fitted law's prediction there.  Several runs are chosen one after the other, each given
the ones before.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import commands, forecast, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.forecast import Forecast
from rlx.scaling.recommend import recommend
from rlx.scaling.result import samples_of

LEVELS = 3  # of the crossings that stand for a run; more add sampling noise, not information
MIN_REPLICATES = 50
RIDGE = 1e-9  # of the mean variance, for levels that coincide
FLAT = 1e-8  # variance of a log target below which there is nothing to learn
TARGETS = ("utd", "size", "data")
ORDERS = ("shrink", "cost")


@dataclass
class Candidate:
    """One thing to run.  at: {'utd'[, 'size']}; task: None for all tasks; y [K, L]; noise [L, L] of
    one random seed; cost of one seed, in the unit of budgets; outside: of the measured range."""

    kind: str
    at: dict[str, float]
    task: str | None
    y: np.ndarray = field(repr=False)
    noise: np.ndarray = field(repr=False)
    cost: float
    outside: bool


def suggest(
    result: dict,
    total_budget: float | None = None,
    runs: int = 5,
    target: str = "utd",
    by: str = "shrink",
    seeds: int | None = None,
    axis: str = "auto",
    run_config: str | None = None,
) -> dict:
    """Rank the next runs by how much they are expected to narrow the 95 % interval of a target.

    Args:
      result: of `report` or `load`, with bootstrap samples.
      total_budget: F at which the prediction is wanted; None: the middle of the fitted optima.
      runs: how many to choose, greedily.
      target: 'utd' (sigma*(F)), 'size' (N*(F)) or 'data' (D of the level reached, at the
        recommended settings).
      by: 'shrink' (narrowest interval) or 'cost' (most variance removed per unit of budget).
      seeds: random seeds per run; None: as many as the sweep had.
      run_config: the sweep's config for the commands, such as configs/scaling_laws.py:study.
    Returns:
      dict with `budget`, `target`, `interval` (now), `factor` (its upper over lower end) and
      `runs`: per chosen run what it is, its cost, `factor_after` (expected, all runs so far done)
      and command lines; `single`: the same gain for every candidate alone, best first.
    """
    _check(result, runs, target, by, seeds)
    f = forecast.forecast(result, None, axis)
    if target == "size" and f.axis != "size":
        raise ScalingError("target=size: this fit has no model-size axis")
    if total_budget is None:
        total_budget = float(np.exp(np.mean(np.log([o.budget for o in f.known]))))
    advice = recommend(result, total_budget, None, f.axis)
    seeds = seeds or result["config"]["seeds"]
    T = _target(f, advice, target)
    candidates = _candidates(result, f)
    good = np.isfinite(T) & np.isfinite([c.y for c in candidates]).all(axis=(0, 2))
    if good.sum() < MIN_REPLICATES:
        raise ScalingError(
            f"only {good.sum()} bootstrap replicates have the target and every candidate; fit with "
            f"--bootstrap=1000 or more levels (needs {MIN_REPLICATES})"
        )
    variance = float(T[good].var())
    if not variance > FLAT:
        raise ScalingError(
            f"the {target} of nearly every bootstrap replicate is at the same edge of the measured "
            "range, so no interval can shrink: first run beyond it, or change delta or --budget"
        )
    order = _greedy(T[good], [c.y[good] for c in candidates], candidates, seeds, runs, by)
    alone = _gains(_covariance(T[good], [c.y[good] for c in candidates]), candidates, seeds,
                   good.sum())  # fmt: skip
    interval = np.exp(stats.interval(T[good]))
    factor = float(interval[1] / interval[0])

    def entry(c: Candidate, left: float) -> dict:
        return _entry(result, f, c, seeds, left, variance, factor, run_config)

    chosen = [entry(candidates[i], left) for i, left in order]
    single = [entry(c, variance - gain) for c, gain in zip(candidates, alone)]
    single.sort(key=lambda e: e["factor_after"])
    return {
        "budget": total_budget, "unit": result["config"]["unit"], "target": target, "by": by,
        "seeds": seeds, "interval": interval.tolist(), "factor": factor, "runs": chosen,
        "single": single, "flags": advice["flags"],
    }  # fmt: skip


def _check(result: dict, runs: int, target: str, by: str, seeds: int | None) -> None:
    for name, value, accepted in (("target", target, TARGETS), ("by", by, ORDERS)):
        if value not in accepted:
            raise ScalingError(f"{name}='{value}'; accepted: {', '.join(accepted)}")
    if runs < 1 or (seeds is not None and seeds < 1):
        raise ScalingError(f"runs={runs}, seeds={seeds}; both must be >= 1")
    if not samples_of(result):
        raise ScalingError(
            "this fit has no bootstrap samples (samples.npz): fit a table with >= 2 random seeds "
            "per configuration and bootstrap > 1"
        )


def _target(f: Forecast, advice: dict, target: str) -> np.ndarray:
    """[K] log of the wanted prediction over the bootstrap."""
    if target in ("utd", "size"):
        drawn = f.replicates(target, advice["budget"])
    else:
        at = {name: advice[name] for name in f.box}
        _, D = f.data(at)
        J = f.levels[-1] if advice["J"] is None else advice["J"]
        drawn = None if D is None else D[:, int(np.abs(f.levels - J).argmin())]
    if drawn is None:
        raise ScalingError("the target has no bootstrap samples; see the warnings of the fit")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(drawn)


def _candidates(result: dict, f: Forecast) -> list[Candidate]:
    samples = samples_of(result)
    prefix = "" if f.axis == "utd" else "size/"
    log_D = samples[f"{prefix}log_D"].astype(float)  # [K, n_task, P, nJ]
    log_pooled = samples[f"{prefix}log_pooled"].astype(float)
    points = _points(result, f)
    levels = np.unique(np.linspace(0, len(f.levels) - 1, min(LEVELS, len(f.levels))).round())
    levels = levels.astype(int)
    by_utd = f.axis == "utd"
    tasks = result["config"]["tasks"] if by_utd else result["size_axis"]["all_tasks"]
    scale = commands.task_scale(result, f)
    had = result["config"]["seeds"]
    out = []
    for i, task in enumerate(tasks):
        for p, at in enumerate(points):
            y = log_D[:, i, p][:, levels]
            if task not in scale or np.isnan(y).mean() > stats.MAX_FAILED:
                continue
            spread = np.atleast_2d(np.cov(y[np.isfinite(y).all(axis=1)].T))
            out.append(
                Candidate(
                    "more seeds", at, task, _filled(y), had * spread, _cost(f, at, scale[task]),
                    False,
                )
            )  # fmt: skip
    pooled = [log_pooled[:, p][:, levels] for p in range(len(points))]
    spreads = [np.atleast_2d(np.cov(y[np.isfinite(y).all(axis=1)].T)) for y in pooled]
    noise = had * np.nanmean(spreads, axis=0)
    for at in _new_points(points, f):
        _, D = f.data(at)
        if D is None:
            continue
        outside = any(not f.box[n][0] <= v <= f.box[n][1] for n, v in at.items())
        cost = sum(_cost(f, at, s) for s in scale.values())
        with np.errstate(invalid="ignore", divide="ignore"):
            y = np.log(D[:, levels])
        out.append(Candidate("new point", at, None, y, noise, cost, outside))
    return out


def _filled(y: np.ndarray) -> np.ndarray:
    """A replicate in which a cell misses a level says nothing about it: the mean stands in, so that
    other cells' replicates need not be thrown away."""
    seen = np.isfinite(y)
    mean = np.where(seen, y, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, y, mean)


def _points(result: dict, f: Forecast) -> list[dict[str, float]]:
    """The measured points in the order of the samples' axis."""
    if f.axis == "utd":
        return [{"utd": u} for u in result["config"]["utds"]]
    table = result["size_axis"]["table"]
    return [{"utd": r["utd"], "size": r["size"]} for r in table if r["J"] == table[0]["J"]]


def _new_points(points: list[dict], f: Forecast) -> list[dict[str, float]]:
    """Geometric midpoints between the measured values of one variable, and a factor 2 beyond both
    ends, at the measured values of the other."""
    out = []
    for name in f.box:
        values = sorted({p[name] for p in points})
        new = [float(np.sqrt(a * b)) for a, b in itertools.pairwise(values)]
        new = [values[0] / 2, *new, values[-1] * 2]
        rest = {tuple((k, v) for k, v in p.items() if k != name) for p in points}
        for other in sorted(rest):
            for value in new:
                at = dict(other) | {name: value}
                out.append({n: at[n] for n in f.box})
    return out


def _cost(f: Forecast, at: dict[str, float], scale: float) -> float:
    """Budget of one seed of one task to the top level."""
    return float(f.data(at)[0][-1]) * scale * f.cost(at)


def _covariance(T: np.ndarray, ys: list[np.ndarray]) -> np.ndarray:
    return np.cov(np.concatenate([T[:, None], *ys], axis=1).T)


def _blocks(ys: list[np.ndarray]) -> list[slice]:
    ends = 1 + np.cumsum([y.shape[1] for y in ys])
    return [slice(end - y.shape[1], end) for end, y in zip(ends, ys)]


def _gains(cov: np.ndarray, candidates: list[Candidate], seeds: int, replicates: int) -> np.ndarray:
    """Expected decrease of var T by each candidate alone, less what chance correlations of so many
    replicates would give."""
    gains = []
    for c, own in zip(candidates, _blocks([c.y for c in candidates])):
        to = cov[0, own]
        r2 = float(to @ np.linalg.solve(_noisy(cov[own, own], c, seeds), to)) / cov[0, 0]
        spare = c.y.shape[1] / max(replicates - c.y.shape[1] - 1, 1)
        gains.append(max(0.0, r2 - (1.0 - r2) * spare) * cov[0, 0])
    return np.array(gains)


def _noisy(cov: np.ndarray, c: Candidate, seeds: int) -> np.ndarray:
    total = cov + c.noise / seeds
    return total + RIDGE * np.trace(total) / len(total) * np.eye(len(total))


def _greedy(
    T: np.ndarray, ys: list, candidates: list[Candidate], seeds: int, runs: int, by: str
) -> list[tuple[int, float]]:
    """(candidate, var T left after it and the ones before) of the chosen runs."""
    cov, blocks, out = _covariance(T, ys), _blocks(ys), []
    costs = np.array([c.cost for c in candidates])
    taken: list[int] = []
    for _ in range(min(runs, len(candidates))):
        gains = _gains(cov, candidates, seeds, len(T))
        gains[taken] = 0.0  # its command would repeat the same seeds
        score = gains if by == "shrink" else gains / costs
        best = int(score.argmax())
        if gains[best] <= 0:
            break
        taken.append(best)
        own = blocks[best]
        cross = cov[:, own]
        cov = cov - cross @ np.linalg.solve(_noisy(cov[own, own], candidates[best], seeds), cross.T)
        out.append((best, float(cov[0, 0])))
    return out


def _entry(
    result: dict, f: Forecast, c: Candidate, seeds: int, left: float, variance: float,
    factor: float, run_config: str | None,
) -> dict:  # fmt: skip
    top = float(f.data(c.at)[0][-1])
    first, which = 0, f"--seeds={seeds}"
    if c.task is not None:  # more seeds
        first = result["config"]["next_seed"]
        which = f"--seed={','.join(str(first + i) for i in range(seeds))}"
        todo = [commands.measured(result, f, c.at, c.task)]
    else:
        scale = commands.task_scale(result, f)
        todo = [commands.fresh(result, f, c.at, task, top) for task in scale]
    lines = [
        commands.command(
            result, run, run_config, commands.workdir(result, run, first, seeds), which
        )
        for run in todo
    ]
    share = np.sqrt(max(left, 0.0) / variance)
    return {
        "kind": c.kind, "task": c.task, "utd": c.at["utd"], "size": c.at.get("size"),
        "seeds": seeds, "outside": c.outside, "cost": c.cost * seeds,
        "shrink": float(1.0 - share), "factor_after": float(factor**share), "commands": lines,
    }  # fmt: skip
