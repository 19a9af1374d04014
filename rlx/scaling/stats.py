"""Intervals and aggregate scores: percentile intervals of bootstrap samples, the t-stretch, IQM.

Few random seeds (4-10) make the plain percentile bootstrap too narrow: the variance of a resampled
mean is (S-1)/S of the unbiased one, and its tails are normal where the truth is Student's t (T.
Hesterberg, 'What Teachers Should Know About the Bootstrap', 2015: 'narrowness bias').
`resampled_means` returns both the plain resampled means and a *stretched* copy in which the
deviation from the sample mean is multiplied by sqrt(S / X), X ~ chi-square(S-1) drawn once per
replicate.  sqrt(S/(S-1)) of that repairs the variance and sqrt((S-1)/X) turns the near-normal
resampled mean into a near-t one with S-1 degrees of freedom.  The stretch is drawn per cell, so a
statistic of many cells gets its (milder) correction by itself.
"""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

MAX_FAILED = 0.2  # share of replicates that may fail before an interval is declared unavailable


def resampled_means(
    returns: np.ndarray, replicates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean curves of resampled random seeds, plain and t-stretched.

    Args:
      returns: [T, S], S >= 2 random seeds.
      replicates: K.
    Returns:
      plain [K, T] and stretched [K, T] (see the module's docstring).
    """
    num_seeds = returns.shape[1]
    counts = rng.multinomial(num_seeds, np.full(num_seeds, 1.0 / num_seeds), size=replicates)
    plain = (counts / num_seeds) @ returns.T
    stretch = np.sqrt(num_seeds / rng.chisquare(num_seeds - 1, size=(replicates, 1)))
    mean = returns.mean(axis=1)
    return plain, mean + stretch * (plain - mean)


def interval(samples: np.ndarray | None, level: float = 0.95) -> np.ndarray:
    """Percentile interval over the first axis.

    Replicates that failed (NaN) are left out; above 20 % of them, or without samples, the interval
    is NaN ('unavailable'), never zero width.

    Args:
      samples: [K, ...] or None.
    Returns:
      [..., 2] lower and upper end.
    """
    if samples is None:
        return np.full(2, np.nan)
    samples = np.asarray(samples, float)
    tail = (1.0 - level) / 2.0
    failed = np.isnan(samples).mean(axis=0)
    # Fill failures so that nanquantile never meets an all-NaN column; those are overwritten below.
    usable = np.where(failed >= 1.0, 0.0, samples)
    ends = np.nanquantile(usable, [tail, 1.0 - tail], axis=0)
    return np.moveaxis(np.where(failed > MAX_FAILED, np.nan, ends), 0, -1)


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean: mean of the middle 50 % of all scores (tasks x random seeds pooled).

    References: Agarwal et al., 'Deep RL at the Edge of the Statistical Precipice', 2021, section
    4.3.
    """
    return float(scipy_stats.trim_mean(np.ravel(scores), 0.25))


def iqm_interval(
    scores: list[np.ndarray], replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, np.ndarray]:
    """IQM over tasks x random seeds with a stratified bootstrap (seeds resampled within each task).

    Args:
      scores: one array [S_task] of final scores per task.
    Returns:
      the IQM and its interval [2]; NaN interval when a task has a single seed.
    """
    point = iqm(np.concatenate(scores))
    if min(len(s) for s in scores) < 2:
        return point, np.full(2, np.nan)
    rng = np.random.default_rng(seed)
    draws = [s[rng.integers(len(s), size=(replicates, len(s)))] for s in map(np.asarray, scores)]
    samples = scipy_stats.trim_mean(np.concatenate(draws, axis=1), 0.25, axis=1)
    return point, interval(samples, level)


def resample_tasks(num_tasks: int, replicates: int, seed: int) -> np.ndarray:
    """Indices [K, num_tasks] of the outer level of the two-level bootstrap (tasks with
    replacement)."""
    return np.random.default_rng([seed, 0x7A5C]).integers(num_tasks, size=(replicates, num_tasks))
