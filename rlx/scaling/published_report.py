"""The published coefficients (Rybkin et al., 2025) as a report: no runs, so no intervals."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from rlx.scaling import options as options_lib
from rlx.scaling import published, rules, summary
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import Prices
from rlx.scaling.result import VERSION, Result

FIT_COLUMNS = ("benchmark", "J", "alpha", "b", "c")  # of a table of published coefficients


def report_published(benchmark: str, rows: list[dict] | None = None, **options) -> Result:
    """The published coefficients of a benchmark as a result: same dict, no intervals (none were
    published).

    Args:
      benchmark: 'dmc' or 'gym'.
      rows: of a data_fits.csv-shaped table; None: the shipped one.
      **options: `method`, `holdout`, `delta`, `model_size` as in `report`, and `data_scale` M (env
      steps).
    """
    constants = published.benchmark(benchmark)
    data_scale = float(options.pop("data_scale", None) or constants.data_scale)
    chosen = options_lib.make(options)
    notes = ["published coefficients: no runs, so no intervals and no leave-one-UTD-out error"]
    rows = [r for r in rows or published.rows("data_fits.csv") if r["benchmark"] == benchmark]
    ruled = [r for r in rows if r.get("hparams", "rule") == "rule"]
    if not ruled:
        raise ScalingError(
            f"the table of coefficients has no rows of benchmark '{benchmark}' with hparams 'rule'"
        )
    laws = _published_laws(ruled, data_scale)
    constant = _published_laws([r for r in rows if r not in ruled], constants.constant_scale)
    source = rules.published_rule(benchmark)
    delta = constants.delta if chosen.delta is None else chosen.delta
    size = chosen.model_size or constants.model_size
    if isinstance(size, tuple):
        sizes = ", ".join(f"{N:g}" for N in size)
        raise ScalingError(
            f"model_size={sizes}; published coefficients take one size: --model_size=N"
        )
    prices = Prices(size, source.batch_at_1, source.batch_slope, delta)
    budget_law = summary.budget_part(laws, prices, constants.utd_range, chosen, notes)
    tasks = sorted(
        {r["task"] for r in published.rows("hparam_rules.csv") if r["benchmark"] == benchmark}
    )
    each = {task: rules.published_rule(benchmark, task) for task in tasks}
    batch = rules.Rule(source.batch_slope, {t: r.batch_at_1 for t, r in each.items()})
    rate = rules.Rule(source.rate_slope, {t: r.rate_at_1 for t, r in each.items()})
    low, high = constants.utd_range
    sigma = low * 2.0 ** np.arange(round(np.log2(high / low)) + 1)
    return Result(summary.plain({
        "version": VERSION,
        "kind": "published",
        "config": {
            **asdict(chosen), "algo": rows[0].get("algo"), "benchmark": benchmark, "tasks": tasks,
            "utds": sigma, "data_scale": data_scale,
            "thresholds": [J for J, _ in laws], "model_size": prices.model_size, "delta": delta,
            "size_batch": chosen.size_batch, "unit": chosen.unit, "seeds": None, "num_envs": None,
            "source": source.source,
        },
        "rules": {
            "batch_size": summary.rule_summary(batch), "learning_rate": summary.rule_summary(rate),
            "best": [], "table": rules.tabulate(batch, rate),
        },
        "data_law": [summary.law_summary(law, J, sigma, None, None, tasks) for J, law in laws],
        "data_law_constant": [
            summary.law_summary(law, J, sigma, None, None, tasks) for J, law in constant
        ],
        "budget_law": budget_law,
        "extrapolation": summary.extrapolation(
            [J for J, _ in laws], [], budget_law, np.nan, notes[0]
        ),
        "per_task": {},
        "learning_curves": [],
        "missing": [],
        "warnings": notes,
        "size_axis": None,
        "task_scale": dict.fromkeys(tasks, 1.0),
        "overfit": [],
        "measured": None,
        "widths": [],
        "cells": [],
    }))  # fmt: skip


def _published_laws(rows: list[dict], data_scale: float) -> list[tuple[float, PowerLaw]]:
    """(J, law) per row of normalised coefficients: D = M * (c + (s / b)**-alpha), hence k = M *
    b**alpha."""
    laws = []
    for row in rows:
        J, alpha, b, c = (float(row[name]) for name in ("J", "alpha", "b", "c"))
        laws.append((J, PowerLaw(data_scale * c, data_scale * b**alpha, alpha)))
    return sorted(laws, key=lambda pair: pair[0])
