"""What should I run with budget F?  Reads the dict of `report` / `fit.json` only."""

from __future__ import annotations

import numpy as np

from rlx.scaling import prices, rules
from rlx.scaling.errors import ScalingError


def recommend(result: dict, total_budget: float) -> dict:
    """UTD, batch size, learning rate, data and compute for a budget F = C + delta * D.

        D = F / (kappa * s**m + delta),   C = F - delta * D,   s = sigma*(F) clipped to the measured
        UTDs

    Args:
      result: of `report` or `load`.
      total_budget: F, FLOPs.
    Returns:
      dict with `utd`, `utd_ci`, `batch_size` and `learning_rate` by task, `data`, `data_ci` (env
      steps over the interval of the UTD), `compute`, `J` (the level this budget reaches, by
      interpolation of the optima), `extrapolated` (F outside the fitted optima), `clipped` (the law
      left the measured UTDs).
    """
    law = result["budget_law"]
    if law is None or law["coefficient"] is None:
        raise ScalingError(
            "this fit has no budget law; see its warnings: " + "; ".join(result["warnings"])
        )
    if not total_budget > 0:
        raise ScalingError(f"budget={total_budget:g}; must be a positive number of FLOPs")
    utds = result["config"]["utds"]
    free = law["coefficient"] * total_budget ** law["exponent"]
    utd = float(np.clip(free, utds[0], utds[-1]))
    utd_ci = _band(law["band"], total_budget)

    costs = prices.from_summary(law)

    def data(s: float) -> float:
        return total_budget / (float(costs.per_transition(s)) + law["delta"])

    budgets = np.array([o["budget"] for o in law["optima"]])
    levels = np.array([o["J"] for o in law["optima"]])
    order = np.argsort(budgets)
    inside = budgets.min() <= total_budget <= budgets.max()
    level = (
        float(np.interp(np.log(total_budget), np.log(budgets[order]), levels[order]))
        if inside
        else None
    )
    ends = (
        None
        if utd_ci is None
        else sorted(data(float(np.clip(s, utds[0], utds[-1]))) for s in utd_ci)
    )
    return {
        "budget": total_budget,
        "utd": utd,
        "utd_ci": utd_ci,
        "batch_size": _by_task(result["rules"]["batch_size"], utd, rules.tabulated_batch),
        "learning_rate": _by_task(result["rules"]["learning_rate"], utd, rules.tabulated_rate),
        "data": data(utd),
        "data_ci": ends,
        "compute": total_budget - law["delta"] * data(utd),
        "J": level,
        "extrapolated": not inside,
        "clipped": utd != free,
    }


def _by_task(rule: dict | None, utd: float, rounded) -> dict:
    if rule is None:
        return {}
    return {task: rounded(value * utd ** rule["slope"]) for task, value in rule["at_utd_1"].items()}


def _band(band: dict, total_budget: float) -> list[float] | None:
    """95 % interval of sigma*(F), interpolated in log-log; None where unavailable or outside the
    drawn band."""
    F = np.array(band["budget"])
    if None in band["low"] or not F[0] <= total_budget <= F[-1]:
        return None
    at = np.log(total_budget)
    return [float(np.exp(np.interp(at, np.log(F), np.log(band[end])))) for end in ("low", "high")]
