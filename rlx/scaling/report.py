"""From a results table to `fit.json`, a text report and figures.

result = report("runs.csv", thresholds=[300, 500, 700], delta=1e9);   write(result, "out/")
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import cast

import numpy as np

from rlx.scaling import data_law, overfit, prepare, rules, size_report, stats, summary, wallclock
from rlx.scaling import options as options_lib
from rlx.scaling.analysis import Study, study
from rlx.scaling.commands import cell_settings
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import Prices
from rlx.scaling.published_report import report_published
from rlx.scaling.result import VERSION, Result, load, write
from rlx.scaling.size_study import size_study
from rlx.scaling.table import Source, Table, read_table

__all__ = ["load", "report", "report_published", "write"]


def report(table: Table | Source | list, **options) -> Result:
    """The whole analysis of a results table, as a strict-JSON dict (specification section 4).

    Args:
      table: anything `rlx.scaling.table.read_table` accepts, or its result.
      **options: see `rlx.scaling.options.Options`; `preset` names a row of its PRESETS.
    Returns:
      the content of `fit.json`: version, kind, config, rules, data_law, budget_law, extrapolation,
      per_task, task_scale, cells, size_axis, measured, overfit, widths, learning_curves, missing,
      warnings; bootstrap replicates as its attribute `samples`.
    """
    chosen = options_lib.make(options)
    checked = table if isinstance(table, Table) else read_table(table, chosen.return_source)
    checked = prepare.nominal_sizes(checked)
    s = study(checked, chosen)
    laws = fit_laws(s)
    measured = wallclock.measure(checked, chosen)
    line = wallclock.at_size(measured, s.model_size)
    prices = make_prices(s, line)
    bounds = (float(s.sigma[0]), float(s.sigma[-1]))
    budget_law = None
    if prices is not None:
        budget_law = summary.budget_part(laws, prices, bounds, chosen, s.warnings, line)
    flag_laws(laws, s.warnings)
    size_axis, size_samples = _size_axis(checked, chosen, measured, s.warnings)
    content = summary.plain({
        "version": VERSION,
        "kind": "table",
        "config": {
            **asdict(chosen), "tasks": s.tasks, "utds": s.sigma, "thresholds": s.levels,
            "algo": next(iter(s.cells.values())).algo, "model_size": s.model_size,
            "delta": None if prices is None else prices.delta,
            "return_base": s.scale.base, "return_top": s.scale.top,
            "batch_size": sorted({c.batch_size for c in s.cells.values()}), "unit": chosen.unit,
            "seeds": int(np.median([len(c.seeds) for c in s.cells.values()])),
            "num_envs": _num_envs(checked, chosen),
            "next_seed": 1 + max((int(x) for x in checked["seed"] if x.isdecimal()), default=-1),
        },
        "rules": {
            "batch_size": summary.rule_summary(s.batch_rule),
            "learning_rate": summary.rule_summary(s.rate_rule),
            "best": best_summary(s),
            "table": _table(s),
        },
        "data_law": [
            summary.law_summary(
                law, J, s.sigma, s.pooled[:, j],
                None if s.pooled_samples is None else s.pooled_samples[:, :, j],
                [t for t, ok in zip(s.tasks, s.complete[:, j]) if ok],
            )
            for j, (J, law) in enumerate(laws)
        ],
        "budget_law": budget_law,
        "extrapolation": leave_largest_utd_out(s, budget_law),
        "per_task": summary.per_task(s, prices),
        "task_scale": s.task_scale,
        "cells": cell_settings(s.cells),
        "size_axis": size_axis,
        "measured": measured,
        "overfit": overfit.correlations(checked, chosen),
        "widths": wallclock.widths(checked),
        "learning_curves": summary.learning_curves(s),
        "missing": s.missing,
        "warnings": s.warnings,
    })  # fmt: skip
    return Result(content, _samples(s, laws, prices) | size_samples)


def _num_envs(table: Table, options: options_lib.Options) -> int | None:
    """The number of parallel environments, where it is known and the same in all runs."""
    found = np.unique(table["num_envs"][wallclock.chosen_rows(table, options)])
    return int(found[0]) if len(found) == 1 and np.isfinite(found[0]) else None


def _size_axis(
    table: Table, options: options_lib.Options, measured: dict | None, notes: list[str]
) -> tuple[dict | None, dict[str, np.ndarray]]:
    """The model-size part, or None (with a warning when the table has the axis but it fails)."""
    if isinstance(options.model_size, (int, float)):
        return None, {}
    try:
        s = size_study(table, options)
        return (None, {}) if s is None else size_report.size_part(s, measured)
    except ScalingError as error:
        notes.append(f"no model-size axis: {error}")
        return None, {}


def _samples(
    s: Study, laws: list[tuple[float, PowerLaw]], prices: Prices | None
) -> dict[str, np.ndarray]:
    """Bootstrap replicates that `recommend` and `suggest` need, by name."""
    if s.pooled_samples is None or s.D_samples is None:
        return {}
    logs = {"log_D": s.D_samples, "log_pooled": s.pooled_samples}
    out = {name: np.log(v).astype(np.float32) for name, v in logs.items()}
    drawn = [law.samples for _, law in laws if law.samples is not None]
    if len(drawn) == len(laws):
        for name in ("Dmin", "k", "alpha"):
            out[f"law/{name}"] = np.stack([samples[name] for samples in drawn], axis=1)
    if prices is not None and prices.batch_samples is not None:
        out["batch_at_1"] = prices.batch_samples
        out["batch_slope"] = cast(np.ndarray, prices.slope_samples)
    return out


def _table(s: Study) -> list[dict]:
    """Tabulated recommendations; empty when a rule is unknown."""
    if s.batch_rule is None or s.rate_rule is None:
        return []
    return rules.tabulate(s.batch_rule, s.rate_rule)


def _law(s: Study, keep: np.ndarray, j: int) -> PowerLaw:
    """Fit level j over the UTDs in `keep` [n_sigma] bool."""
    samples = None if s.pooled_samples is None else s.pooled_samples[:, keep, j]
    weights = None
    if s.options.weighted:
        if samples is None:
            raise ScalingError(
                "weighted=True needs the bootstrap: >= 2 random seeds everywhere and bootstrap > 1"
            )
        weights = 1.0 / np.maximum(np.nanvar(samples, axis=0), 1e-12)
    return data_law.fit_data(
        s.sigma[keep], s.pooled[keep, j], samples, s.options.loss, weights, s.options.three_utds
    )


def fit_laws(s: Study) -> list[tuple[float, PowerLaw]]:
    """One data law per level J, ascending."""
    everything = np.ones(len(s.sigma), bool)
    return [(float(J), _law(s, everything, j)) for j, J in enumerate(s.levels)]


def flag_laws(laws: list[tuple[float, PowerLaw]], notes: list[str]) -> None:
    """One warning per kind of weakness of the fits."""
    for flag, text in (
        ("no_utd_gain", "D does not fall with the UTD (beta = 0)"),
        ("alpha_at_bound", "alpha lies at the edge of its search range"),
        ("Dmin_fixed_0", "3 UTDs only: Dmin held at 0"),
    ):
        levels = [f"{J:g}" for J, law in laws if flag in law.flags]
        if levels:
            notes.append(f"{text} at J = {', '.join(levels)}")


def make_prices(s: Study, line: tuple[float, float] | None = None) -> Prices | None:
    """What transitions and updates cost, or None (with a warning) when the model size is
    unknown.

    Args:
      line: measured seconds per transition, see `wallclock.at_size`; for compute='seconds'.
    """
    if s.options.compute == "seconds":
        if line is None:
            raise ScalingError("compute=seconds needs the column wall_s at >= 3 UTDs")
        return _with_delta(s, Prices(s.model_size, np.nan, np.nan, s.options.delta or 0.0, line))
    if not np.isfinite(s.model_size):
        s.warnings.append(
            "no model size: no compute, no budget law; add the column, --model_size=N or --net="
        )
        return None
    if s.batch_rule is None:  # `prepare.fill_blanks` leaves no blank batch size
        raise ScalingError("no batch-size rule; fill the batch_size column")
    samples = s.batch_rule.pooled_samples()
    matched = (
        samples is not None
        and s.pooled_samples is not None
        and len(samples) == len(s.pooled_samples)
    )
    prices = Prices(
        s.model_size, s.batch_rule.pooled(), s.batch_rule.slope, s.options.delta or 0.0, None,
        samples if matched else None, s.batch_rule.slope_samples if matched else None,
    )  # fmt: skip
    return _with_delta(s, prices)


def _with_delta(s: Study, prices: Prices) -> Prices:
    """The default price of a transition, with a warning, where none is given."""
    if s.options.delta is not None:
        return prices
    middle = float(np.sqrt(s.sigma[0] * s.sigma[-1]))
    delta = float(prices.per_transition(middle))
    s.warnings.append(
        f"no price of data given: delta = {delta:.3g} {s.options.unit} per transition, the cost of "
        f"its updates at the sweep's middle UTD {middle:.3g}; set --delta="
    )
    return replace(prices, delta=delta)


def best_summary(s: Study) -> list[dict]:
    """Best hyper-parameters per (task, sigma) with their bootstrap sd; empty when there was nothing
    to choose."""
    if s.best is None:
        return []
    return [
        {
            "task": task, "utd": sigma, "batch_size": b, "batch_size_sd": np.nanstd(b_samples),
            "learning_rate": eta, "learning_rate_sd": np.nanstd(eta_samples),
        }
        for task, sigma, b, eta, b_samples, eta_samples in zip(
            s.best.tasks, s.best.sigma, s.best.batch_size, s.best.learning_rate,
            s.best.batch_samples.T, s.best.rate_samples.T,
        )
        if np.isfinite(b)
    ]  # fmt: skip


def leave_largest_utd_out(s: Study, budget_law: dict | None) -> dict:
    """Refit without the largest UTD and foretell D there (the headline extrapolation error)."""
    keep = s.sigma < s.sigma[-1]
    left_out, errors = float(s.sigma[-1]), []
    try:
        zero_dmin = data_law.check_utds(s.sigma[keep], s.options.three_utds)
    except ScalingError as error:
        return summary.extrapolation(s.levels, [], budget_law, left_out, str(error))
    why = "3 UTDs are left without it, so this refit holds Dmin at 0" if zero_dmin else ""
    for j, J in enumerate(s.levels):
        if np.isfinite(s.pooled[:, j]).sum() < 4 or not np.isfinite(s.pooled[-1, j]):
            continue
        law = _law(s, keep, j)
        predicted, actual = float(law.predict(left_out)), float(s.pooled[-1, j])
        samples = law.predict_samples(np.array([left_out]))
        if samples is not None and s.pooled_samples is not None:
            samples = samples[:, 0] / s.pooled_samples[:, -1, j] - 1.0
        errors.append({
            "J": J, "predicted": predicted, "actual": actual, "error": predicted / actual - 1.0,
            "error_ci": stats.interval(samples),
        })  # fmt: skip
    return summary.extrapolation(s.levels, errors, budget_law, left_out, why)
