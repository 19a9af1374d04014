"""Laws -> the plain dict that becomes `fit.json`, and that figures and text are made from.

Intervals are [low, high] at 95 %; null means unavailable (one random seed, or too many failed
replicates) or beyond the run.  Every D and Dmin is in env steps, every compute and budget in FLOPs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rlx.scaling import budget, curves, flops, rules, stats
from rlx.scaling.analysis import Study
from rlx.scaling.budget import BudgetLaw, Optimum
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import FLOPS_PER_PARAMETER_SAMPLE, Prices

CURVE_POINTS = 41  # of the drawn data laws
BAND_POINTS = 33  # of the drawn budget law
LOG_POINTS = 120  # learning curves are thinned to about this many points in fit.json


def plain(value: Any) -> Any:
    """Strict JSON: numpy to Python, NaN and infinity to None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def rule_summary(rule: rules.Rule | None) -> dict | None:
    """slope, slope_ci, r2, at_utd_1 by task with intervals."""
    if rule is None:
        return None
    intervals = {}
    if rule.value_samples is not None:
        intervals = {task: stats.interval(v) for task, v in rule.value_samples.items()}
    return {
        "slope": rule.slope,
        "slope_ci": rule.slope_ci(),
        "r2": rule.r2,
        "at_utd_1": rule.value_at_1,
        "at_utd_1_ci": {task: intervals.get(task, [np.nan, np.nan]) for task in rule.value_at_1},
    }


def law_summary(
    law: PowerLaw, J: float, sigma: np.ndarray, measured, measured_samples, tasks: list[str]
) -> dict:
    """One entry of `data_law`: coefficients, predictions at every sigma, a curve to draw, the
    measured points."""
    grid = np.geomspace(sigma[0], sigma[-1], CURVE_POINTS)
    band, at_sigma = law.predict_ci(grid), law.predict_ci(sigma)
    spread = np.full((len(sigma), 2), np.nan)
    if measured_samples is not None:
        spread = stats.interval(measured_samples)
    return {
        "J": J,
        "Dmin": law.Dmin, "Dmin_ci": law.ci("Dmin"),
        "beta": law.beta, "beta_ci": law.ci("beta"),
        "alpha": law.alpha, "alpha_ci": law.ci("alpha"),
        "k": law.k, "loss": law.loss, "flags": list(law.flags), "unidentified": law.unidentified(),
        "tasks": tasks,
        "prediction": [
            {"utd": s, "D": d, "D_ci": ci} for s, d, ci in zip(sigma, law.predict(sigma), at_sigma)
        ],
        "measured": [] if measured is None else [
            {"utd": s, "D": d, "D_ci": ci} for s, d, ci in zip(sigma, measured, spread)
        ],
        "curve": {"utd": grid, "D": law.predict(grid), "low": band[:, 0], "high": band[:, 1]},
    }  # fmt: skip


def optimum_summary(
    o: Optimum, prices: Prices, net: tuple | None, line: tuple[float, float] | None = None
) -> dict:
    """One entry of `budget_law.optima`; `flops_exact` where the nets are known, `seconds` where the
    runs measured them (`line`, see `wallclock.at_size`)."""
    samples = o.samples or {}
    out = {"J": o.J, "at_bound": o.at_bound or None, "failed": o.failed}
    for name in ("utd", "data", "compute", "budget"):
        out[name] = getattr(o, name)
        out[f"{name}_ci"] = stats.interval(samples[name]) if samples else [np.nan, np.nan]
    by_rule = prices.seconds is None
    out["flops_paper"] = o.compute if by_rule else np.nan
    out["flops_exact"] = exact_compute(net, prices, o.utd, o.data) if net and by_rule else np.nan
    out["seconds"] = np.nan if line is None else np.exp(line[0]) * o.utd ** line[1] * o.data
    return out


def exact_compute(net: tuple, prices: Prices, utd: float, data: float) -> float:
    """Dot FLOPs of `data` env steps of a SAC at `utd`: all updates at the rule's batch size, plus
    acting."""
    count = flops.sac(*net, batch_size=1)
    return data * (utd * float(prices.batch_size(utd)) * count.per_update + count.per_env_step)


def budget_summary(
    optima: list[Optimum], prices: Prices, law: BudgetLaw | None, options, line: tuple | None = None
) -> dict:
    """`budget_law`: the law (null where it cannot be fitted), the optima and the held-out
    errors."""
    out = {
        "coefficient": np.nan, "coefficient_ci": [np.nan, np.nan],
        "exponent": np.nan, "exponent_ci": [np.nan, np.nan],
        "reference_budget": np.nan,
        "utd_at_reference": np.nan, "utd_at_reference_ci": [np.nan, np.nan],
        "data_vs_compute": None, "band": None, "holdout_errors": [], "levels": [],
        "delta": prices.delta, "model_size": prices.model_size,
        "batch_at_utd_1": prices.batch_at_1, "batch_slope": prices.batch_slope,
        "seconds_line": prices.seconds,
        "method": options.method, "holdout": options.holdout,
        "optima": [optimum_summary(o, prices, options.net, line) for o in optima],
    }  # fmt: skip
    if law is None:
        return out
    reference = np.array([law.reference_budget])
    at_reference = law.utd.predict_samples(reference)
    budgets = np.array([o.budget for o in optima])
    grid = np.geomspace(np.nanmin(budgets) / 2, np.nanmax(budgets) * 2, BAND_POINTS)
    band = law.utd.predict_samples(grid)
    band = np.full((len(grid), 2), np.nan) if band is None else stats.interval(band)
    out |= {
        "coefficient": law.utd.coefficient, "coefficient_ci": law.utd.ci("coefficient"),
        "exponent": law.utd.exponent, "exponent_ci": law.utd.ci("exponent"),
        "reference_budget": law.reference_budget,
        "utd_at_reference": law.utd.predict(reference)[0],
        "utd_at_reference_ci": stats.interval(at_reference).reshape(2),
        "data_vs_compute": {
            "coefficient": law.data.coefficient, "exponent": law.data.exponent,
            "exponent_ci": law.data.ci("exponent"),
        },
        "band": {
            "budget": grid, "utd": law.utd.predict(grid), "low": band[:, 0], "high": band[:, 1],
        },
        "levels": law.levels,
        "holdout_errors": [
            {name: v for name, v in h.items() if name != "error_samples"}
            | {"error_ci": stats.interval(h["error_samples"])}
            for h in law.holdout
        ],
    }  # fmt: skip
    return out


def budget_part(
    laws: list[tuple[float, PowerLaw]],
    prices: Prices,
    bounds: tuple[float, float],
    options,
    notes: list[str],
    line: tuple[float, float] | None = None,
) -> dict:
    """Optimum per level, the law through them, and warnings about edges of the measured range."""
    optima = [budget.optimal_utd(law, prices, bounds, J, options.method) for J, law in laws]
    edge = [o for o in optima if o.at_bound]
    if edge:
        levels = ", ".join(f"{o.J:g}" for o in edge)
        notes.append(
            f"optimum at the edge of the UTD range at J = {levels}: {budget.bound_advice(edge)}"
        )
    failed = [f"{o.J:g}" for o in optima if o.failed]
    if failed:
        notes.append(f"no optimum at J = {', '.join(failed)}: the fit failed (NaN)")
    law = None
    try:
        law = budget.budget_law(optima, options.holdout)
    except ScalingError as error:
        notes.append(f"no budget law: {error}")
    if law is not None and law.outside > stats.MAX_FAILED:
        notes.append(
            f"{100 * law.outside:.0f} % of the bootstrap optima lie at the edge of the UTD "
            "range: the budget law has "
            "no interval and leans towards the middle of the range; add UTDs there or change delta"
        )
    return budget_summary(optima, prices, law, options, line)


def extrapolation(
    levels, errors: list[dict], budget_law: dict | None, left_out: float, note: str
) -> dict:
    """The headline: how wrong a prediction beyond the fitted range would have been.

    `note` says why `errors` (D at the left-out UTD, per level) is empty or fitted differently.
    """
    found = [abs(e["error"]) for e in errors if np.isfinite(e["error"])]
    held = [abs(h["error"]) for h in (budget_law or {}).get("holdout_errors", [])]
    held = [error for error in held if np.isfinite(error)]
    return {
        "levels": levels,
        "left_out_utd": left_out,
        "utd_errors": errors,
        "note": note or None,
        "median_abs_D_error": float(np.median(found)) if found else np.nan,
        "max_abs_D_error": max(found) if found else np.nan,
        "max_abs_utd_error": max(held) if held else np.nan,
    }


def learning_curves(s: Study) -> list[dict]:
    """Mean, isotonic fit and crossings of every chosen cell, thinned, for the diagnostics
    figure."""
    out = []
    for (task, sigma), cell in sorted(s.cells.items()):
        values = s.scale.apply(cell).mean(axis=1)
        every = max(1, len(cell.steps) // LOG_POINTS)
        fit = curves.isotonic(values)
        i, j = s.tasks.index(task), int(np.searchsorted(s.sigma, sigma))
        out.append({
            "task": task, "utd": sigma, "seeds": cell.returns.shape[1],
            "steps": cell.steps[::every],
            "mean": np.round(values[::every], 2), "isotonic": np.round(fit[::every], 2),
            "D": s.D[i, j], "nan_fraction": s.nan_fraction[i, j],
        })  # fmt: skip
    return out


def per_task(s: Study, prices: Prices | None) -> dict:
    """Each task's own D [sigma][J] with intervals and, where the model size is known, its own C
    (pitfall 7)."""
    out = {}
    for i, task in enumerate(s.tasks):
        entry = {"utd": s.sigma, "J": s.levels, "D": s.D[i], "D_ci": None, "compute": None}
        if s.D_samples is not None:
            entry["D_ci"] = stats.interval(s.D_samples[:, i])
        if prices is not None and s.batch_rule is not None and task in s.batch_rule.value_at_1:
            batch = s.batch_rule.value_at_1[task] * s.sigma**s.batch_rule.slope
            per_step = FLOPS_PER_PARAMETER_SAMPLE * prices.model_size * batch * s.sigma
            if prices.seconds is not None:
                per_step = prices.per_transition(s.sigma)
            entry["compute"] = per_step[:, None] * s.D[i]
        out[task] = entry
    return out
