"""The best UTD and model size for a budget.  Fu et al., 2025; specification 3.1.6-8, 4.7.

    F_J(s, N) = (price(s, N) + delta) * D_J(s, N)       price = 10 * N * B~(s, N) * s FLOPs
    (s*, N*)_J = argmin F_J                              inside the measured box of (log s, log N)

With a constant batch size the optimum of an interior box meets alpha * (a / s)**alpha = beta *
(b / N)**beta, so N* is a power law of s*.  log F is then convex in (log s, log N), so the zoom
below cannot end in a wrong basin; with the fitted rule it is nearly so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import budget, stats
from rlx.scaling.budget import Line
from rlx.scaling.errors import ScalingError
from rlx.scaling.size_law import SizeLaw
from rlx.scaling.size_rule import SizePrices

GRID = 9  # points per side of a zoom window
ZOOMS = 34  # halvings of the window: 2**-34 of the box
EDGE = 1e-5  # of a side: nearer counts as at the bound
NAMES = ("utd", "size", "data", "compute", "budget")
SIDES = ("utd_low", "utd_high", "size_low", "size_high")

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class JointOptimum:
    """Cheapest way to one level J over UTD and model size.

    utd, size, data (env steps), compute, budget; `at_bound`: of SIDES, those it lies at.
    samples: those five -> [K] and 'inside' [K] bool, or None.
    """

    J: float
    utd: float
    size: float
    data: float
    compute: float
    budget: float
    at_bound: tuple[str, ...] = ()
    samples: dict[str, np.ndarray] | None = field(default=None, repr=False)


def joint_optimum(law: SizeLaw, prices: SizePrices, box: Box, J: float = np.nan) -> JointOptimum:
    """Minimise the budget to reach J over the box ((low, high) of sigma, (low, high) of N)."""
    (point, sides), samples = _minimise(_coefficients(law), prices.logs(None), prices, box), None
    bound = tuple(name for name, at in zip(SIDES, sides[0]) if at)
    if prices.delta == 0 and "utd_low" in bound:
        raise ScalingError(
            f"delta=0 and J={J:g}: with free data the cheapest UTD is below the smallest measured "
            f"one ({box[0][0]:g}); give the price of a transition, --delta="
        )
    if law.samples is not None:
        replicates = len(law.samples["Dmin"])
        samples, edges = _minimise(law.samples, prices.logs(replicates), prices, box)
        samples["inside"] = ~edges.any(axis=1) & np.isfinite(samples["budget"])
    values = {name: float(point[name][0]) for name in NAMES}
    return JointOptimum(J, **values, at_bound=bound, samples=samples)


def _coefficients(law: SizeLaw) -> dict[str, np.ndarray]:
    names = ("Dmin", "log_A", "alpha", "log_B", "beta")
    return {name: np.array([getattr(law, name)]) for name in names}


def _minimise(law: dict[str, np.ndarray], log_price, prices: SizePrices, box: Box):
    """Optima of R laws at once -> ({name: [R]}, at the bounds [R, 4])."""
    low, high = np.log(np.array(box, float)).T
    half = (high - low) / 2
    centre = np.tile((low + high) / 2, (len(law["Dmin"]), 1))  # [R, 2]
    offsets = np.stack(
        np.meshgrid(*[np.linspace(-1, 1, GRID)] * 2, indexing="ij"), axis=-1
    ).reshape(-1, 2)
    rows = np.arange(len(centre))

    def parts(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """at [G, R, 2] -> log data, log price [G, R]."""
        x, z = at[..., 0], at[..., 1]
        data = law["Dmin"] + np.exp(law["log_A"] - law["alpha"] * x)
        return np.log(data + np.exp(law["log_B"] - law["beta"] * z)), log_price(x, z)

    with np.errstate(divide="ignore"):
        log_delta = np.log(prices.delta)
    for _ in range(ZOOMS):
        at = np.clip(centre + offsets[:, None, :] * half, low, high)
        log_data, price = parts(at)
        total = np.logaddexp(price, log_delta) + log_data
        centre = at[np.where(np.isfinite(total), total, np.inf).argmin(axis=0), rows]
        half = half / 2
    log_data, price = (v[0] for v in parts(centre[None]))
    data, compute = np.exp(log_data), np.exp(price + log_data)
    failed = ~np.isfinite(data)
    edge = EDGE * (high - low)
    sides = np.stack([centre <= low + edge, centre >= high - edge], axis=-1).reshape(-1, 4)
    values = (*np.exp(centre.T), data, compute, compute + prices.delta * data)
    return {n: np.where(failed, np.nan, v) for n, v in zip(NAMES, values)}, sides


@dataclass(frozen=True)
class JointLaw:
    """Lines through the interior optima of the levels: sigma*, N*, D and C against F.

    holdout: per held-out J {'J', 'utd': {...}, 'size': {...}} with predicted, actual, error.
    outside: share of bootstrap optima at the box's edge; above 20 % there are no intervals.
    """

    lines: dict[str, Line]
    reference_budget: float
    levels: tuple[float, ...]
    holdout: list[dict]
    outside: float = 0.0


def joint_law(optima: list[JointOptimum], holdout: int = 2) -> JointLaw:
    """Fit log10 of sigma*, N*, D, C on log10 F over all levels but the top `holdout`."""
    optima = sorted(optima, key=lambda o: o.J)
    used, held = optima[: len(optima) - holdout], optima[len(optima) - holdout :]
    inner = [o for o in used if not o.at_bound and np.isfinite(o.budget)]
    if len(inner) < 2:
        raise ScalingError(
            f"the joint budget law needs >= 2 levels with an interior optimum, got {len(inner)} of "
            f"{len(used)}; {advice(used)}"
        )
    F = np.array([o.budget for o in inner])
    drawn = [o.samples for o in inner if o.samples is not None]
    samples, outside = None, 0.0
    if len(drawn) == len(inner):
        samples = {name: np.stack([d[name] for d in drawn], axis=1) for name in drawn[0]}
        outside = float(1.0 - samples["inside"].mean())
    lines = {}
    for name in ("utd", "size", "data", "compute"):
        rows = (None, None)
        if samples is not None and outside <= stats.MAX_FAILED:
            rows = budget.line_rows(samples["budget"], samples[name], samples["inside"])
        lines[name] = budget.line(F, np.array([getattr(o, name) for o in inner]), rows)
    return JointLaw(
        lines,
        float(np.exp(np.log(F).mean())),
        tuple(o.J for o in inner),
        [_held(lines, o) for o in held if np.isfinite(o.budget)],
        outside,
    )


def _held(lines: dict[str, Line], optimum: JointOptimum) -> dict:
    out = {"J": optimum.J, "at_bound": optimum.at_bound}
    for name in ("utd", "size", "data"):
        predicted = float(lines[name].predict(np.array([optimum.budget]))[0])
        actual = getattr(optimum, name)
        out[name] = {"predicted": predicted, "actual": actual, "error": predicted / actual - 1.0}
    return out


def advice(optima: list[JointOptimum]) -> str:
    """Which runs to add when optima lie at an edge of the measured box."""
    texts = {
        "utd_low": ("UTD", "utd", 0.5),
        "utd_high": ("UTD", "utd", 2.0),
        "size_low": ("model size", "size", 0.5),
        "size_high": ("model size", "size", 2.0),
    }
    out = []
    for side, (what, name, factor) in texts.items():
        edge = [getattr(o, name) for o in optima if side in o.at_bound]
        if edge:
            out.append(f"add runs at {what} {edge[0] * factor:.3g} ({len(edge)} levels)")
    return "; ".join(out) or "add levels J"
