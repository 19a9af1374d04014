"""Where a budget leads: the optimum at F from a stored fit, at its own or another price of data.

A `Forecast` holds the laws of all levels rebuilt from `fit.json` (and samples.npz), so that a new
delta gives new optima and a new budget law instead of the stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlx.scaling import budget, prices, size_budget, size_report, stats
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.result import samples_of

AXES = ("auto", "utd", "size")


@dataclass
class Forecast:
    """One fit at one delta.

    axis: 'utd' or 'size'.  levels [nJ]; optima per level; law: BudgetLaw, JointLaw or None (too few
    interior optima: `why`).  lines: {'utd': Line[, 'size': Line]}.  fitted, held: the levels J that
    the lines go through, and those held out of them.
    box: {'utd': (low, high)[, 'size': ...]} measured.  noise [nJ]: sd of log pooled D of a
    measurement with the sweep's seeds; NaN without samples.
    """

    axis: str
    levels: np.ndarray
    laws: list
    prices: prices.Prices | size_budget.SizePrices
    optima: list
    lines: dict[str, budget.Line]
    why: str
    box: dict[str, tuple[float, float]]
    noise: np.ndarray
    fitted: tuple[float, ...] = ()
    held: tuple[float, ...] = ()

    @property
    def known(self) -> list:
        """The optima that `point` rests on, by budget: those of the fitted levels, or all of them
        where they are interpolated."""
        own = [o for o in self.optima if np.isfinite(o.budget)]
        own = [o for o in own if o.J in self.fitted] if self.lines else own
        return sorted(own, key=lambda o: o.budget)

    def point(self, total: float) -> dict[str, float]:
        """sigma* (and N*) at budget F by the law; without one, interpolated between the levels'
        optima in log-log."""
        if self.lines:
            return {n: float(line.predict(np.array([total]))[0]) for n, line in self.lines.items()}
        F = np.log([o.budget for o in self.known])
        at = {name: np.log([getattr(o, name) for o in self.known]) for name in self.box}
        return {n: float(np.exp(np.interp(np.log(total), F, y))) for n, y in at.items()}

    def replicates(self, name: str, total: float) -> np.ndarray | None:
        """[K] values of sigma* or N* at F over the bootstrap, or None.

        By each replicate's law; where too many optima lie at an edge for laws (or there is none),
        interpolated between the replicate's own optima, edges included, so that an end at the edge
        of the measured range is a truncated one.
        """
        if name not in self.box:
            return None
        line = self.lines.get(name)
        drawn = None if line is None else line.predict_samples(np.array([total]))
        if drawn is not None:
            return drawn[:, 0]
        if any(o.samples is None for o in self.optima):
            return None
        F = np.log(np.stack([o.samples["budget"] for o in self.optima], axis=1))
        y = np.log(np.stack([o.samples[name] for o in self.optima], axis=1))
        order = np.argsort(F, axis=1)
        F, y = np.take_along_axis(F, order, axis=1), np.take_along_axis(y, order, axis=1)
        found = [np.interp(np.log(total), *rows) for rows in zip(F, y)]
        return np.exp(np.where(np.isfinite(F + y).all(axis=1), found, np.nan))

    def cost(self, at: dict[str, float]) -> float:
        """Price of one transition with its updates, delta included."""
        return float(self.prices.per_transition(*at.values())) + self.prices.delta

    def data(self, at: dict[str, float]) -> tuple[np.ndarray, np.ndarray | None]:
        """D of every level at a point: [nJ], and over the bootstrap [K, nJ] or None."""
        arrays = [np.array([v]) for v in at.values()]
        point = np.array([float(law.predict(*arrays)[0]) for law in self.laws])
        drawn = [law.predict_samples(*arrays) for law in self.laws]
        if any(d is None for d in drawn):
            return point, None
        return point, np.concatenate(drawn, axis=1)

    def level(self, at: dict[str, float], data: float) -> tuple[float | None, np.ndarray]:
        """The level that `data` env steps reach at a point (None: outside the fitted levels), and
        its 95 % interval, an end beyond the levels being NaN."""
        D, drawn = self.data(at)
        low, high = np.log(D.min()), np.log(np.maximum.accumulate(D)[-1])
        J = None if not low <= np.log(data) <= high else _invert(self.levels, D, data)
        if drawn is None or J is None:
            return J, np.full(2, np.nan)
        usable = drawn[np.isfinite(drawn).all(axis=1)]
        if len(usable) < (1.0 - stats.MAX_FAILED) * len(drawn):
            return J, np.full(2, np.nan)
        ends = stats.interval(np.array([_invert(self.levels, row, data) for row in usable]))
        outside = (ends <= self.levels[0]) | (ends >= self.levels[-1])
        return J, np.where(outside, np.nan, ends)

    def prediction_interval(self, at: dict[str, float], J: float, seed: int = 0) -> np.ndarray:
        """[2] 95 % interval of a new measurement of D_J at a point: the laws' uncertainty and the
        run-to-run noise of as many seeds as the sweep had."""
        _, drawn = self.data(at)
        if drawn is None or not np.isfinite(self.noise).any():
            return np.full(2, np.nan)
        logs = np.log(drawn)
        right = int(np.clip(np.searchsorted(self.levels, J), 1, len(self.levels) - 1))
        if len(self.levels) == 1:
            right, share = 0, 1.0
        else:
            gap = self.levels[right] - self.levels[right - 1]
            share = float((J - self.levels[right - 1]) / gap)
        here = share * logs[:, right] + (1 - share) * logs[:, max(right - 1, 0)]
        z = np.random.default_rng([seed, 0xD1CE]).standard_normal(len(here))
        return stats.interval(np.exp(here + self.noise[right] * z))


def _invert(levels: np.ndarray, D: np.ndarray, data: float) -> float:
    """J at which D_J = data, by interpolation in log D (made non-decreasing in J)."""
    return float(np.interp(np.log(data), np.maximum.accumulate(np.log(D)), levels))


def forecast(result: dict, delta: float | None = None, axis: str = "auto") -> Forecast:
    """Rebuild the laws of a result at a price of data (None: the fitted one)."""
    if axis not in AXES:
        raise ScalingError(f"axis='{axis}'; accepted: {', '.join(AXES)}")
    if delta is not None and not delta >= 0:
        unit = result["config"]["unit"]
        raise ScalingError(f"delta={delta:g}; the price of a transition must be >= 0 {unit}")
    if axis == "size" and result["size_axis"] is None:
        raise ScalingError(
            "axis=size: this fit has no model-size axis; fit a table with >= 3 sizes"
        )
    if axis == "size" or (axis == "auto" and result["size_axis"] is not None):
        return _over_size(result, delta)
    return _over_utd(result, delta)


def _over_utd(result: dict, delta: float | None) -> Forecast:
    stored, samples = result["budget_law"], samples_of(result)
    if stored is None:
        raise ScalingError(
            "this fit has no budget law; see its warnings: " + "; ".join(result["warnings"])
        )
    utds = result["config"]["utds"]
    costs = prices.from_summary(stored, delta, samples)
    laws, levels = [], []
    for j, entry in enumerate(result["data_law"]):
        drawn = None
        if "law/Dmin" in samples:
            drawn = {name: samples[f"law/{name}"][:, j] for name in ("Dmin", "k", "alpha")}
        Dmin, k, alpha = (np.nan if entry[n] is None else entry[n] for n in ("Dmin", "k", "alpha"))
        if np.isfinite([Dmin, k]).all():
            laws.append(PowerLaw(Dmin, k, alpha, samples=drawn))
            levels.append(entry["J"])
    bounds = (utds[0], utds[-1])
    optima = [
        budget.optimal_utd(law, costs, bounds, J, stored["method"]) for J, law in zip(levels, laws)
    ]
    lines, fitted, why = {}, (), ""
    try:
        law = budget.budget_law(optima, stored["holdout"])
        lines, fitted = {"utd": law.utd}, law.levels
    except ScalingError as error:
        why = str(error)
    noise = _noise(samples.get("log_pooled"), len(levels))
    return Forecast(
        "utd", np.array(levels), laws, costs, optima, lines, why, {"utd": bounds}, noise, fitted,
        _held(levels, stored["holdout"]),
    )  # fmt: skip


def _over_size(result: dict, delta: float | None) -> Forecast:
    part, samples = result["size_axis"], samples_of(result)
    delta = part["prices"]["delta"] if delta is None else delta
    costs = size_report.price_from_summary(part["prices"], delta, samples)
    laws = [size_report.law_from_summary(e, j, samples) for j, e in enumerate(part["law"])]
    levels = np.array([e["J"] for e in part["law"]])
    (low, high), (least, most) = part["box"]
    box = (low, high), (least, most)
    optima = [size_budget.joint_optimum(law, costs, box, J) for J, law in zip(levels, laws)]
    lines, fitted, why = {}, (), ""
    try:
        law = size_budget.joint_law(optima, result["config"]["holdout"])
        lines, fitted = {name: law.lines[name] for name in ("utd", "size")}, law.levels
    except ScalingError as error:
        why = str(error)
    noise = _noise(samples.get("size/log_pooled"), len(levels))
    return Forecast(
        "size", levels, laws, costs, optima, lines, why, dict(zip(("utd", "size"), box)), noise,
        fitted, _held(levels, result["config"]["holdout"]),
    )  # fmt: skip


def _held(levels, holdout: int) -> tuple[float, ...]:
    """The top levels, which the budget law is not fitted through."""
    return tuple(sorted(levels)[len(levels) - min(holdout, len(levels)) :])


def _noise(log_pooled: np.ndarray | None, count: int) -> np.ndarray:
    """[nJ] root mean square over the points of the bootstrap sd of log pooled D [K, P, nJ]."""
    if log_pooled is None or log_pooled.shape[-1] != count:
        return np.full(count, np.nan)
    seen = np.isfinite(log_pooled)
    mean = np.where(seen, log_pooled, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    square = np.where(seen, (log_pooled - mean) ** 2, 0.0).sum(axis=0)
    return np.sqrt((square / np.maximum(seen.sum(axis=0), 1)).mean(axis=0))
