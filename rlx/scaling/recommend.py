"""What should I run with budget F?  Reads a result (of `report` or `load`) only."""

from __future__ import annotations

import math

import numpy as np

from rlx.scaling import commands, forecast, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.forecast import Forecast


def recommend(
    result: dict,
    total_budget: float,
    delta: float | None = None,
    axis: str = "auto",
    run_config: str | None = None,
) -> dict:
    """UTD, batch size, learning rate (and model size), data and compute for a budget F.

        D = F / (price(s) + delta),   C = F - delta * D,   s = sigma*(F), held inside the measured
        range

    Args:
      result: of `report` or `load`.
      total_budget: F = C + delta * D, FLOPs (seconds for a fit with compute=seconds).
      delta: another price of a transition than the fitted one: optima and law are made anew.
      axis: 'utd', 'size' (joint), or 'auto': joint where the fit has a model-size axis.
      run_config: the sweep's config for the commands, such as configs/scaling_laws.py:study.
    Returns:
      `utd`, `size`, `width`, each with its 95 % interval `..._ci` where it has one; `batch_size`
      and `learning_rate` by task; `data` (pooled env steps) with `data_ci`, the 95 % interval of a
      new measurement of what the level `J` takes; `J` with `J_ci` (an end beyond the fitted levels
      is null); `compute`; `runs`: per task env steps, settings and a command line; `extrapolated`
      and the reasons in `flags`; `truncated`: whose interval the measured
      range cuts off; `clipped` (held at the edge of the measured range).
    """
    if not 0 < total_budget < math.inf:
        unit = result["config"]["unit"]
        raise ScalingError(f"budget={total_budget:g}; must be a positive, finite number of {unit}")
    f = forecast.forecast(result, delta, axis)
    free = f.point(total_budget)
    at = {name: float(np.clip(value, *f.box[name])) for name, value in free.items()}
    data = total_budget / f.cost(at)
    J, J_ci = f.level(at, data)
    data_ci = np.full(2, np.nan) if J is None else f.prediction_interval(at, J)
    flags = _flags(f, free, at, total_budget, J, result["config"]["unit"])
    batch, rate = commands.settings(result, f, at)
    width = commands.width_at(result, at)
    out = {
        "axis": f.axis, "budget": total_budget, "delta": f.prices.delta,
        "unit": result["config"]["unit"],
        "utd": at["utd"], "utd_ci": _ci(f, "utd", total_budget),
        "size": at.get("size"), "size_ci": _ci(f, "size", total_budget), "width": width,
        "batch_size": batch, "learning_rate": rate,
        "data": data, "data_ci": _listed(data_ci),
        "compute": total_budget - f.prices.delta * data,
        "J": J, "J_ci": None if J is None or np.isnan(J_ci).all() else [
            None if np.isnan(end) else float(end) for end in J_ci
        ],
        "extrapolated": bool(flags),
        "truncated": _truncated(f, total_budget),
        "clipped": any(at[name] != free[name] for name in at),
        "flags": flags,
    }  # fmt: skip
    return out | {"runs": _runs(result, f, out, run_config)}


def _ci(f: Forecast, name: str, total: float) -> list[float] | None:
    """95 % interval of sigma*(F) or N*(F); None when unavailable."""
    drawn = f.replicates(name, total)
    return None if drawn is None else _listed(stats.interval(drawn))


def _truncated(f: Forecast, total: float) -> list[str]:
    """Which of 'utd', 'size' have an interval that the edge of the measured range cuts off."""
    ends = {name: _ci(f, name, total) for name in f.box}
    return [n for n, ci in ends.items() if ci and np.isclose(ci, f.box[n], rtol=1e-4).any()]


def _listed(ci: np.ndarray) -> list[float] | None:
    return None if np.isnan(ci).any() else [float(end) for end in ci]


def _budget_flags(f: Forecast, total: float, unit: str) -> list[str]:
    """Where the budget is not among those of the optima that the law was fitted through: beyond
    them, or next to a level that was held out or whose optimum is at an edge."""
    flags = []
    low, high = f.known[0].budget, f.known[-1].budget
    if not low <= total <= high:
        flags.append(
            f"extrapolated: budget {total:.3g} {unit} lies outside the fitted optima "
            f"[{low:.3g}, {high:.3g}]"
        )
    optima = sorted((o for o in f.optima if np.isfinite(o.budget)), key=lambda o: o.budget)
    beside = [*[o for o in optima if o.budget <= total][-1:],
              *[o for o in optima if o.budget >= total][:1]]  # fmt: skip
    kinds = (
        ("at the edge of the measured range", lambda o: bool(o.at_bound)),
        ("held out of the law", lambda o: o.J in f.held),
    )
    for text, of_kind in kinds if f.lines else ():
        if any(of_kind(o) and o.J not in f.fitted for o in beside):
            own = [o for o in optima if of_kind(o)]
            flags.append(
                f"extrapolated: the optima near this budget are {text}: J = "
                f"{', '.join(f'{o.J:g}' for o in own)}, budgets [{own[0].budget:.3g}, "
                f"{own[-1].budget:.3g}] {unit}"
            )
    return flags


def _flags(
    f: Forecast, free: dict, at: dict, total: float, J: float | None, unit: str
) -> list[str]:
    """Why the recommendation lies outside what was measured; empty when it does not."""
    flags = _budget_flags(f, total, unit)
    names = {"utd": "UTD", "size": "model size"}
    for name, value in free.items():
        low, high = f.box[name]
        if value != at[name]:
            flags.append(
                f"extrapolated: the law asks for {names[name]} {value:.3g}, outside the measured "
                f"[{low:.3g}, {high:.3g}]; held at the edge"
            )
        elif not f.lines and np.isclose(value, (low, high), rtol=1e-4).any():
            flags.append(
                f"extrapolated: the optimum is at the edge of the measured {names[name]} range "
                f"[{low:.3g}, {high:.3g}]; the true one may lie beyond"
            )
    if not f.lines:
        flags.append(f"no budget law, optima of the levels interpolated: {f.why}")
    if J is None:
        flags.append("extrapolated: the level this budget reaches lies outside the fitted levels")
    return flags


def _runs(result: dict, f: Forecast, advice: dict, run_config: str | None) -> list[dict]:
    """One run per task: env steps (the pooled D in the task's own scale) and the command."""
    scale = commands.task_scale(result, f)
    at = {name: advice[name] for name in f.box}
    out = []
    for task in scale:
        run = commands.fresh(result, f, at, task, advice["data"])
        run |= {
            "algo": result["config"]["algo"],
            "env_steps_ci": advice["data_ci"] and [
                math.ceil(end * scale[task]) for end in advice["data_ci"]
            ],
        }  # fmt: skip
        out.append(run | {"command": commands.command(result, run, run_config)})
    return out
