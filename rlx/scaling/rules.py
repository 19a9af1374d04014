"""Batch-size and learning-rate rules: y*(sigma) = value_at_1 * sigma ** slope, one slope for all
tasks.

    log10 y = slope * log10 sigma + intercept_task      (specification 3.1.1, 4.4)

The published form B* = (beta_B / sigma) ** alpha_B is the same with slope = -alpha_B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlx.scaling import published, stats
from rlx.scaling.errors import ScalingError, unknown

MIN_BATCH = 16  # smallest batch and the multiple batches are rounded to (specification 4.4.4)


def tabulated_batch(value: float) -> int:
    """Truncate to int, then to the nearest multiple of 16, at least 16."""
    return max(MIN_BATCH, MIN_BATCH * int(np.floor(int(value) / MIN_BATCH + 0.5)))


def tabulated_rate(value: float) -> float:
    """Round to 3 significant digits."""
    return float(f"{value:.2e}")


@dataclass(frozen=True)
class BestHparams:
    """Best hyper-parameters per (task, sigma).

    tasks [n], sigma [n], batch_size [n], learning_rate [n]; `batch_samples`, `rate_samples` [K, n]
    over bootstraps.
    """

    tasks: tuple[str, ...]
    sigma: np.ndarray
    batch_size: np.ndarray
    learning_rate: np.ndarray
    batch_samples: np.ndarray
    rate_samples: np.ndarray


def best_hparams(
    entries: Sequence[tuple[str, float, float, float, np.ndarray]], mean: str = "arithmetic"
):
    """Bootstrap-averaged best B and eta of every (task, sigma) at one level J (specification
    4.4.1-2).

    For each B the eta with the least D in every bootstrap, and for each eta the best B; B*_hat is
    the mean over (eta, bootstrap) of the best B, eta*_hat the mean over (B, bootstrap) of the best
    eta: a double average, not the joint argmin.  A row or column that never reaches J in a
    bootstrap has no best value and is left out of the mean (an argmin over infinities would return
    the first, smallest grid value).  Ties, common where D is rounded to the logging grid, share
    the vote for the same reason.

    Args:
      entries: (task, sigma, B, eta, D [K]) per cell; D in env steps, NaN = not reached.
      mean: 'arithmetic' (as published) or 'geometric'.
    Returns:
      BestHparams; values are NaN where nothing reaches J.
    """
    if mean not in ("arithmetic", "geometric"):
        raise ScalingError(f"mean='{mean}'; accepted: arithmetic, geometric")
    keys = sorted({(task, sigma) for task, sigma, *_ in entries})
    batch, rate = [], []
    for key in keys:
        own = [e for e in entries if (e[0], e[1]) == key]
        sizes, rates = sorted({e[2] for e in own}), sorted({e[3] for e in own})
        grid = np.full((len(own[0][4]), len(sizes), len(rates)), np.inf)
        for _, _, b, eta, d in own:
            grid[:, sizes.index(b), rates.index(eta)] = np.where(np.isnan(d), np.inf, d)
        batch.append(_best_along(grid, np.array(sizes), axis=1, mean=mean))
        rate.append(_best_along(grid, np.array(rates), axis=2, mean=mean))
    batch_samples, rate_samples = np.stack(batch, axis=1), np.stack(rate, axis=1)
    return BestHparams(
        tuple(k[0] for k in keys),
        np.array([k[1] for k in keys]),
        _mean(batch_samples, 0, mean),
        _mean(rate_samples, 0, mean),
        batch_samples,
        rate_samples,
    )


def _best_along(grid: np.ndarray, values: np.ndarray, axis: int, mean: str) -> np.ndarray:
    """[K] mean over the other axis of the value with the least D in `grid` [K, nB, nEta]."""
    least = grid.min(axis=axis, keepdims=True)
    shape = [1, 1, 1]
    shape[axis] = len(values)
    winners = np.where((grid == least) & np.isfinite(least), values.reshape(shape), np.nan)
    best = _mean(winners, axis, mean)
    return _mean(best, 1, mean)


def _mean(x: np.ndarray, axis: int, mean: str) -> np.ndarray:
    """NaN-aware mean that gives NaN (and no warning) where everything is NaN."""
    x = np.log(x) if mean == "geometric" else x
    seen = ~np.isnan(x)
    count = seen.sum(axis=axis)
    total = np.where(seen, x, 0.0).sum(axis=axis)
    out = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.exp(out) if mean == "geometric" else out


@dataclass(frozen=True)
class Rule:
    """y*(sigma) = value_at_1[task] * sigma ** slope.

    slope, r2 floats; value_at_1 {task: float}; slope_samples [K] and value_samples {task: [K]} or
    None.
    """

    slope: float
    value_at_1: dict[str, float]
    r2: float = np.nan
    slope_samples: np.ndarray | None = None
    value_samples: dict[str, np.ndarray] | None = None

    def slope_ci(self, level: float = 0.95) -> np.ndarray:
        """[2] interval of the slope; NaN when unavailable."""
        return stats.interval(self.slope_samples, level)

    def pooled(self, mean: str = "arithmetic") -> float:
        """Value at sigma = 1 over tasks; the arithmetic mean of power laws of one slope is one
        (4.7)."""
        return float(_mean(np.array(list(self.value_at_1.values())), 0, mean))

    def pooled_samples(self) -> np.ndarray | None:
        """[K] arithmetic mean over tasks of the value at sigma = 1."""
        if self.value_samples is None:
            return None
        return np.mean(list(self.value_samples.values()), axis=0)


def fit_rule(
    sigma: np.ndarray,
    y: np.ndarray,
    task: Sequence[str] | np.ndarray,
    samples: np.ndarray | None = None,
) -> Rule:
    """Shared-slope regression of log10 y on log10 sigma with one intercept per task (4.4.3).

    Closed form: centre both per task; slope = sum(xc * yc) / sum(xc * xc).

    Args:
      sigma, y: [n] UTD and best value (NaN rows are dropped).
      task: [n].
      samples: [K, n] bootstrap values of y for the intervals.
    """
    sigma, y = np.asarray(sigma, float), np.asarray(y, float)
    keep = np.isfinite(y)
    names = np.asarray(task)[keep]
    if len(np.unique(sigma[keep])) < 3:
        found = ", ".join(f"{s:g}" for s in np.unique(sigma[keep]))
        raise ScalingError(
            f"the rule fit needs >= 3 UTDs, got {len(np.unique(sigma[keep]))}: {found}"
        )
    x = np.log10(sigma[keep])
    slope, values, r2 = _shared_line(x, np.log10(y[keep])[None], names)
    tasks = sorted(set(names.tolist()))
    point = dict(zip(tasks, values[0].tolist()))
    if samples is None or not np.isfinite(samples[:, keep]).any():
        return Rule(float(slope[0]), point, float(r2[0]))
    slopes, value_samples, _ = _shared_line(x, np.log10(samples[:, keep]), names)
    return Rule(float(slope[0]), point, float(r2[0]), slopes, dict(zip(tasks, value_samples.T)))


def _shared_line(x: np.ndarray, y: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, ...]:
    """x [n], y [K, n] -> slope [K], value at 1 [K, n_tasks] (tasks sorted), R2 [K] about the task
    means."""
    tasks = sorted(set(names.tolist()))
    member = np.array([[n == t for n in names] for t in tasks], float)
    member /= member.sum(axis=1, keepdims=True)
    x_mean, y_mean = member @ x, y @ member.T
    own = np.array([tasks.index(n) for n in names])
    xc, yc = x - x_mean[own], y - y_mean[:, own]
    total = (yc**2).sum(axis=1)
    # A constant y leaves rounding residue of 1e-16 per point: its slope is 0, not noise.
    slope = np.where(total > 1e-24, yc @ xc / (xc @ xc), 0.0)
    total = np.where(total > 1e-24, total, np.nan)
    residual = ((yc - slope[:, None] * xc) ** 2).sum(axis=1)
    return slope, 10.0 ** (y_mean - slope[:, None] * x_mean), 1.0 - residual / total


def tabulate(
    batch: Rule, rate: Rule, sigmas: Sequence[float] = (0.25, 0.5, 1, 2, 4, 8, 16)
) -> list[dict]:
    """Ready-to-run hyper-parameters per task and sigma, with neighbours at factors sqrt(2),
    sqrt(1/2) (4.4.4)."""
    out = []
    for task in batch.value_at_1:
        for s in sigmas:
            b, eta = batch.value_at_1[task] * s**batch.slope, rate.value_at_1[task] * s**rate.slope
            out.append({
                "task": task,
                "utd": float(s),
                "batch_size": tabulated_batch(b),
                "learning_rate": tabulated_rate(eta),
                "batch_size_neighbours": [tabulated_batch(b * f) for f in (0.5**0.5, 2**0.5)],
                "learning_rate_neighbours": [tabulated_rate(eta * f) for f in (0.5**0.5, 2**0.5)],
            })  # fmt: skip
    return out


@dataclass(frozen=True)
class PublishedRule:
    """A published pair of rules: continuous coefficients and the tabulated (rounded)
    recommendations."""

    batch_at_1: float
    batch_slope: float
    rate_at_1: float
    rate_slope: float
    source: str

    def batch_size(self, utd: float) -> int:
        """Recommended batch size: a multiple of 16, at least 16."""
        return tabulated_batch(self.batch_at_1 * utd**self.batch_slope)

    def learning_rate(self, utd: float) -> float:
        """Recommended learning rate of actor and critic, 3 significant digits."""
        return tabulated_rate(self.rate_at_1 * utd**self.rate_slope)


def published_rule(
    benchmark: str = "dmc", task: str | None = None, slope_type: str = "shared"
) -> PublishedRule:
    """The published rule of one task, or pooled over the benchmark's tasks.

    Pooling: arithmetic mean over tasks of the batch size (as the published code does for the
    compute axis) and geometric mean of the learning rate, whose optimum is a scale (eta differs by
    a factor 12 between Gym tasks).

    Args:
      benchmark: 'dmc' (BRO) or 'gym' (SAC).
      task: a task of the benchmark, or None to pool.
      slope_type: 'shared' (recommended by the authors) or 'separate' (one slope per task; needs
        `task`).
    """
    published.benchmark(benchmark)
    if slope_type not in ("shared", "separate"):
        raise ScalingError(f"slope_type='{slope_type}'; accepted: shared, separate")
    if slope_type == "separate" and task is None:
        raise ScalingError("separate slopes cannot be pooled; give a task")
    rows = [
        r for r in published.rows("hparam_rules.csv")
        if r["benchmark"] == benchmark and r["slope_type"] == slope_type
    ]  # fmt: skip
    tasks = sorted({r["task"] for r in rows})
    if task is not None and task not in tasks:
        raise unknown(f"{benchmark} task", task, tasks)
    rows = [r for r in rows if task in (None, r["task"])]

    def pool(quantity: str, mean: str) -> tuple[float, float]:
        own = [r for r in rows if r["quantity"] == quantity]
        values = np.array([float(r["value_at_utd1"]) for r in own])
        return float(_mean(values, 0, mean)), float(own[0]["utd_exponent"])

    who = task or f"mean of {len(tasks)} tasks"
    source = (
        f"Rybkin et al. 2025 (prestonfu/qscaled), {benchmark} {rows[0]['algo']}, {who}, "
        f"{slope_type} slope"
    )
    return PublishedRule(
        *pool("batch_size", "arithmetic"), *pool("learning_rate", "geometric"), source
    )
