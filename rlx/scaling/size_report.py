"""The `size_axis` part of a report: laws in (sigma, N) per level, joint optima, their budget law,
and how wrong the laws are outside what they were fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlx.scaling import commands, size_budget, size_rule, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.size_law import COEFFICIENTS, SizeLaw, fit_data_size
from rlx.scaling.size_rule import SizePrices
from rlx.scaling.size_study import SizeStudy

CURVE_POINTS = 25  # of the drawn curves D(sigma) at each measured size
BAND_POINTS = 25


def size_part(s: SizeStudy, measured: dict | None) -> tuple[dict, dict[str, np.ndarray]]:
    """(`size_axis` of fit.json, its bootstrap samples by name).

    Args:
      measured: of `wallclock.measure`: seconds per transition over (sigma, N), or None.
    """
    laws = [fit_level(s, j) for j in range(len(s.levels))]
    prices, delta_note = make_prices(s, measured)
    if delta_note:
        s.warnings.append(delta_note)
    optima = [
        size_budget.joint_optimum(law, prices, s.box, float(J)) for J, law in zip(s.levels, laws)
    ]
    edge = [o for o in optima if o.at_bound]
    if edge:
        s.warnings.append(
            f"joint optimum at an edge of the measured box at J = "
            f"{', '.join(f'{o.J:g}' for o in edge)}: {size_budget.advice(edge)}"
        )
    part = {
        "tasks": list(s.task_scale), "all_tasks": s.tasks,
        "utds": np.unique(s.sigma), "sizes": np.unique(s.size),
        "box": s.box, "levels": s.levels, "task_scale": s.task_scale,
        "cells": commands.cell_settings(s.cells),
        "table": _table(s), "law": [law_summary(s, j, law) for j, law in enumerate(laws)],
        "batch_rule": _rule_summary(s), "learning_rate": _rate_summary(s),
        "size_batch": s.options.size_batch,
        "prices": price_summary(prices),
        "optima": [_optimum_summary(o, prices, measured) for o in optima],
        "budget_law": _law_summary(s, optima),
        "extrapolation": {side: leave_out(s, side) for side in ("utd", "size")},
        "missing": s.missing, "warnings": s.warnings,
    }  # fmt: skip
    return part, _samples(s, laws, prices)


def fit_level(s: SizeStudy, j: int, keep: np.ndarray | None = None) -> SizeLaw:
    """The law of level j over the points in `keep` [P] bool (default: all)."""
    keep = np.ones(len(s.sigma), bool) if keep is None else keep
    samples = None if s.pooled_samples is None else s.pooled_samples[:, keep, j]
    return fit_data_size(s.sigma[keep], s.size[keep], s.pooled[keep, j], samples=samples)


def make_prices(s: SizeStudy, measured: dict | None) -> tuple[SizePrices, str]:
    """What compute costs on the plane, and a note when delta had to be chosen."""
    if s.options.compute == "seconds":
        if measured is None or measured["plane"] is None:
            raise ScalingError(
                "compute=seconds needs the column wall_s at >= 3 UTDs and >= 2 model sizes"
            )
        prices = SizePrices(s.options.delta or 0.0, plane=measured["plane"])
    else:
        rule = s.batch_rule
        if s.options.size_batch != "rule":
            rule = size_rule.constant_rule(float(s.options.size_batch))
        if rule is None:
            raise ScalingError("no batch rule on the size axis; price with --size_batch=256")
        prices = SizePrices(s.options.delta or 0.0, rule=rule)
    if s.options.delta is not None:
        return prices, ""
    middle = [float(np.sqrt(low * high)) for low, high in s.box]
    delta = float(prices.per_transition(*middle))
    note = (
        f"no price of data given: delta = {delta:.3g} {s.options.unit} per transition on the size "
        f"axis, the cost of its updates at its middle (UTD {middle[0]:.3g}, N {middle[1]:.3g})"
    )
    return SizePrices(delta, prices.rule, prices.plane, prices.plane_samples), note


def _table(s: SizeStudy) -> list[dict]:
    """The pooled D table: one row per (J, sigma, N)."""
    spread = np.full((*s.pooled.shape, 2), np.nan)
    if s.pooled_samples is not None:
        spread = stats.interval(s.pooled_samples)
    return [
        {"J": J, "utd": s.sigma[p], "size": s.size[p], "D": s.pooled[p, j], "D_ci": spread[p, j]}
        for j, J in enumerate(s.levels)
        for p in range(len(s.sigma))
    ]


def law_summary(s: SizeStudy, j: int, law: SizeLaw) -> dict:
    """Predictions first: at every point with its interval and error, then the coefficients."""
    D, ci = law.predict(s.sigma, s.size), law.predict_ci(s.sigma, s.size)
    error = D / s.pooled[:, j] - 1.0
    grid = np.geomspace(*s.box[0], CURVE_POINTS)
    curves = []
    for size in np.unique(s.size):
        there = np.full(CURVE_POINTS, size)
        band = law.predict_ci(grid, there)
        curves.append({
            "size": size, "utd": grid, "D": law.predict(grid, there),
            "low": band[:, 0], "high": band[:, 1],
        })  # fmt: skip
    out = {
        "J": s.levels[j],
        "prediction": [
            {"utd": s.sigma[p], "size": s.size[p], "D": D[p], "D_ci": ci[p], "error": error[p]}
            for p in range(len(D))
        ],
        "median_abs_error": np.nanmedian(np.abs(error)),
        "max_abs_error": np.nanmax(np.abs(error)),
    }
    for name in COEFFICIENTS:
        out[name], out[f"{name}_ci"] = getattr(law, name), law.ci(name)
    return out | {
        "utd_scale": law.utd_scale, "size_scale": law.size_scale,
        "log_A": law.log_A, "log_B": law.log_B,
        "loss": law.loss, "start_losses": law.start_losses,
        "flags": list(law.flags), "unidentified": law.unidentified(), "curves": curves,
    }  # fmt: skip


def _rule_summary(s: SizeStudy) -> dict | None:
    rule = s.batch_rule
    if rule is None:
        return None
    return {
        "log_a": rule.log_a, "alpha": rule.alpha, "log_b": rule.log_b, "beta": rule.beta,
        "alpha_ci": rule.ci("alpha"), "beta_ci": rule.ci("beta"), "r2": rule.r2,
        "flags": list(rule.flags), "task_factor": s.task_batch,
        "prediction": [
            {"utd": u, "size": n, "batch_size": b}
            for u, n, b in zip(s.sigma, s.size, rule.predict(s.sigma, s.size))
        ],
    }  # fmt: skip


def _rate_summary(s: SizeStudy) -> dict | None:
    if s.rate_rule is None:
        return None
    return {"slope": s.rate_rule.slope, "at_utd_1": s.rate_rule.value_at_1}


def price_summary(prices: SizePrices) -> dict:
    """Enough to price again: delta and the rule's or the plane's coefficients."""
    out = {"delta": prices.delta, "plane": prices.plane, "rule": None}
    if prices.rule is not None:
        names = size_rule.COEFFICIENTS
        out["rule"] = {name: getattr(prices.rule, name) for name in names}
    return out


def price_from_summary(part: dict, delta: float, samples: dict) -> SizePrices:
    """The prices of a `size_axis` at another delta, with bootstrap samples where there are any."""
    if part["plane"] is not None:
        return SizePrices(delta, plane=tuple(part["plane"]))
    values: dict[str, Any] = {k: -np.inf if v is None else v for k, v in part["rule"].items()}
    drawn = {
        name: samples[f"size/rule/{name}"]
        for name in size_rule.COEFFICIENTS
        if f"size/rule/{name}" in samples
    }
    return SizePrices(delta, rule=size_rule.SizeRule(**values, samples=drawn or None))


def law_from_summary(entry: dict, j: int, samples: dict) -> SizeLaw:
    """The law of a `size_axis.law` entry, with bootstrap samples where there are any."""
    names = ("Dmin", "log_A", "alpha", "log_B", "beta")
    drawn = {n: samples[f"size/law/{n}"][:, j] for n in names if f"size/law/{n}" in samples}
    return SizeLaw(**{name: entry[name] for name in names}, samples=drawn or None)


def _optimum_summary(o: size_budget.JointOptimum, prices: SizePrices, measured) -> dict:
    drawn = o.samples or {}
    out = {"J": o.J, "at_bound": list(o.at_bound)}
    for name in size_budget.NAMES:
        out[name] = getattr(o, name)
        out[f"{name}_ci"] = stats.interval(drawn[name]) if drawn else [np.nan, np.nan]
    out["inside"] = float(drawn["inside"].mean()) if drawn else np.nan
    out["batch_size"] = np.nan
    if prices.rule is not None:
        out["batch_size"] = float(prices.rule.predict(o.utd, o.size))
    out["seconds"] = np.nan
    if measured is not None and measured["plane"] is not None:
        w, m, n = measured["plane"]
        out["seconds"] = float(np.exp(w + m * np.log(o.utd) + n * np.log(o.size)) * o.data)
    return out


def _law_summary(s: SizeStudy, optima: list[size_budget.JointOptimum]) -> dict | None:
    try:
        law = size_budget.joint_law(optima, s.options.holdout)
    except ScalingError as error:
        s.warnings.append(str(error))
        return None
    if law.outside > stats.MAX_FAILED:
        s.warnings.append(
            f"{100 * law.outside:.0f} % of the bootstrap optima lie at an edge of the measured "
            "box: the joint budget law has no interval"
        )
    budgets = np.array([o.budget for o in optima])
    grid = np.geomspace(np.nanmin(budgets) / 2, np.nanmax(budgets) * 2, BAND_POINTS)
    out = {
        "reference_budget": law.reference_budget, "levels": law.levels, "holdout": law.holdout,
        "outside": law.outside, "budget": grid,
    }  # fmt: skip
    for name, line in law.lines.items():
        drawn = line.predict_samples(grid)
        band = np.full((len(grid), 2), np.nan) if drawn is None else stats.interval(drawn)
        out[name] = {
            "coefficient": line.coefficient, "exponent": line.exponent,
            "exponent_ci": line.ci("exponent"), "value": line.predict(grid),
            "low": band[:, 0], "high": band[:, 1],
        }  # fmt: skip
    return out


def leave_out(s: SizeStudy, side: str) -> dict:
    """Refit without the largest UTD or the largest N and foretell D there (held-out error).

    Returns the left-out value, per level the signed errors at its points, and their summary; `note`
    says why there are none.
    """
    values = s.sigma if side == "utd" else s.size
    gone = values == values.max()
    out = {"left_out": values.max(), "levels": [], "note": None,
           "median_abs_error": np.nan, "max_abs_error": np.nan}  # fmt: skip
    found: list[float] = []
    for j, J in enumerate(s.levels):
        try:
            law = fit_level(s, j, ~gone)
        except ScalingError as error:
            out["note"] = str(error)
            continue
        actual = s.pooled[gone, j]
        drawn = law.predict_samples(s.sigma[gone], s.size[gone])
        ci = np.full(2, np.nan)
        if drawn is not None and s.pooled_samples is not None:
            ci = stats.interval(np.nanmedian(drawn / s.pooled_samples[:, gone, j] - 1.0, axis=1))
        errors = law.predict(s.sigma[gone], s.size[gone]) / actual - 1.0
        errors = errors[np.isfinite(errors)]
        found += np.abs(errors).tolist()
        out["levels"].append({
            "J": J, "errors": errors, "median_error": np.median(errors) if len(errors) else np.nan,
            "median_error_ci": ci,
        })  # fmt: skip
    if found:
        out["median_abs_error"], out["max_abs_error"] = float(np.median(found)), max(found)
    return out


def _samples(s: SizeStudy, laws: list[SizeLaw], prices: SizePrices) -> dict[str, np.ndarray]:
    """Bootstrap replicates that `recommend` and `suggest` need, by name."""
    drawn = [law.samples for law in laws if law.samples is not None]
    if s.pooled_samples is None or len(drawn) < len(laws):
        return {}
    out = {
        f"size/law/{name}": np.stack([samples[name] for samples in drawn], axis=1)
        for name in ("Dmin", "log_A", "alpha", "log_B", "beta")
    }
    if prices.rule is not None and prices.rule.samples is not None:
        out |= {f"size/rule/{name}": v for name, v in prices.rule.samples.items()}
    logs = {"size/log_D": s.D_samples, "size/log_pooled": s.pooled_samples}
    return out | {name: np.log(v).astype(np.float32) for name, v in logs.items()}
