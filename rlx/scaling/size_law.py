"""The data law with model size, D_J(sigma, N) = Dmin + (a / sigma) ** alpha + (b / N) ** beta.

Fu et al., 'Compute-Optimal Scaling for Value-Based Deep RL', 2025 (specification 3.1.6, 4.6).  Five
coefficients on 16-25 points have near-flat directions: alpha can be nearly anything while the
predictions inside the grid stay put.  Read the intervals of the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import least_squares, stats
from rlx.scaling.errors import ScalingError

EXPONENT_BOUNDS = (0.02, 8.0)
MIN_STARTS = 40
MIN_POINTS = 6  # five coefficients and one to spare
MIN_SHARE = 1e-3  # of D: a term that is smaller everywhere counts as absent
COEFFICIENTS = ("Dmin", "a", "alpha", "b", "beta")
UNIDENTIFIED_FACTOR = 5.0
LOG_TERM_BOUNDS = (-30.0, 10.0)
# (log Dmin, log A, log alpha, log B, log beta) relative to the mean log D: the starts of every
# bootstrap refit beside the point fit's own optimum.
REFIT_STARTS = ((-1.0, -1.5, 0.0, -1.5, 0.0), (-3.0, -1.0, -1.2, -1.0, -1.2))


@dataclass(frozen=True)
class SizeLaw:
    """D(sigma, N) = Dmin + exp(log_A) * sigma**-alpha + exp(log_B) * N**-beta, env steps.

    `start_losses`: the ten least losses over the random starts, ascending; a wide spread says that
    the minimum is hard to find or flat: trust predictions, not coefficients.
    samples: {'Dmin', 'log_A', 'alpha', 'log_B', 'beta'} -> [K] or None (intervals unavailable).
    flags: 'no_utd_gain', 'no_size_gain' (that term vanishes), 'alpha_at_bound', 'beta_at_bound'.
    """

    Dmin: float
    log_A: float
    alpha: float
    log_B: float
    beta: float
    loss: float = np.nan
    start_losses: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)
    flags: tuple[str, ...] = ()
    samples: dict[str, np.ndarray] | None = field(default=None, repr=False)

    @property
    def a(self) -> float:
        """exp(log_A / alpha), in UTD units of (env steps)**(1 / alpha)."""
        return float(_root(np.array(self.log_A), np.array(self.alpha)))

    @property
    def b(self) -> float:
        """exp(log_B / beta), in critic parameters times (env steps)**(1 / beta)."""
        return float(_root(np.array(self.log_B), np.array(self.beta)))

    @property
    def utd_scale(self) -> float:
        """The UTD at which its term equals Dmin: a of the form Dmin (1 + (a / s)**alpha + ...)."""
        return float(_root(np.array(self.log_A - np.log(self.Dmin)), np.array(self.alpha)))

    @property
    def size_scale(self) -> float:
        """The model size at which its term equals Dmin (see `utd_scale`)."""
        return float(_root(np.array(self.log_B - np.log(self.Dmin)), np.array(self.beta)))

    def predict(self, sigma: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Env steps at UTD sigma and model size N (broadcast)."""
        return (
            self.Dmin
            + np.exp(self.log_A - self.alpha * np.log(sigma))
            + np.exp(self.log_B - self.beta * np.log(size))
        )

    def predict_samples(self, sigma: np.ndarray, size: np.ndarray) -> np.ndarray | None:
        """[K, n] bootstrap predictions at sigma [n], size [n], or None."""
        if self.samples is None:
            return None
        s = {name: values[:, None] for name, values in self.samples.items()}
        x, z = np.log(np.asarray(sigma, float))[None], np.log(np.asarray(size, float))[None]
        return s["Dmin"] + np.exp(s["log_A"] - s["alpha"] * x) + np.exp(
            s["log_B"] - s["beta"] * z
        )  # fmt: skip

    def predict_ci(self, sigma: np.ndarray, size: np.ndarray, level: float = 0.95) -> np.ndarray:
        """[n, 2] interval of the prediction; NaN when unavailable."""
        samples = self.predict_samples(sigma, size)
        if samples is None:
            return np.full((len(np.asarray(sigma)), 2), np.nan)
        return stats.interval(samples, level)

    def ci(self, name: str, level: float = 0.95) -> np.ndarray:
        """[2] interval of a coefficient; NaN when unavailable."""
        if name not in COEFFICIENTS:
            raise ScalingError(f"no coefficient '{name}'; accepted: {', '.join(COEFFICIENTS)}")
        if self.samples is None:
            return np.full(2, np.nan)
        s = self.samples
        if name in ("a", "b"):
            logs, exponent = (s["log_A"], s["alpha"]) if name == "a" else (s["log_B"], s["beta"])
            return stats.interval(_root(logs, exponent), level)
        return stats.interval(s[name], level)

    def unidentified(self) -> dict[str, bool]:
        """Which coefficients have a 95 % interval that spans more than a factor 5."""
        ends = {name: self.ci(name) for name in COEFFICIENTS}
        return {name: bool(not e[1] <= UNIDENTIFIED_FACTOR * e[0]) for name, e in ends.items()}


def _root(log_term: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(log_term / exponent)


def fit_data_size(
    sigma: np.ndarray,
    size: np.ndarray,
    D: np.ndarray,
    starts: int = MIN_STARTS,
    seed: int = 0,
    samples: np.ndarray | None = None,
) -> SizeLaw:
    """Fit the five coefficients by the mean squared log error, best of many random starts.

    The unknowns are (log Dmin, log A, log alpha, log B, log beta) with A = a**alpha and B = b**beta
    on (sigma, N) divided by their geometric means, the model a logaddexp of its three terms.  All
    starts run as one batch of bounded least squares, which ends at or below L-BFGS-B from the same
    starts and takes a tenth of its time; bootstrap replicates likewise, from the point's optimum
    and two generic starts.

    Args:
      sigma, size, D: [n]; UTD, critic parameters, env steps (NaN rows left out).
      starts: random starts, at least 40.
      samples: [K, n] bootstrap values of D; None: intervals unavailable.
    """
    sigma, size, D = (np.asarray(v, float) for v in (sigma, size, D))
    keep = np.isfinite(D)
    sigma, size, D = sigma[keep], size[keep], D[keep]
    check_grid(sigma, size)
    if starts < MIN_STARTS:
        raise ScalingError(f"starts={starts}; at least {MIN_STARTS}")
    x, z = np.log(sigma), np.log(size)
    centre = (x.mean(), z.mean())
    x, z, y = x - centre[0], z - centre[1], np.log(D)
    model = _model(x, z)
    bounds = _bounds()

    initial = np.random.default_rng(seed).uniform(
        [-3, -4, -2, -4, -2], [0.5, 0, 1, 0, 1], size=(starts, 5)
    )
    theta, losses = least_squares.solve(model, initial, np.tile(y - y.mean(), (starts, 1)), *bounds)
    order = losses.argsort()
    best = theta[order[0]]
    point = {k: float(v[0]) for k, v in _natural(best[None], y.mean(), centre).items()}
    drawn = None
    if samples is not None:
        drawn = _refit(model, best, np.asarray(samples, float)[:, keep], bounds, centre)
    return SizeLaw(
        **point,
        loss=float(losses[order[0]]),
        start_losses=losses[order[:10]],
        flags=_flags(best, x, z),
        samples=drawn,
    )


def check_grid(sigma: np.ndarray, size: np.ndarray) -> None:
    """Refuse fewer than 3 UTDs, 3 sizes or 6 points."""
    counts = f"{len(np.unique(sigma))} UTDs and {len(np.unique(size))} sizes"
    if len(np.unique(sigma)) < 3 or len(np.unique(size)) < 3:
        raise ScalingError(f"the joint law needs >= 3 UTDs and >= 3 model sizes, got {counts}")
    if len(sigma) < MIN_POINTS:
        raise ScalingError(
            f"the joint law needs >= {MIN_POINTS} (UTD, size) points, got {len(sigma)}"
        )


def _bounds() -> tuple[np.ndarray, np.ndarray]:
    (low, high), (slow, fast) = LOG_TERM_BOUNDS, np.log(EXPONENT_BOUNDS)
    return np.array([low, low, slow, low, slow]), np.array([high, high, fast, high, fast])


def _model(x: np.ndarray, z: np.ndarray) -> least_squares.Model:
    """theta [R, 5] -> (log D [R, n] relative to its mean, Jacobian [R, n, 5])."""

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, log_a, log_alpha, log_b, log_beta = (v[:, None] for v in theta.T)
        slope_x, slope_z = np.exp(log_alpha) * x, np.exp(log_beta) * z
        terms = np.stack([c + 0.0 * x, log_a - slope_x, log_b - slope_z])
        top = terms.max(axis=0)
        value = top + np.log(np.exp(terms - top).sum(axis=0))
        share = np.exp(terms - value)  # d value / d term
        jacobian = [share[0], share[1], -share[1] * slope_x, share[2], -share[2] * slope_z]
        return value, np.stack(jacobian, axis=-1)

    return evaluate


def _natural(theta: np.ndarray, log_mean: np.ndarray | float, centre: tuple) -> dict:
    """The law's own coefficients, each [R]."""
    c, log_a, log_alpha, log_b, log_beta = theta.T
    alpha, beta = np.exp(log_alpha), np.exp(log_beta)
    return {
        "Dmin": np.exp(c + log_mean),
        "log_A": log_a + log_mean + alpha * centre[0],
        "alpha": alpha,
        "log_B": log_b + log_mean + beta * centre[1],
        "beta": beta,
    }


def _flags(theta: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[str, ...]:
    shares = _model(x, z)(theta[None])[1][0]  # [n, 5]; columns 1 and 3 are shares of D
    flags = []
    for column, gain, bound in ((1, "no_utd_gain", "alpha"), (3, "no_size_gain", "beta")):
        low, high = EXPONENT_BOUNDS
        exponent = np.exp(theta[column + 1])
        if shares[:, column].max() < MIN_SHARE:
            flags.append(gain)
        elif exponent < low * 1.001 or exponent > high * 0.999:
            flags.append(f"{bound}_at_bound")
    return tuple(flags)


def _refit(model, best: np.ndarray, samples: np.ndarray, bounds: tuple, centre: tuple) -> dict:
    """Coefficients of every replicate [K]; NaN where fewer than 6 points were reached."""
    seen = np.isfinite(samples)
    usable = seen.sum(axis=1) >= MIN_POINTS
    logs = np.log(np.where(seen, samples, 1.0))
    mean = np.where(seen, logs, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    y = np.where(seen, logs - mean[:, None], np.nan)[usable]
    found = [
        least_squares.solve(model, np.tile(start, (len(y), 1)), y, *bounds)
        for start in (best, *np.array(REFIT_STARTS))
    ]
    winner = np.argmin([loss for _, loss in found], axis=0)
    theta = np.full((len(samples), 5), np.nan)
    theta[usable] = np.stack([t for t, _ in found])[winner, np.arange(len(y))]
    return _natural(theta, mean, centre)
