"""The data law D_J(sigma) = Dmin + (beta / sigma) ** alpha, in env steps (Rybkin et al., 2025;
specification 3.1.2).

`k = beta ** alpha` is kept beside beta: k is what the fit determines, beta = k ** (1 / alpha) may
be huge for a small alpha.  Dmin and alpha trade off strongly with 4-6 UTDs: read the interval of
the *prediction* first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import separable, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.size_law import SizeLaw, fit_data_size

__all__ = ["PowerLaw", "SizeLaw", "check_utds", "fit_data", "fit_data_size", "pool"]

UNIDENTIFIED_FACTOR = (
    5.0  # a coefficient whose 95 % interval spans more is 'unidentified' (specification 4.8)
)
COEFFICIENTS = ("Dmin", "beta", "alpha")


@dataclass(frozen=True)
class PowerLaw:
    """D(sigma) = Dmin + (beta / sigma) ** alpha; Dmin in env steps, beta in UTD units of (env
    steps)**(1/alpha).

    samples: {'Dmin', 'k', 'alpha'} -> [K] bootstrap coefficients, or None (intervals unavailable).
    flags: 'no_utd_gain' (beta = 0: D does not fall with sigma; alpha is NaN), 'alpha_at_bound',
    'Dmin_fixed_0'.
    loss: of the fit, in its own units.
    """

    Dmin: float
    k: float
    alpha: float
    loss: float = np.nan
    flags: tuple[str, ...] = ()
    samples: dict[str, np.ndarray] | None = field(default=None, repr=False)

    @property
    def beta(self) -> float:
        """k ** (1 / alpha); 0 when there is no gain from sigma; inf if beyond float range."""
        return float(_beta(np.array(self.k), np.array(self.alpha)))

    def predict(self, sigma: np.ndarray | float) -> np.ndarray:
        """Env steps at sigma [...] -> [...]."""
        return _predict(self.Dmin, self.k, self.alpha, np.asarray(sigma, float))

    def predict_samples(self, sigma: np.ndarray) -> np.ndarray | None:
        """[K, n] bootstrap predictions at sigma [n], or None."""
        if self.samples is None:
            return None
        dmin, k, alpha = (self.samples[name][:, None] for name in ("Dmin", "k", "alpha"))
        return _predict(dmin, k, alpha, np.asarray(sigma, float)[None])

    def predict_ci(self, sigma: np.ndarray, level: float = 0.95) -> np.ndarray:
        """[n, 2] interval of the prediction at sigma [n]; NaN when unavailable."""
        samples = self.predict_samples(sigma)
        return (
            np.full((len(sigma), 2), np.nan) if samples is None else stats.interval(samples, level)
        )

    def ci(self, name: str, level: float = 0.95) -> np.ndarray:
        """[2] interval of 'Dmin', 'beta' or 'alpha'; NaN when unavailable."""
        if name not in COEFFICIENTS:
            raise ScalingError(f"no coefficient '{name}'; accepted: {', '.join(COEFFICIENTS)}")
        if self.samples is None:
            return np.full(2, np.nan)
        if name == "beta":
            return stats.interval(_beta(self.samples["k"], self.samples["alpha"]), level)
        return stats.interval(self.samples[name], level)

    def unidentified(self) -> dict[str, bool]:
        """Which coefficients have a 95 % interval that spans more than a factor 5 (or that touches
        0)."""
        out = {}
        for name in COEFFICIENTS:
            low, high = self.ci(name)
            # `not <=` so that an unavailable interval (NaN) counts as unidentified.
            out[name] = bool(not high <= UNIDENTIFIED_FACTOR * low)
        return out


def _beta(k: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(k > 0, np.exp(np.log(k) / alpha), np.where(k == 0, 0.0, np.nan))


def _predict(dmin, k, alpha, sigma) -> np.ndarray:
    """Dmin + k * sigma ** -alpha, where k = 0 makes alpha (NaN) irrelevant."""
    with np.errstate(over="ignore"):
        return dmin + k * sigma ** -np.where(np.asarray(k) > 0, alpha, 1.0)


def check_utds(sigma: np.ndarray, three_utds: str = "fix") -> bool:
    """Refuse fewer than 3 UTDs; for exactly 3 return whether Dmin is held at 0, or refuse if asked
    to."""
    distinct = np.unique(sigma)
    listed = ", ".join(f"{s:g}" for s in distinct)
    if three_utds not in ("fix", "refuse"):
        raise ScalingError(f"three_utds='{three_utds}'; accepted: fix (Dmin = 0), refuse")
    if len(distinct) < 3:
        raise ScalingError(f"the data law needs >= 3 UTDs, got {len(distinct)}: {listed}")
    if len(distinct) == 3 and three_utds == "refuse":
        raise ScalingError(
            f"3 UTDs ({listed}) cannot determine Dmin, beta and alpha; add a UTD or fix Dmin at 0"
        )
    return len(distinct) == 3


def fit_data(
    sigma: np.ndarray,
    D: np.ndarray,
    samples: np.ndarray | None = None,
    loss: str = "mse",
    weights: np.ndarray | None = None,
    three_utds: str = "fix",
) -> PowerLaw:
    """Fit one data law and, from bootstrap samples of D, its intervals.

    Args:
      sigma: [n] UTDs.
      D: [n] env steps to reach J (NaN: not reached, left out).
      samples: [K, n] bootstrap values of D, refitted one by one; None: intervals unavailable.
      loss: 'mse', 'log_mse' or 'huber_log'.
      weights: [n], e.g. 1 / var of the crossings; None: equal.
      three_utds: with exactly 3 UTDs 'fix' Dmin at 0 or 'refuse'.
    """
    sigma, D = np.asarray(sigma, float), np.asarray(D, float)
    if loss not in separable.LOSSES:
        raise ScalingError(f"loss='{loss}'; accepted: {', '.join(separable.LOSSES)}")
    seen = np.isfinite(D)
    zero_c = check_utds(sigma[seen], three_utds)
    point = separable.fit_many(sigma, D[None], weights, loss, zero_c)
    c, k, alpha, value = (float(v[0]) for v in (point.c, point.k, point.alpha, point.loss))
    flags = ["no_utd_gain"] if k == 0 else []
    low, high = separable.ALPHA_BOUNDS
    if k > 0 and (alpha < low * 1.001 or alpha > high * 0.999):
        flags.append("alpha_at_bound")
    if zero_c:
        flags.append("Dmin_fixed_0")
    if samples is None or not np.isfinite(samples).any():
        return PowerLaw(c, k, alpha, value, tuple(flags))
    boot = separable.fit_many(sigma, np.where(seen, samples, np.nan), weights, loss, zero_c)
    return PowerLaw(
        c, k, alpha, value, tuple(flags), {"Dmin": boot.c, "k": boot.k, "alpha": boot.alpha}
    )


def pool(
    t: np.ndarray, complete: np.ndarray | None = None, tasks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pool D over tasks so that slow tasks do not dominate (specification 4.5).

        m_task = median over (sigma, J) of t;   M = median over tasks of m_task;   D = M * mean over
        tasks of t / m_task

    Args:
      t: [..., n_tasks, n_sigma, nJ] env steps, NaN = not reached.
      complete: [n_tasks, nJ] which tasks enter the mean at which J.  In a replicate a task that
        enters but misses J makes that D NaN, since a changing task set would bias the curve.  None:
        nan-mean over whatever is there.
      tasks: [K, n_tasks] resampled task indices of the outer bootstrap level, t then being [K,
        ...].
    Returns:
      D [..., n_sigma, nJ] env steps, and the scale M [...].
    """
    if tasks is not None:
        t = np.take_along_axis(t, tasks[:, :, None, None], axis=1)
    enters = np.ones((t.shape[-3], t.shape[-1]), bool) if complete is None else complete
    enters = enters if tasks is None else enters[tasks]
    flat = t.reshape(*t.shape[:-2], -1)
    m = _nanmedian(flat)
    scale = _nanmedian(m)
    ratio = t / m[..., None, None]
    mask = np.broadcast_to(enters[..., :, None, :], ratio.shape)
    if complete is None:
        mask = mask & np.isfinite(ratio)
    count = mask.sum(axis=-3)
    total = np.where(mask, ratio, 0.0).sum(axis=-3)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return scale[..., None, None] * mean, scale


def _nanmedian(x: np.ndarray) -> np.ndarray:
    """Median over the last axis; NaN (and no warning) where all is NaN."""
    empty = np.asarray(np.isnan(x).all(axis=-1, keepdims=True))
    out = np.nanmedian(np.where(empty, 0.0, x), axis=-1)
    return np.where(empty[..., 0], np.nan, out)
