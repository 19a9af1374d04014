"""The data law with model size, D_J(sigma, N) = Dmin + (a / sigma) ** alpha + (b / N) ** beta.

Fu et al., 'Compute-Optimal Scaling for Value-Based Deep RL', 2025 (specification 3.1.6, 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from rlx.scaling.errors import ScalingError

EXPONENT_BOUNDS = (0.02, 8.0)
MIN_STARTS = 40


@dataclass(frozen=True)
class SizeLaw:
    """Coefficients (Dmin in env steps); `start_losses`: the ten least losses over the random
    starts, ascending.

    A wide spread of `start_losses` says that the minimum is hard to find or flat: trust
    predictions, not coefficients.
    """

    Dmin: float
    a: float
    alpha: float
    b: float
    beta: float
    loss: float
    start_losses: np.ndarray

    def predict(self, sigma: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Env steps at UTD sigma and model size N (broadcast)."""
        return (
            self.Dmin
            + (self.a / np.asarray(sigma)) ** self.alpha
            + (self.b / np.asarray(size)) ** self.beta
        )


def fit_data_size(
    sigma: np.ndarray, size: np.ndarray, D: np.ndarray, starts: int = MIN_STARTS, seed: int = 0
) -> SizeLaw:
    """Fit the five coefficients by the mean squared log error, best of many random starts.

    The unknowns are (log Dmin, log A, log alpha, log B, log beta) with A = a**alpha and B = b**beta
    on (sigma, N) divided by their geometric means, the model a logaddexp of its three terms;
    L-BFGS-B, ftol 1e-15.

    Args:
      sigma, size, D: [n]; UTD, critic parameters, env steps (NaN rows left out).
      starts: random starts, at least 40.
    """
    sigma, size, D = (np.asarray(v, float) for v in (sigma, size, D))
    keep = np.isfinite(D)
    sigma, size, D = sigma[keep], size[keep], D[keep]
    if len(np.unique(sigma)) < 3 or len(np.unique(size)) < 3:
        counts = f"{len(np.unique(sigma))} UTDs and {len(np.unique(size))} sizes"
        raise ScalingError(f"the joint law needs >= 3 UTDs and >= 3 model sizes, got {counts}")
    if starts < MIN_STARTS:
        raise ScalingError(f"starts={starts}; at least {MIN_STARTS}")
    x, z = np.log(sigma), np.log(size)
    x0, z0, y0 = x.mean(), z.mean(), np.log(D).mean()
    x, z, y = x - x0, z - z0, np.log(D) - y0

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        c, log_a, log_alpha, log_b, log_beta = theta
        alpha, beta = np.exp(log_alpha), np.exp(log_beta)
        terms = np.stack([np.full_like(x, c), log_a - alpha * x, log_b - beta * z])
        model = np.logaddexp.reduce(terms, axis=0)
        share = np.exp(terms - model)  # d model / d term
        error = model - y
        inner = np.stack(
            [share[0], share[1], -share[1] * alpha * x, share[2], -share[2] * beta * z]
        )
        return float(np.mean(error**2)), 2.0 * (inner @ error) / len(error)

    rng = np.random.default_rng(seed)
    exponent = tuple(np.log(EXPONENT_BOUNDS))
    bounds = [(-30.0, 10.0), (-30.0, 10.0), exponent, (-30.0, 10.0), exponent]
    initial = rng.uniform([-3, -4, -2, -4, -2], [0.5, 0, 1, 0, 1], size=(starts, 5))
    fits = [
        optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000, "maxfun": 10000},
        )
        for start in initial
    ]  # fmt: skip
    fits.sort(key=lambda fit: fit.fun)
    c, log_a, log_alpha, log_b, log_beta = fits[0].x
    alpha, beta = np.exp(log_alpha), np.exp(log_beta)
    return SizeLaw(
        Dmin=float(np.exp(c + y0)),
        a=float(np.exp(x0 + (log_a + y0) / alpha)),
        alpha=float(alpha),
        b=float(np.exp(z0 + (log_b + y0) / beta)),
        beta=float(beta),
        loss=float(fits[0].fun),
        start_losses=np.array([fit.fun for fit in fits[:10]]),
    )
