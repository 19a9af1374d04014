"""What should I run with budget F?  Reads a result (of `report` or `load`) only."""

from __future__ import annotations

import math

import numpy as np

from rlx.scaling import flops, forecast, rules, stats
from rlx.scaling.errors import ScalingError
from rlx.scaling.forecast import Forecast

PROGRAM = "python -m experiments.scaling_laws"


def recommend(
    result: dict, total_budget: float, delta: float | None = None, axis: str = "auto"
) -> dict:
    """UTD, batch size, learning rate (and model size), data and compute for a budget F.

        D = F / (price(s) + delta),   C = F - delta * D,   s = sigma*(F), held inside the measured
        range

    Args:
      result: of `report` or `load`.
      total_budget: F = C + delta * D, FLOPs (seconds for a fit with compute=seconds).
      delta: another price of a transition than the fitted one: optima and law are made anew.
      axis: 'utd', 'size' (joint), or 'auto': joint where the fit has a model-size axis.
    Returns:
      `utd`, `size`, `width`, each with its 95 % interval `..._ci` where it has one; `batch_size`
      and `learning_rate` by task; `data` (pooled env steps) with `data_ci`, the 95 % interval of a
      new measurement of what the level `J` takes; `J` with `J_ci` (an end beyond the fitted levels
      is null); `compute`; `runs`: per task env steps, settings and a command line; `extrapolated`
      and the reasons in `flags`; `truncated`: whose interval the measured
      range cuts off; `clipped` (held at the edge of the measured range).
    """
    if not total_budget > 0:
        unit = result["config"]["unit"]
        raise ScalingError(f"budget={total_budget:g}; must be a positive number of {unit}")
    f = forecast.forecast(result, delta, axis)
    free = f.point(total_budget)
    at = {name: float(np.clip(value, *f.box[name])) for name, value in free.items()}
    data = total_budget / f.cost(at)
    J, J_ci = f.level(at, data)
    data_ci = np.full(2, np.nan) if J is None else f.prediction_interval(at, J)
    flags = _flags(f, free, at, total_budget, J, result["config"]["unit"])
    batch, rate = settings(result, f, at)
    width = None if "size" not in at else width_of(result, at["size"])
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
    return out | {"runs": _runs(result, f, out)}


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


def _flags(
    f: Forecast, free: dict, at: dict, total: float, J: float | None, unit: str
) -> list[str]:
    """Why the recommendation lies outside what was measured; empty when it does not."""
    flags = []
    budgets = np.array([o.budget for o in f.optima])
    if not np.nanmin(budgets) <= total <= np.nanmax(budgets):
        flags.append(
            f"extrapolated: budget {total:.3g} {unit} lies outside the fitted optima "
            f"[{np.nanmin(budgets):.3g}, {np.nanmax(budgets):.3g}]"
        )
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


def settings(result: dict, f: Forecast, at: dict[str, float]) -> tuple[dict, dict]:
    """Batch size and learning rate by task, rounded as published; empty where unknown."""
    if f.axis == "utd":
        return (
            _by_task(result["rules"]["batch_size"], at["utd"], rules.tabulated_batch),
            _by_task(result["rules"]["learning_rate"], at["utd"], rules.tabulated_rate),
        )
    part = result["size_axis"]
    rate = _by_task(part["learning_rate"], at["utd"], rules.tabulated_rate)
    rule = part["batch_rule"]
    if rule is None:
        return {}, rate
    x, z = np.log(at["utd"]), np.log(at["size"])
    b = -np.inf if rule["log_b"] is None else rule["log_b"]
    pooled = float(
        np.exp(rule["log_a"] - rule["alpha"] * x - np.logaddexp(0, b - rule["beta"] * z))
    )
    return {t: rules.tabulated_batch(pooled * v) for t, v in rule["task_factor"].items()}, rate


def _by_task(rule: dict | None, utd: float, rounded) -> dict:
    if rule is None:
        return {}
    return {task: rounded(value * utd ** rule["slope"]) for task, value in rule["at_utd_1"].items()}


def width_of(result: dict, size: float) -> int | None:
    """Network width for a model size: by the nets given at the fit (`net`), else between the
    widths of the table; None when neither says."""
    net, pairs = result["config"].get("net"), result["widths"]
    if net is not None:
        obs, action, critic_hidden, _ = net
        return flops.width_for(size, obs + action, len(critic_hidden))
    if len(pairs) < 2:
        return None
    sizes, widths = np.log(np.array(pairs)).T
    return round(math.exp(np.interp(math.log(size), sizes, widths)))


def _runs(result: dict, f: Forecast, advice: dict) -> list[dict]:
    """One run per task: env steps (the pooled D in the task's own scale) and the command."""
    scale = result["task_scale"] if f.axis == "utd" else result["size_axis"]["task_scale"]
    out = []
    for task in scale:
        run = {
            "task": task, "algo": result["config"]["algo"],
            "utd": float(f"{advice['utd']:.3g}"), "width": advice["width"],
            "size": advice["size"], "batch_size": advice["batch_size"].get(task),
            "learning_rate": advice["learning_rate"].get(task),
            "env_steps": math.ceil(advice["data"] * scale[task]),
            "env_steps_ci": advice["data_ci"] and [
                math.ceil(end * scale[task]) for end in advice["data_ci"]
            ],
        }  # fmt: skip
        out.append(run | {"command": command(run)})
    return out


def command(run: dict, seeds: str = "") -> str:
    """A ready command line; settings that the fit does not know are left to the config."""
    parts = [PROGRAM, *([f"--algo={run['algo']}"] if run.get("algo") in flops.LEARNERS else [])]
    parts.append(f"--utd={run['utd']:g}")
    if run.get("batch_size"):
        parts.append(f"--batch_size={run['batch_size']}")
    if run.get("learning_rate"):
        parts.append(f"--lr={run['learning_rate']:g}")
    if run.get("width"):
        parts.append(f"--width={run['width']}")
    parts += [f"--env={run['task']}", f"--steps={run['env_steps']}"]
    return " ".join(parts + ([seeds] if seeds else []))
