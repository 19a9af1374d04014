"""Global fit of y = c + k * x ** -alpha, c, k >= 0, for many data sets at once.

For a fixed alpha the model is linear in (c, k), so the best non-negative pair is closed form; what
is left is one bounded minimum over alpha.  A scan finds its basin and golden-section search refines
it, for all data sets together, which is what makes a bootstrap of whole fits affordable.  The log
losses are solved by iterated reweighting: to first order log y - log f = (z - g) / f with working
response z = f + f * (log y - log f), so each step is a weighted linear fit with weights 1 / f**2
(times the Huber weight).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA_BOUNDS = (0.01, 6.0)
SCAN_POINTS = 600
# A log loss needs several linear solves per alpha; its scan is coarser so that it stays affordable.
SCAN_POINTS_LOG = 100
LOG_ITERATIONS = 12
HUBER_DELTA = 1e-3
GOLDEN_STEPS = (
    45  # 0.618**45 = 4e-10 of the bracket: below the float64 resolution of a quadratic minimum
)
CHUNK = 512  # data sets per scan, so that the scan's arrays stay near 10 MB
LOSSES = ("mse", "log_mse", "huber_log")


@dataclass(frozen=True)
class Fits:
    """c, k, alpha, loss, each [R].  k is in the units y * x**alpha; failed rows are NaN."""

    c: np.ndarray
    k: np.ndarray
    alpha: np.ndarray
    loss: np.ndarray


def fit_many(
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None = None,
    loss: str = "mse",
    zero_c: bool = False,
) -> Fits:
    """Fit every row of `y`.

    Args:
      x: [n] positive.
      y: [R, n] positive; NaN cells are left out of their row; rows with fewer than 3 cells come
        back NaN.
      weights: [n] or [R, n], non-negative, or None for equal weights.
      loss: 'mse' (linear units, each row scaled by its mean), 'log_mse', or 'huber_log' (delta
        1e-3, summed).
      zero_c: hold c at 0 (two coefficients, for three x).
    """
    y = np.asarray(y, float)
    seen = np.isfinite(y)
    w = np.where(seen, 1.0 if weights is None else weights, 0.0)
    scale = np.where(seen, y, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    enough = (seen.sum(axis=1) >= 3) & (scale > 0)
    centre = np.exp(np.log(x).mean())  # keeps x ** -alpha near 1 for UTDs of any size
    out = np.full((4, len(y)), np.nan)
    rows = np.flatnonzero(enough)
    for part in np.array_split(rows, max(1, -(-len(rows) // CHUNK))):
        if len(part):
            scaled = np.where(seen[part], y[part], 1.0) / np.where(
                seen[part], scale[part, None], 1.0
            )
            out[:, part] = _fit_chunk(np.log(x / centre), scaled, w[part], loss, zero_c)
    c, k, alpha, value = out
    # Where k = 0 alpha is NaN, and k must stay 0.
    return Fits(c * scale, k * scale * centre ** np.where(k > 0, alpha, 0.0), alpha, value)


def _fit_chunk(
    log_x: np.ndarray, y: np.ndarray, w: np.ndarray, loss: str, zero_c: bool
) -> np.ndarray:
    """(c, k, alpha, loss) [4, R] for y [R, n] scaled to mean 1."""
    grid = np.geomspace(*ALPHA_BOUNDS, SCAN_POINTS if loss == "mse" else SCAN_POINTS_LOG)
    values = _profile(grid, log_x, y, w, loss, zero_c)
    best = values.argmin(axis=1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]

    def objective(alpha: np.ndarray) -> np.ndarray:
        return _solve(alpha, log_x, y, w, loss, zero_c)[2]

    alpha = golden(objective, low, high)
    # The scan's own best point competes, so that refinement can never make a fit worse (alpha at a
    # bound).
    alpha = np.where(objective(alpha) <= objective(grid[best]), alpha, grid[best])
    c, k, value = _solve(alpha, log_x, y, w, loss, zero_c)
    return np.stack([c, k, np.where(k > 0, alpha, np.nan), value])


def golden(objective, low: np.ndarray, high: np.ndarray, steps: int = GOLDEN_STEPS) -> np.ndarray:
    """Golden-section minimum of R unimodal functions at once: objective [R] -> [R], brackets
    [R]."""
    ratio = (5**0.5 - 1) / 2
    low, high = np.array(low, float), np.array(high, float)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = objective(left), objective(right)
    for _ in range(steps):
        go_left = at_left <= at_right
        high, low = np.where(go_left, right, high), np.where(go_left, low, left)
        new = np.where(go_left, high - ratio * (high - low), low + ratio * (high - low))
        value = objective(new)
        left, right = np.where(go_left, new, right), np.where(go_left, left, new)
        at_left, at_right = np.where(go_left, value, at_right), np.where(go_left, at_left, value)
    return (low + high) / 2


def _profile(grid, log_x, y, w, loss: str, zero_c: bool) -> np.ndarray:
    """[R, A] best loss at every alpha of the grid."""
    if loss != "mse":
        columns = [_solve(np.full(len(y), a), log_x, y, w, loss, zero_c)[2] for a in grid]
        return np.stack(columns, axis=1)
    basis = np.exp(-grid[:, None] * log_x)  # [A, n]
    s0, sy, syy = w.sum(1)[:, None], (w * y).sum(1)[:, None], (w * y * y).sum(1)[:, None]
    sx, sxx, sxy = w @ basis.T, w @ (basis**2).T, (w * y) @ basis.T
    c, k = _nonnegative_pair(s0, sx, sxx, sy, sxy, zero_c)
    return syy - 2 * (c * sy + k * sxy) + c * c * s0 + 2 * c * k * sx + k * k * sxx


def _solve(alpha: np.ndarray, log_x, y, w, loss: str, zero_c: bool) -> tuple[np.ndarray, ...]:
    """Best (c, k, loss), each [R], at one alpha per row."""
    basis = np.exp(-alpha[:, None] * log_x)
    if loss == "mse":
        c, k = _weighted_pair(basis, y, w, zero_c)
        return c, k, (w * (y - c[:, None] - k[:, None] * basis) ** 2).sum(axis=1)
    c, k = _weighted_pair(basis, y, w / y**2, zero_c)
    best = (c, k, _log_loss(c, k, basis, y, w, loss))
    for _ in range(LOG_ITERATIONS):
        model = np.maximum(c[:, None] + k[:, None] * basis, 1e-12)
        residual = np.log(y / model)
        step = w / model**2
        if loss == "huber_log":
            step = step * np.minimum(1.0, HUBER_DELTA / np.maximum(np.abs(residual), 1e-300))
        c, k = _weighted_pair(basis, model * (1.0 + residual), step, zero_c)
        value = _log_loss(c, k, basis, y, w, loss)
        better = value < best[2]
        best = tuple(np.where(better, new, old) for new, old in zip((c, k, value), best))
    return best


def _log_loss(c, k, basis, y, w, loss: str) -> np.ndarray:
    residual = np.abs(np.log(y / np.maximum(c[:, None] + k[:, None] * basis, 1e-12)))
    if loss == "log_mse":
        return (w * residual**2).sum(axis=1)
    quadratic = np.minimum(residual, HUBER_DELTA)
    return (w * (quadratic**2 / 2 + HUBER_DELTA * (residual - quadratic))).sum(axis=1)


def _weighted_pair(basis, y, w, zero_c: bool) -> tuple[np.ndarray, np.ndarray]:
    products = (w, w * basis, w * basis**2, w * y, w * basis * y)
    s0, sx, sxx, sy, sxy = (p.sum(axis=1) for p in products)
    return _nonnegative_pair(s0, sx, sxx, sy, sxy, zero_c)


def _nonnegative_pair(s0, sx, sxx, sy, sxy, zero_c: bool) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative least squares in two unknowns from its moments.

    If the free solution violates one bound the constrained one lies on that bound (the problem is
    convex); with positive data it cannot violate both.
    """
    only_k = np.maximum(sxy / sxx, 0.0)
    if zero_c:
        return np.zeros_like(only_k), only_k
    with np.errstate(divide="ignore", invalid="ignore"):
        k = (s0 * sxy - sx * sy) / (s0 * sxx - sx * sx)
    k = np.where(np.isfinite(k), k, 0.0)
    c = (sy - k * sx) / s0
    flat = k <= 0
    k, c = np.where(flat, 0.0, k), np.where(flat, sy / s0, c)
    k, c = np.where(c < 0, only_k, k), np.maximum(c, 0.0)
    return c, k
