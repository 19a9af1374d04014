"""The batch rule of two variables and what an update costs on the (sigma, N) plane.

    B~(s, N) = a * s**-alpha / (1 + b * N**-beta)              (Fu et al., 2025; spec 3.1.7)
    price of a transition's updates = 10 * N * B~(s, N) * s    FLOPs

The rule is fitted in log space on critic parameters.  A measured price, seconds per transition, is
a plane in (log s, log N) instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import least_squares, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import FLOPS_PER_PARAMETER_SAMPLE
from rlx.scaling.size_law import EXPONENT_BOUNDS, check_grid

SLOPE_BOUND = 8.0
LOG_B_BOUND = 30.0
NO_SIZE_EFFECT = 1e-3  # of B over the measured sizes
RANDOM_STARTS = 60
COEFFICIENTS = ("log_a", "alpha", "log_b", "beta")


@dataclass(frozen=True)
class SizeRule:
    """B~(s, N) = exp(log_a) * s**-alpha / (1 + exp(log_b) * N**-beta), samples.

    samples: each coefficient -> [K], or None (taken as exact).
    flags: 'no_size_effect' (b vanishes).
    """

    log_a: float
    alpha: float = 0.0
    log_b: float = -np.inf
    beta: float = 1.0
    r2: float = np.nan
    flags: tuple[str, ...] = ("no_size_effect",)
    samples: dict[str, np.ndarray] | None = field(default=None, repr=False)

    def predict(self, sigma: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
        """B at UTD sigma and model size N (broadcast)."""
        return np.exp(self.log_predict(np.log(sigma), np.log(size)))

    def log_predict(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log B at x = log sigma, z = log N (broadcast)."""
        one = {name: np.array([getattr(self, name)]) for name in COEFFICIENTS}
        return _log_batch(one, np.asarray(x, float)[..., None], np.asarray(z, float)[..., None])[
            ..., 0
        ]

    def ci(self, name: str) -> np.ndarray:
        """[2] interval of a coefficient; NaN when unavailable."""
        return np.full(2, np.nan) if self.samples is None else stats.interval(self.samples[name])


def constant_rule(batch_size: float) -> SizeRule:
    """The same batch size everywhere (COS price all runs at 256)."""
    if not batch_size > 0:
        raise ScalingError(f"batch_size={batch_size:g}; must be a positive number")
    return SizeRule(float(np.log(batch_size)))


def _log_batch(rule: dict[str, np.ndarray], x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x, z [..., R] or broadcastable, coefficients [R]."""
    with np.errstate(over="ignore"):
        saturation = np.logaddexp(0.0, rule["log_b"] - rule["beta"] * z)
    return rule["log_a"] - rule["alpha"] * x - saturation


def fit_size_rule(
    sigma: np.ndarray, size: np.ndarray, batch: np.ndarray, samples: np.ndarray | None = None
) -> SizeRule:
    """Least squares on log B, best of random starts.

    Args:
      sigma, size, batch: [n] UTD, critic parameters, best batch size (NaN left out).
      samples: [K, n] bootstrap values of the batch size.
    """
    sigma, size, batch = (np.asarray(v, float) for v in (sigma, size, batch))
    keep = np.isfinite(batch)
    sigma, size, y = sigma[keep], size[keep], np.log(batch[keep])
    if len(y) and np.ptp(y) < 1e-12:
        return constant_rule(batch[keep][0])
    check_grid(sigma, size)
    x, z = np.log(sigma), np.log(size)
    centre = (x.mean(), z.mean())
    model, bounds = _model(x - centre[0], z - centre[1]), _bounds()
    starts = np.random.default_rng(0).uniform(
        [-1, -1, -4, -2], [1, 2, 2, 1], size=(RANDOM_STARTS, 4)
    )
    # A start without size effect, so that a table without one ends exactly there.
    starts = np.vstack([starts, [0.0, 0.5, -LOG_B_BOUND, 0.0]])
    theta, loss = least_squares.solve(
        model, starts, np.tile(y - y.mean(), (len(starts), 1)), *bounds
    )
    best = theta[loss.argmin()]
    point = {k: float(v[0]) for k, v in _natural(best[None], y.mean(), centre).items()}
    effect = np.ptp(np.logaddexp(0.0, best[2] - np.exp(best[3]) * (z - centre[1])))
    flags = ("no_size_effect",) if effect < NO_SIZE_EFFECT else ()
    total = np.var(y)
    drawn = None
    if samples is not None:
        logs = np.log(np.asarray(samples, float)[:, keep])
        mean = np.nanmean(logs, axis=1)
        again, _ = least_squares.solve(
            model, np.tile(best, (len(logs), 1)), logs - mean[:, None], *bounds
        )
        drawn = _natural(again, mean, centre)
    return SizeRule(**point, r2=float(1.0 - loss.min() / total), flags=flags, samples=drawn)


def _bounds() -> tuple[np.ndarray, np.ndarray]:
    slow, fast = np.log(EXPONENT_BOUNDS)
    return (
        np.array([-20.0, -SLOPE_BOUND, -LOG_B_BOUND, slow]),
        np.array([20.0, SLOPE_BOUND, LOG_B_BOUND, fast]),
    )


def _model(x: np.ndarray, z: np.ndarray) -> least_squares.Model:
    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_a, alpha, log_b, log_beta = (v[:, None] for v in theta.T)
        slope = np.exp(log_beta) * z
        inner = log_b - slope
        value = log_a - alpha * x - np.logaddexp(0.0, inner)
        share = np.exp(-np.logaddexp(0.0, -inner))
        parts = [np.ones_like(value), np.broadcast_to(-x, value.shape), -share, share * slope]
        return value, np.stack(parts, axis=-1)

    return evaluate


def _natural(theta: np.ndarray, log_mean, centre: tuple) -> dict[str, np.ndarray]:
    log_a, alpha, log_b, log_beta = theta.T
    beta = np.exp(log_beta)
    return {
        "log_a": log_a + log_mean + alpha * centre[0],
        "alpha": alpha,
        "log_b": log_b + beta * centre[1],
        "beta": beta,
    }


@dataclass(frozen=True)
class SizePrices:
    """What a transition and its updates cost on the (sigma, N) plane.

    rule: batch rule, of which the updates cost 10 N B s FLOPs; or `plane`: (log w, m, n) of a
    measured price w * s**m * N**n in seconds, with `plane_samples` [K, 3] or None.
    delta: price of the transition itself, in the same unit.
    """

    delta: float
    rule: SizeRule | None = None
    plane: tuple[float, float, float] | None = None
    plane_samples: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        if not self.delta >= 0:
            raise ScalingError(
                f"delta={self.delta:g}; the price of a transition must be >= 0 (0: data is free)"
            )
        if (self.rule is None) == (self.plane is None):
            raise ScalingError("a price needs either a batch rule or a measured plane")

    def per_transition(self, sigma: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
        """Cost of the updates that belong to one transition."""
        x, z = np.log(np.asarray(sigma, float)), np.log(np.asarray(size, float))
        return np.exp(self.logs(None)(x[..., None], z[..., None])[..., 0])

    def logs(self, replicates: int | None):
        """Function of (log sigma, log N), each [..., R], to log cost [..., R].

        Args:
          replicates: R = K bootstrap replicates; None: the point estimate, R = 1.
        """
        if self.rule is None:
            plane = np.array([self.plane])
            if replicates is not None and self.plane_samples is not None:
                plane = self.plane_samples
            return lambda x, z: plane[:, 0] + plane[:, 1] * x + plane[:, 2] * z
        rule = {name: np.array([getattr(self.rule, name)]) for name in COEFFICIENTS}
        if replicates is not None and self.rule.samples is not None:
            rule = self.rule.samples
        ten = np.log(FLOPS_PER_PARAMETER_SAMPLE)
        return lambda x, z: ten + z + x + _log_batch(rule, x, z)
