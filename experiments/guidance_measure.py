"""How far samples are from a law that is known, with intervals over independent groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlx.guidance import Calls

BOOTSTRAP = 200
Draws = np.ndarray  # how often each group counts, [BOOTSTRAP, G]


def draws(groups: int) -> Draws:
    """Multiplicities of bootstrap samples of the groups; the first row counts each group once."""
    rng = np.random.default_rng(0)
    picks = rng.multinomial(groups, np.full(groups, 1 / groups), BOOTSTRAP)
    return np.concatenate([np.ones((1, groups), picks.dtype), picks])


def interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A statistic, values[0], and the 95 % interval of its bootstraps, the others, moved to it:
    distances of resampled groups are larger than those of the groups, however many there are.
    """
    low, high = np.quantile(values[1:], [0.025, 0.975]) - values[1:].mean() + values[0]
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def mean(name: str, x: np.ndarray) -> dict[str, float]:
    """Mean of groups `[G, ...]` and its interval."""
    own = np.asarray(x, np.float64).reshape(len(x), -1).mean(1)
    return interval(name, draws(len(own)) @ own / len(own))


def log_mean(name: str, log_z: np.ndarray) -> dict[str, float]:
    """log of the mean of exp(log_z) over groups, and its interval."""
    top = log_z.max()
    share = draws(len(log_z)) @ np.exp(log_z - top) / len(log_z)
    return interval(name, np.log(share) + top)


def gaussian_kl(x: np.ndarray, m: np.ndarray, C: np.ndarray) -> dict[str, float]:
    """KL of the Gaussian with the moments of x `[G, R, d]` to N(m, C)."""
    G, R, d = x.shape
    weights, x = draws(G), x.astype(np.float64)
    first = weights @ x.sum(1) / (G * R)
    second = (weights @ np.einsum("gri,grj->gij", x, x).reshape(G, -1)).reshape(-1, d, d) / (G * R)
    S = second - first[:, :, None] * first[:, None]
    inverse = np.linalg.inv(C)
    far = np.einsum("bi,ij,bj->b", first - m, inverse, first - m)
    spread = np.trace(inverse @ S, axis1=1, axis2=2) - d
    dets = np.linalg.slogdet(S)[1] - np.linalg.slogdet(C)[1]
    return interval("distance", 0.5 * (spread + far - dets))


def total_variation(index: np.ndarray, law: np.ndarray) -> dict[str, float]:
    """TV of the frequencies of `index [G, R]` to a law; few samples alone make it larger than 0."""
    weights = np.repeat(draws(len(index)), index.shape[1], axis=1)
    found = [np.bincount(index.ravel(), w, len(law)) / w.sum() for w in weights]
    return interval("distance", 0.5 * np.abs(np.array(found) - law).sum(1))


def total(calls: Calls, reward_cost: float = 1.0) -> float:
    """Calls in units of one forward of the model; a gradient is two."""
    return calls.model + calls.value + reward_cost * calls.reward + 2 * calls.gradient


def knob_for(budget: float, calls: Callable[[int], float]) -> int:
    """The largest n >= 1 with calls(n) <= budget, calls being linear in n; 0 if there is none."""
    one, two = calls(1), calls(2)
    return int((budget - one) / (two - one)) + 1 if one <= budget else 0
