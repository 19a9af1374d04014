"""From a results table to `fit.json`, a text report and figures.

result = report("runs.csv", thresholds=[300, 500, 700], delta=1e9);   write(result, "out/")
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from rlx.scaling import data_law, published, rules, stats, summary
from rlx.scaling import options as options_lib
from rlx.scaling.analysis import Study, study
from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import Prices
from rlx.scaling.table import Source, Table, read_table

VERSION = 1
FIT_COLUMNS = ("benchmark", "J", "alpha", "b", "c")  # of a table of published coefficients


def report(table: Table | Source | list, **options) -> dict:
    """The whole analysis of a results table, as a strict-JSON dict (specification section 4).

    Args:
      table: anything `rlx.scaling.table.read_table` accepts, or its result.
      **options: see `rlx.scaling.options.Options`.
    Returns:
      the content of `fit.json`: version, kind, config, rules, data_law, budget_law, extrapolation,
      per_task, learning_curves, missing, warnings.
    """
    chosen = options_lib.make(options)
    checked = table if isinstance(table, Table) else read_table(table, chosen.return_source)
    s = study(checked, chosen)
    laws = fit_laws(s)
    prices = make_prices(s)
    bounds = (float(s.sigma[0]), float(s.sigma[-1]))
    budget_law = None
    if prices is not None:
        budget_law = summary.budget_part(laws, prices, bounds, chosen, s.warnings)
    flag_laws(laws, s.warnings)
    return summary.plain({
        "version": VERSION,
        "kind": "table",
        "config": {
            **asdict(chosen), "tasks": s.tasks, "utds": s.sigma, "thresholds": s.levels,
            "model_size": s.model_size, "delta": None if prices is None else prices.delta,
            "return_base": s.scale.base, "return_top": s.scale.top,
            "batch_size": sorted({c.batch_size for c in s.cells.values()}),
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
        "learning_curves": summary.learning_curves(s),
        "missing": s.missing,
        "warnings": s.warnings,
    })  # fmt: skip


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


def make_prices(s: Study) -> Prices | None:
    """What transitions and updates cost, or None (with a warning) when the model size is
    unknown."""
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
        s.model_size, s.batch_rule.pooled(), s.batch_rule.slope, s.options.delta or 0.0,
        samples if matched else None, s.batch_rule.slope_samples if matched else None,
    )  # fmt: skip
    if s.options.delta is None:
        middle = float(np.sqrt(s.sigma[0] * s.sigma[-1]))
        delta = float(prices.per_transition(middle))
        s.warnings.append(
            f"no price of data given: delta = {delta:.3g} FLOPs per transition, the cost of its "
            "updates at the "
            f"sweep's middle UTD {middle:.3g}; set --delta="
        )
        prices = Prices(**{**prices.__dict__, "delta": delta})
    return prices


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


def report_published(benchmark: str, rows: list[dict] | None = None, **options) -> dict:
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
    prices = Prices(
        chosen.model_size or constants.model_size, source.batch_at_1, source.batch_slope, delta
    )
    budget_law = summary.budget_part(laws, prices, constants.utd_range, chosen, notes)
    tasks = sorted(
        {r["task"] for r in published.rows("hparam_rules.csv") if r["benchmark"] == benchmark}
    )
    each = {task: rules.published_rule(benchmark, task) for task in tasks}
    batch = rules.Rule(source.batch_slope, {t: r.batch_at_1 for t, r in each.items()})
    rate = rules.Rule(source.rate_slope, {t: r.rate_at_1 for t, r in each.items()})
    low, high = constants.utd_range
    sigma = low * 2.0 ** np.arange(round(np.log2(high / low)) + 1)
    return summary.plain({
        "version": VERSION,
        "kind": "published",
        "config": {
            **asdict(chosen), "benchmark": benchmark, "tasks": tasks, "utds": sigma,
            "data_scale": data_scale,
            "thresholds": [J for J, _ in laws], "model_size": prices.model_size, "delta": delta,
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
    })  # fmt: skip


def _published_laws(rows: list[dict], data_scale: float) -> list[tuple[float, PowerLaw]]:
    """(J, law) per row of normalised coefficients: D = M * (c + (s / b)**-alpha), hence k = M *
    b**alpha."""
    laws = []
    for row in rows:
        J, alpha, b, c = (float(row[name]) for name in ("J", "alpha", "b", "c"))
        laws.append((J, PowerLaw(data_scale * c, data_scale * b**alpha, alpha)))
    return sorted(laws, key=lambda pair: pair[0])


def write(result: dict, out_dir: str | Path, overwrite: bool = False) -> list[Path]:
    """Write fit.json, report.txt and the figures (PNG and SVG); refuses to replace a fit.json
    unless told to."""
    from rlx.scaling import plots, text

    out = Path(out_dir)
    if (out / "fit.json").exists() and not overwrite:
        raise ScalingError(f"{out / 'fit.json'} exists; add --overwrite or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "fit.json").write_text(
        json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    (out / "report.txt").write_text(text.render(result), encoding="utf-8")
    return [out / "fit.json", out / "report.txt", *plots.write_all(result, out)]


def load(out_dir: str | Path) -> dict:
    """Read back the fit.json of a report directory."""
    path = Path(out_dir) / "fit.json" if Path(out_dir).suffix != ".json" else Path(out_dir)
    if not path.exists():
        raise ScalingError(
            f"no fit.json in {out_dir}; make one with: python -m rlx.scaling fit TABLE --out "
            f"{out_dir}"
        )
    result = json.loads(path.read_text(encoding="utf-8"))
    if result.get("version") != VERSION:
        raise ScalingError(
            f"{path}: version {result.get('version')}, this rlx reads {VERSION}; fit it again"
        )
    return result
