"""From learning curves to D_J, the env steps until the monotone mean curve first reaches J.

    D_J = first logged step t with iso(mean over seeds)(t) >= J            (specification 4.3)

iso is the L2 isotonic (non-decreasing) regression.  Its super-level set {iso >= J} starts where the
prefix sum P_J[t] = sum_{u < t} (y_u - J) is least (first minimiser; Barlow et al., 'Statistical
Inference under Order Restrictions', 1972), so a crossing needs one cumulative sum and
one argmin and no pooling: this is what makes thousands of bootstrap curves cheap.  `isotonic` is
the plain pool-adjacent-violators form for plots.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from rlx.scaling import stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.runs import load_runs

__all__ = ["Crossings", "crossings", "final_means", "isotonic", "load_runs", "reset_filter"]


def isotonic(y: np.ndarray) -> np.ndarray:
    """Non-decreasing L2 regression with equal weights by pool-adjacent-violators, O(T) per curve.

    Args:
      y: [T] or [K, T], finite.
    Returns:
      the fit, same shape.
    """
    y = np.asarray(y, float)
    if y.ndim == 2:
        return np.stack([isotonic(row) for row in y]) if len(y) else y
    totals: list[float] = []
    sizes: list[int] = []
    for value in y.tolist():
        total, size = value, 1
        while (
            totals and totals[-1] * size >= total * sizes[-1]
        ):  # previous block's mean >= this one's
            total += totals.pop()
            size += sizes.pop()
        totals.append(total)
        sizes.append(size)
    return np.repeat(np.divide(totals, sizes), sizes)


@dataclass(frozen=True)
class Crossings:
    """First crossings of nJ thresholds, in env steps (NaN: not reached).

    point [nJ]: of the mean over all random seeds.
    samples [K, nJ]: of plain bootstrap means; all NaN with one random seed.
    stretched [K, nJ]: of t-stretched bootstrap means (`rlx.scaling.stats`), the basis of every
    interval.
    """

    point: np.ndarray
    samples: np.ndarray
    stretched: np.ndarray
    num_seeds: int

    @property
    def std(self) -> np.ndarray:
        """[nJ] standard deviation over the bootstrap samples that cross; NaN when unavailable."""
        out = np.full(self.point.shape, np.nan)
        seen = (~np.isnan(self.samples)).sum(axis=0) >= 2
        out[seen] = np.nanstd(self.samples[:, seen], axis=0)
        return out

    @property
    def nan_fraction(self) -> np.ndarray:
        """[nJ] share of bootstrap means that never reach J (with one seed: 0 or 1)."""
        if self.num_seeds < 2 or len(self.samples) == 0:
            return np.isnan(self.point).astype(float)
        return np.isnan(self.samples).mean(axis=0)

    def interval(self, level: float = 0.95) -> np.ndarray:
        """[nJ, 2] interval of D_J; an end beyond the run is inf; NaN with one random seed."""
        if self.num_seeds < 2 or len(self.stretched) == 0:
            return np.full((len(self.point), 2), np.nan)
        ranked = np.sort(np.where(np.isnan(self.stretched), np.inf, self.stretched), axis=0)
        tail = (1.0 - level) / 2.0
        last = len(ranked) - 1
        return np.stack(
            [ranked[int(tail * last)], ranked[int(np.ceil((1.0 - tail) * last))]], axis=-1
        )


def crossings(
    steps: np.ndarray,
    returns: np.ndarray,
    thresholds: np.ndarray,
    bootstrap: int = 1000,
    seed: int | list[int] = 0,
    interpolate: bool = False,
) -> Crossings:
    """Env steps at which the isotonic mean curve first reaches each threshold, with a bootstrap
    over seeds.

    Args:
      steps: [T] env steps, strictly increasing.
      returns: [T, S] finite returns of S random seeds.
      thresholds: [nJ] levels J, in the unit of `returns`.
      bootstrap: K resamples of the random seeds.
      seed: of the bootstrap.
      interpolate: linear between the two logged points around the crossing; default is the later
        logged point (as in the reference code), which is late by half a logging interval on
        average.
    """
    steps, returns = np.asarray(steps, float), np.asarray(returns, float)
    levels = np.atleast_1d(np.asarray(thresholds, float))
    if returns.ndim != 2 or steps.shape != returns.shape[:1] or not len(steps):
        raise ScalingError(
            f"need steps [T] and returns [T, S]; got {steps.shape} and {returns.shape}"
        )
    if np.any(np.diff(steps) <= 0) or not np.isfinite(returns).all():
        raise ScalingError("steps must increase strictly and returns must be finite")
    point = _first_reach(steps, returns.mean(axis=1)[None], levels, interpolate)[0]
    num_seeds = returns.shape[1]
    if num_seeds < 2:
        empty = np.full((bootstrap, len(levels)), np.nan)
        return Crossings(point, empty, empty, num_seeds)
    plain, stretched = stats.resampled_means(returns, bootstrap, np.random.default_rng(seed))
    return Crossings(
        point,
        _first_reach(steps, plain, levels, interpolate),
        _first_reach(steps, stretched, levels, interpolate),
        num_seeds,
    )


def _first_reach(
    steps: np.ndarray, means: np.ndarray, levels: np.ndarray, interpolate: bool
) -> np.ndarray:
    """[K, nJ] crossing steps of the isotonic fits of `means` [K, T] (NaN: never)."""
    out = np.empty((len(means), len(levels)))
    prefix = np.zeros((len(means), len(steps) + 1))
    for j, level in enumerate(levels):
        np.cumsum(means - level, axis=1, out=prefix[:, 1:])
        start = prefix.argmin(axis=1)
        late = np.append(steps, np.nan)[start]
        out[:, j] = late if not interpolate else _between(steps, prefix, start, late)
    return out


def _between(
    steps: np.ndarray, prefix: np.ndarray, start: np.ndarray, late: np.ndarray
) -> np.ndarray:
    """Linear crossing between the last point below J and the first at or above it.

    With P = `prefix` [K, T+1] of y - J, the isotonic value minus J is the least slope of P leaving
    `start` on its right and the greatest slope of P entering it on its left (the fit is the
    greatest convex minorant of P).
    """
    at = np.take_along_axis(prefix, start[:, None], axis=1)
    index = np.arange(prefix.shape[1])
    gap = index - start[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (prefix - at) / gap
    above = np.where(gap > 0, slope, np.inf).min(axis=1)  # >= 0; inf when never reached
    below = np.where(gap < 0, slope, -np.inf).max(
        axis=1
    )  # < 0; -inf when reached at the first point
    inside = np.isfinite(above) & np.isfinite(below)
    width = np.zeros(len(start))
    width[inside] = np.diff(steps)[start[inside] - 1]
    share = np.zeros(len(start))
    share[inside] = above[inside] / (above[inside] - below[inside])
    return late - share * width


def ratio_interval(mine: np.ndarray, base: np.ndarray, length: float) -> tuple[float, float]:
    """95 % interval of mine / base over bootstrap samples; where the level is not reached, mine is
    infinite and the base its whole `length`: both against a small ratio.
    """
    over, under = np.where(np.isnan(mine), np.inf, mine), np.where(np.isnan(base), length, base)
    low, high = np.quantile(over / under, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def final_means(returns: np.ndarray) -> tuple[float, float]:
    """First and last value of the isotonic mean curve of `returns` [T, S]: its least and greatest
    value."""
    fit = isotonic(np.asarray(returns, float).mean(axis=1))
    return float(fit[0]), float(fit[-1])


def reset_filter(
    steps: np.ndarray,
    mean: np.ndarray,
    utd: float,
    reset_grad_steps: float,
    name: str,
    window: int = 0,
) -> np.ndarray:
    """Logged points to keep after dropping the relearning stretch that follows each network reset
    (4.2).

    Resets fall at env steps k * int(reset_grad_steps / utd).  After each, points are dropped until
    the mean return is again at least the last mean before the reset; a segment that never recovers
    is dropped whole.  Whether the evaluation logged exactly at a reset came before or after it is
    unknown, so both readings are tried and the one whose mean return drops more at the resets (in
    total) is kept.

    Args:
      steps, mean: [T].
      window: points skipped unconditionally at the start of each later segment (VSP 1, COS 0).
    Returns:
      keep [T] bool; all True when no reset falls inside the run.
    """
    period = int(reset_grad_steps / utd)
    if period < 1:
        raise ScalingError(
            f"reset_grad_steps={reset_grad_steps:g} is less than one env step at utd={utd:g}"
        )
    at = np.arange(period, steps[-1] + 1, period)
    if not len(at):
        return np.ones(len(steps), bool)
    starts = [np.searchsorted(steps, at, side=side) for side in ("left", "right")]
    starts = [found[(found > 0) & (found < len(mean))] for found in starts]
    before, after = (float(np.sum(mean[found - 1] - mean[found])) for found in starts)
    keep = _keep_recovered(mean, starts[0] if before > after else starts[1], window)
    if not keep.any():
        raise ScalingError(f"the reset filter leaves no points of {name}")
    return keep


def _keep_recovered(mean: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Mask [T] of the points that `reset_filter` keeps when segments start at the indices
    `starts`."""
    keep = np.ones(len(mean), bool)
    edges = [*sorted({int(i) for i in starts}), len(mean)]
    for begin, end in itertools.pairwise(edges):
        keep[begin : min(begin + window, end)] = False
        candidates = np.arange(min(begin + window, end), end)
        recovered = mean[candidates] >= mean[begin - 1]
        first = int(recovered.argmax()) if recovered.any() else len(candidates)
        keep[candidates[:first]] = False
    return keep
