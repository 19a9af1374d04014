"""The best UTD for a budget.  Rybkin et al., 2025; specification 4.7.

    C_J(s) = 10 * N * B*(s) * s * D_J(s)                 FLOPs
    F_J(s) = C_J(s) + delta * D_J(s)                     FLOPs, delta = price of one transition
    sigma*_J = argmin_s F_J(s)                           on the measured range of UTDs
    sigma*(F) = coefficient * F ** exponent              through the optima of the levels J

The published form (beta_F / F) ** alpha_F is the same with exponent = -alpha_F.  The exponent's
sign differs between benchmarks: nothing here assumes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlx.scaling import separable, stats
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import Prices

GRID_POINTS = 100  # of the reference's log grid, method='grid100'
SCAN_POINTS = 200  # of the scan that brackets the continuous optimum
METHODS = ("continuous", "grid100")
FAILED = 2  # the side of an optimum that does not exist


@dataclass(frozen=True)
class Optimum:
    """Cheapest way to one level J.

    utd: sigma*; data: D, env steps; compute: C, FLOPs; budget: F, FLOPs; at_bound: '' or 'low' or
    'high'.
    failed: the law or the prices are NaN, then so is everything else.
    samples: {'utd', 'data', 'compute', 'budget'} -> [K] and 'inside' [K] bool, or None.
    """

    J: float
    utd: float
    data: float
    compute: float
    budget: float
    at_bound: str
    samples: dict[str, np.ndarray] | None = field(default=None, repr=False)
    failed: bool = False


def optimal_utd(
    law: PowerLaw,
    prices: Prices,
    bounds: tuple[float, float],
    J: float = np.nan,
    method: str = "continuous",
) -> Optimum:
    """Minimise the budget to reach J over sigma in `bounds` (the measured UTD range).

    Args:
      method: 'continuous' (bounded minimum in log sigma) or 'grid100' (argmin on the reference's
        100-point log grid).
    """
    if method not in METHODS:
        raise ScalingError(f"method='{method}'; accepted: {', '.join(METHODS)}")
    dmin, k, alpha = (np.array([v]) for v in (law.Dmin, law.k, law.alpha))
    kappa, m = np.array([prices.per_transition(1.0)]), np.array([prices.exponent])
    point = _optima(dmin, k, alpha, kappa, m, prices.delta, bounds, method)
    side = {-1: "low", 0: "", 1: "high", FAILED: ""}[int(point["side"][0])]
    if prices.delta == 0 and side == "low":
        raise ScalingError(
            f"delta=0 and J={J:g}: with free data the cheapest UTD is below the smallest measured "
            f"one ({bounds[0]:g}), so no optimum exists; give the price of a transition, "
            "--delta=FLOPS"
        )
    samples = None
    if law.samples is not None:
        dmin, k, alpha = (law.samples[name] for name in ("Dmin", "k", "alpha"))
        kappa, m = prices.samples(len(dmin))
        samples = _optima(dmin, k, alpha, kappa, m, prices.delta, bounds, method)
        samples["inside"] = samples.pop("side") == 0
    values = {name: float(point[name][0]) for name in ("utd", "data", "compute", "budget")}
    failed = int(point["side"][0]) == FAILED
    return Optimum(J, **values, at_bound=side, samples=samples, failed=failed)


def _optima(
    dmin, k, alpha, kappa, m, delta: float, bounds: tuple[float, float], method: str
) -> dict:
    """Optima of R budgets at once; every input [R]; 'side' is -1 at the lower bound, 1 at the
    upper, FAILED where an input is NaN, else 0."""
    alpha = np.where(k > 0, alpha, 1.0)
    failed = ~np.isfinite(dmin + k + kappa + m)

    def parts(log_s: np.ndarray, at: Any = np.s_[:]) -> tuple[np.ndarray, np.ndarray]:
        data = dmin[at] + k[at] * np.exp(-alpha[at] * log_s)
        return data, kappa[at] * np.exp(m[at] * log_s) * data

    def budget(log_s: np.ndarray, at: Any = np.s_[:]) -> np.ndarray:
        data, compute = parts(log_s, at)
        return compute + delta * data

    low, high = np.log(bounds[0]), np.log(bounds[1])
    points = GRID_POINTS if method == "grid100" else SCAN_POINTS
    grid = np.linspace(low, high, points)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.where(failed[:, None], np.inf, budget(grid[None], np.s_[:, None]))
        best = values.argmin(axis=1)
        log_s = grid[best]
        if method == "continuous":
            refined = separable.golden(
                budget, grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, points - 1)]
            )
            log_s = np.where(budget(refined) < budget(log_s), refined, log_s)
        data, compute = parts(log_s)
    edge = 1e-5 * (high - low)
    side = np.where(log_s <= low + edge, -1, np.where(log_s >= high - edge, 1, 0))
    out = {"utd": np.exp(log_s), "data": data, "compute": compute, "budget": compute + delta * data}
    return {
        **{name: np.where(failed, np.nan, v) for name, v in out.items()},
        "side": np.where(failed, FAILED, side),
    }


@dataclass(frozen=True)
class Line:
    """y = coefficient * x ** exponent, with bootstrap samples [K] of log10(coefficient) and
    exponent, or None."""

    coefficient: float
    exponent: float
    log_coefficient_samples: np.ndarray | None = field(default=None, repr=False)
    exponent_samples: np.ndarray | None = field(default=None, repr=False)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """y at x [n]."""
        return self.coefficient * np.asarray(x, float) ** self.exponent

    def predict_samples(self, x: np.ndarray) -> np.ndarray | None:
        """[K, n] bootstrap values of y at x [n], or None."""
        if self.exponent_samples is None or self.log_coefficient_samples is None:
            return None
        slope = self.exponent_samples[:, None]
        return 10.0 ** (
            self.log_coefficient_samples[:, None] + slope * np.log10(np.asarray(x, float))[None]
        )

    def ci(self, name: str, level: float = 0.95) -> np.ndarray:
        """[2] interval of 'coefficient' or 'exponent'; NaN when unavailable."""
        if self.exponent_samples is None or self.log_coefficient_samples is None:
            return np.full(2, np.nan)
        if name == "exponent":
            return stats.interval(self.exponent_samples, level)
        return 10.0 ** stats.interval(self.log_coefficient_samples, level)


@dataclass(frozen=True)
class BudgetLaw:
    """sigma*(F) and D(C) along the optima, and how well the law foretells the held-out levels.

    utd: Line of sigma* on F; data: Line of D on C.  reference_budget: geometric mean of the fitted
    F (the coefficient itself is sigma* at F = 1 FLOP, far outside the data; sigma* here is what is
    well determined).
    holdout: per held-out J {'J', 'predicted_utd', 'actual_utd', 'error', 'error_samples'}.
    outside: share of bootstrap optima at the edge of the UTD range.  Those are left out of their
    replicate's line,
    which biases the law towards the middle of the range: above 20 % its intervals are withheld (no
    samples).
    """

    utd: Line
    data: Line
    reference_budget: float
    levels: tuple[float, ...]
    holdout: list[dict]
    outside: float = 0.0


def budget_law(optima: list[Optimum], holdout: int = 2) -> BudgetLaw:
    """Fit log10 sigma* on log10 F over all levels but the top `holdout`; at-bound optima are left
    out.

    Args:
      optima: any order; the top levels are those of the greatest J.
    """
    optima = sorted(optima, key=lambda o: o.J)
    if holdout < 0:
        raise ScalingError(f"holdout={holdout}; must be >= 0")
    used, held = optima[: len(optima) - holdout], optima[len(optima) - holdout :]
    inner = [o for o in used if not o.at_bound and not o.failed]
    if len(inner) < 2:
        sides = {o.at_bound for o in used if o.at_bound}
        where = " and ".join(sorted(sides)) or "no"
        failed = sum(o.failed for o in used)
        also = f", {failed} failed fits" if failed else ""
        raise ScalingError(
            f"the budget law needs >= 2 levels with an interior optimum, got {len(inner)} of "
            f"{len(used)} ({where} edge of the UTD range{also}); {bound_advice(used)}"
        )
    F, s = (np.array([getattr(o, name) for o in inner]) for name in ("budget", "utd"))
    C, D = (np.array([getattr(o, name) for o in inner]) for name in ("compute", "data"))
    utd_samples = data_samples = (None, None)
    outside = 0.0
    drawn = [o.samples for o in inner if o.samples is not None]
    if len(drawn) == len(inner):
        stack = {name: np.stack([d[name] for d in drawn], axis=1) for name in drawn[0]}
        outside = float(1.0 - stack["inside"].mean())
        if outside <= stats.MAX_FAILED:
            utd_samples = line_rows(stack["budget"], stack["utd"], stack["inside"])
            data_samples = line_rows(stack["compute"], stack["data"], stack["inside"])
    utd, data = line(F, s, utd_samples), line(C, D, data_samples)
    reference = float(np.exp(np.log(F).mean()))
    levels = tuple(o.J for o in inner)
    return BudgetLaw(
        utd, data, reference, levels, [_held(utd, o) for o in held if not o.failed], outside
    )


def line(x: np.ndarray, y: np.ndarray, samples: tuple) -> Line:
    log_c, exponent = line_rows(x[None], y[None], np.ones((1, len(x)), bool))
    return Line(float(10.0 ** log_c[0]), float(exponent[0]), *samples)


def line_rows(x: np.ndarray, y: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares lines of log10 y on log10 x per row over the cells in `use` [R, n] ->
    intercept, slope [R]."""
    use = use & np.isfinite(x) & np.isfinite(y)
    lx, ly = np.log10(np.where(use, x, 1.0)), np.log10(np.where(use, y, 1.0))
    count = np.maximum(use.sum(axis=1), 1)
    mx, my = lx.sum(axis=1) / count, ly.sum(axis=1) / count
    dx = np.where(use, lx - mx[:, None], 0.0)
    spread = (dx**2).sum(axis=1)
    good = (use.sum(axis=1) >= 2) & (spread > 0)
    slope = np.where(good, (dx * ly).sum(axis=1) / np.where(good, spread, 1.0), np.nan)
    return my - slope * mx, slope


def _held(law: Line, optimum: Optimum) -> dict:
    """Predicted against actual sigma* of one held-out level; error = predicted / actual - 1."""
    predicted = float(law.predict(np.array([optimum.budget]))[0])
    out = {
        "J": optimum.J,
        "predicted_utd": predicted,
        "actual_utd": optimum.utd,
        "at_bound": optimum.at_bound,
        "error": predicted / optimum.utd - 1.0,
        "error_samples": None,
    }
    intercept, slope, drawn = law.log_coefficient_samples, law.exponent_samples, optimum.samples
    if intercept is not None and slope is not None and drawn is not None:
        log_s = intercept + slope * np.log10(drawn["budget"])
        out["error_samples"] = 10.0**log_s / drawn["utd"] - 1.0
    return out


def bound_advice(optima: list[Optimum]) -> str:
    """Which UTD to add when optima lie at the edge of the measured range."""
    advice = []
    for side, factor in (("low", 0.5), ("high", 2.0)):
        edge = [o.utd for o in optima if o.at_bound == side]
        if edge:
            advice.append(f"add runs at UTD {edge[0] * factor:g} or change delta")
    return "; ".join(advice) or "add levels J or UTDs"
