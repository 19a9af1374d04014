"""The text report: predictions first, coefficients after, weaknesses last but always."""

from __future__ import annotations

from rlx.scaling import size_text


def number(value: float | None, digits: int = 4) -> str:
    """4 significant digits; 'n/a' for null."""
    return "n/a" if value is None else f"{value:.{digits}g}"


def span(ci: list | None) -> str:
    """[low, high]; an unavailable end is n/a."""
    if ci is None or all(end is None for end in ci):
        return "[interval unavailable]"
    return f"[{number(ci[0])}, {number(ci[1])}]"


def render(result: dict) -> str:
    """The whole report of a result as text."""
    parts = [
        _head(result),
        _extrapolation(result),
        _data(result),
        _budget(result),
        size_text.size_axis(result),
        _rules(result),
        size_text.overfitting(result),
        _weak(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(result: dict) -> str:
    c = result["config"]
    return "\n".join([
        "Scaling report" + (f" ({c['source']})" if "source" in c else ""),
        f"tasks: {', '.join(c['tasks'])}",
        f"UTDs: {', '.join(number(u) for u in c['utds'])}   N: {number(c['model_size'])} critic "
        "parameters   "
        f"delta: {number(c['delta'])} {c['unit']} per transition",
        f"D: env steps.  C = {_price(c)} and F = C + delta D: {c['unit']}.  [..]: 95 % intervals.",
    ])  # fmt: skip


def _price(config: dict) -> str:
    return "10 N B(s) s D" if config["unit"] == "FLOPs" else "measured seconds"


def _extrapolation(result: dict) -> str:
    e = result["extrapolation"]
    lines = ["EXTRAPOLATION ERROR (predicted / actual - 1)"]
    if e["utd_errors"]:
        lines.append(
            f"D at UTD {number(e['left_out_utd'])}, fitted without it: median |error| "
            f"{100 * e['median_abs_D_error']:.1f} %, largest {100 * e['max_abs_D_error']:.1f} %"
        )
        lines += [
            f"  J {number(x['J'])}: {100 * x['error']:+.1f} %  {_percent(x['error_ci'])}"
            for x in e["utd_errors"]
        ]
    if e["note"]:
        missing = "" if e["utd_errors"] else "D at a left-out UTD is not available: "
        lines.append(f"note: {missing}{e['note']}")
    for h in (result["budget_law"] or {}).get("holdout_errors", []):
        edge = f"  (optimum at the {h['at_bound']} edge)" if h["at_bound"] else ""
        lines.append(
            f"sigma* at held-out J {number(h['J'])}: predicted {number(h['predicted_utd'])}, "
            "actual "
            f"{number(h['actual_utd'])}, {100 * h['error']:+.1f} %  {_percent(h['error_ci'])}{edge}"
        )
    return "\n".join(lines)


def _percent(ci: list | None) -> str:
    if ci is None or None in ci:
        return "[interval unavailable]"
    return f"[{100 * ci[0]:+.1f} %, {100 * ci[1]:+.1f} %]"


def _data(result: dict) -> str:
    lines = ["DATA: predicted D_J (env steps) at each UTD"]
    for law in result["data_law"]:
        lines.append(f"J {number(law['J'])}  ({len(law['tasks'])} tasks)")
        measured = {m["utd"]: m for m in law["measured"]}
        for p in law["prediction"]:
            seen = measured.get(p["utd"])
            also = f"   measured {number(seen['D'])} {span(seen['D_ci'])}" if seen else ""
            lines.append(f"  UTD {number(p['utd']):>6}: {number(p['D'])} {span(p['D_ci'])}{also}")
    lines.append("")
    lines.append(
        "D_J = Dmin + (beta / sigma)**alpha, Dmin in env steps; ? = unidentified (interval "
        "spans > factor 5)"
    )
    for law in result["data_law"]:
        marks = {
            name: "?" if law["unidentified"][name] else "" for name in ("Dmin", "beta", "alpha")
        }
        lines.append(
            f"  J {number(law['J'])}: "
            + "  ".join(f"{n}{marks[n]} {number(law[n])} {span(law[f'{n}_ci'])}" for n in marks)
            + (f"  flags: {', '.join(law['flags'])}" if law["flags"] else "")
        )
    return "\n".join(lines)


def _budget(result: dict) -> str:
    law = result["budget_law"]
    if law is None:
        return "BUDGET: not available (no model size)"
    lines = ["BUDGET: cheapest way to each J"]
    for o in law["optima"]:
        edge = f"  AT THE {o['at_bound'].upper()} EDGE" if o["at_bound"] else ""
        edge += "  FIT FAILED" if o["failed"] else ""
        exact = f"  C exact {number(o['flops_exact'])}" if o["flops_exact"] is not None else ""
        if o["seconds"] is not None:
            exact += f"  seconds {number(o['seconds'])}"
        lines.append(
            f"  J {number(o['J'])}: sigma* {number(o['utd'])} {span(o['utd_ci'])}  D "
            f"{number(o['data'])}  "
            f"C {number(o['compute'])}{exact}  F {number(o['budget'])} {span(o['budget_ci'])}{edge}"
        )
    if law["coefficient"] is None:
        return "\n".join([*lines, "no law sigma*(F): see the warnings"])
    lines.append(
        f"sigma*(F) = {number(law['coefficient'])} * F**{number(law['exponent'])}   "
        f"coefficient {span(law['coefficient_ci'])}  exponent {span(law['exponent_ci'])}"
    )
    lines.append(
        f"at F = {number(law['reference_budget'])}: sigma* {number(law['utd_at_reference'])} "
        f"{span(law['utd_at_reference_ci'])}"
    )
    along = law["data_vs_compute"]
    lines.append(
        f"along the optima D = {number(along['coefficient'])} * C**{number(along['exponent'])}"
    )
    return "\n".join(lines)


def _rules(result: dict) -> str:
    lines = ["RULES: y*(sigma) = (value at 1) * sigma**slope"]
    for name in ("batch_size", "learning_rate"):
        rule = result["rules"][name]
        if rule is None:
            lines.append(f"{name}: not available (blank column)")
            continue
        lines.append(
            f"{name}: slope {number(rule['slope'])} {span(rule['slope_ci'])}  R2 "
            f"{number(rule['r2'], 3)}"
        )
        lines += [
            f"  {task}: {number(v)} {span(rule['at_utd_1_ci'][task])}"
            for task, v in rule["at_utd_1"].items()
        ]
    return "\n".join(lines)


def _weak(result: dict) -> str:
    missing = [
        f"  {m['task']} at UTD {number(m['utd'])}: {m['why']} (J {m['levels']})"
        if "task" in m
        else f"  {m['why']}"
        for m in result["missing"]
    ]
    return "\n".join([
        f"MISSING ({len(missing)})", *missing, f"WARNINGS ({len(result['warnings'])})",
        *(f"  {w}" for w in result["warnings"]),
    ])  # fmt: skip
