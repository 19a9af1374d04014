"""The parts of the text report about the model-size axis and about overfitting."""

from __future__ import annotations

import numpy as np

SHOWN = 6  # levels whose table is printed; fit.json has all


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{digits}g}"


def _span(ci: list | None) -> str:
    if ci is None or all(end is None for end in ci):
        return "[interval unavailable]"
    return f"[{_number(ci[0])}, {_number(ci[1])}]"


def some(count: int, shown: int = SHOWN) -> list[int]:
    """At most `shown` indices, spread evenly and including both ends."""
    return sorted(set(np.linspace(0, count - 1, min(count, shown)).round().astype(int).tolist()))


def size_axis(result: dict) -> str:
    """Held-out errors, predictions, coefficients, joint optima, rule; '' without a size axis."""
    part = result["size_axis"]
    if part is None:
        return ""
    unit = result["config"]["unit"]
    price = "measured seconds" if part["prices"]["plane"] else f"batch {part['size_batch']}"
    lines = [
        "MODEL SIZE: D_J = Dmin + (a / sigma)**alpha + (b / N)**beta",
        f"sizes N: {', '.join(_number(n) for n in part['sizes'])}   UTDs: "
        f"{', '.join(_number(u) for u in part['utds'])}   tasks: {', '.join(part['tasks'])}",
        f"price: {price}   delta: {_number(part['prices']['delta'])} {unit} per transition",
        *_errors(part),
    ]
    kept = some(len(part["law"]))
    for j in kept:
        law = part["law"][j]
        lines.append(
            f"J {_number(law['J'])}: predicted D (env steps) inside the grid, median |error| "
            f"{100 * law['median_abs_error']:.1f} %, largest {100 * law['max_abs_error']:.1f} %"
        )
        lines += [
            f"  UTD {_number(p['utd']):>6}  N {_number(p['size']):>9}: {_number(p['D'])} "
            f"{_span(p['D_ci'])}"
            for p in law["prediction"]
        ]
    lines.append("coefficients; ? = unidentified (interval spans > factor 5)")
    for j in kept:
        law = part["law"][j]
        marks = {n: "?" if law["unidentified"][n] else "" for n in ("Dmin", "alpha", "beta")}
        lines.append(
            f"  J {_number(law['J'])}: "
            + "  ".join(f"{n}{marks[n]} {_number(law[n])} {_span(law[f'{n}_ci'])}" for n in marks)
            + f"  terms equal Dmin at UTD {_number(law['utd_scale'])}, N "
            f"{_number(law['size_scale'])}"
            + (f"  flags: {', '.join(law['flags'])}" if law["flags"] else "")
        )
    return "\n".join([*lines, *_rule(part), *_optima(part, unit), *_law(part), *_weak(part)])


def _errors(part: dict) -> list[str]:
    out = []
    for side, name in (("utd", "UTD"), ("size", "N")):
        e = part["extrapolation"][side]
        if e["median_abs_error"] is None:
            out.append(f"D at the largest {name}, fitted without it: not available ({e['note']})")
            continue
        out.append(
            f"D at {name} {_number(e['left_out'])}, fitted without it: median |error| "
            f"{100 * e['median_abs_error']:.1f} %, largest {100 * e['max_abs_error']:.1f} % "
            f"({len(e['levels'])} levels)"
        )
    return out


def _rule(part: dict) -> list[str]:
    rule = part["batch_rule"]
    if rule is None:
        return ["batch rule B(s, N): not available"]
    size = "no effect of N"
    if "no_size_effect" not in rule["flags"]:
        b = np.exp(rule["log_b"])
        size = f"1 / (1 + {_number(b)} * N**-{_number(rule['beta'])})"
    at_1, slope = _number(np.exp(rule["log_a"])), _number(0.0 - rule["alpha"])
    return [f"batch rule B(s, N) = {at_1} * s**{slope}, {size}   R2 {_number(rule['r2'], 3)}"]


def _optima(part: dict, unit: str) -> list[str]:
    out = ["cheapest (sigma, N) for each J inside the measured box"]
    for o in part["optima"]:
        edge = f"  AT {', '.join(o['at_bound']).upper()}" if o["at_bound"] else ""
        seconds = f"  seconds {_number(o['seconds'])}" if o["seconds"] is not None else ""
        batch = f"  B {_number(o['batch_size'], 3)}" if o["batch_size"] is not None else ""
        out.append(
            f"  J {_number(o['J'])}: sigma* {_number(o['utd'])} {_span(o['utd_ci'])}  N* "
            f"{_number(o['size'])} {_span(o['size_ci'])}{batch}  D {_number(o['data'])} "
            f"{_span(o['data_ci'])}  C {_number(o['compute'])}{seconds}  F {_number(o['budget'])} "
            f"{unit}{edge}"
        )
    return out


def _law(part: dict) -> list[str]:
    law = part["budget_law"]
    if law is None:
        return ["no joint budget law: see the warnings"]
    out = [
        f"{name} = {_number(law[key]['coefficient'])} * F**{_number(law[key]['exponent'])}  "
        f"exponent {_span(law[key]['exponent_ci'])}"
        for name, key in (("sigma*", "utd"), ("N*", "size"), ("D", "data"))
    ]
    for h in law["holdout"]:
        errors = ", ".join(f"{n} {100 * h[n]['error']:+.1f} %" for n in ("utd", "size", "data"))
        edge = f"  (at {', '.join(h['at_bound'])})" if h["at_bound"] else ""
        out.append(f"held-out J {_number(h['J'])}: predicted / actual - 1: {errors}{edge}")
    return out


def _weak(part: dict) -> list[str]:
    shown = [
        f"  {m['task']} at UTD {_number(m['utd'])}, N {_number(m['model_size'])}: {m['why']} "
        f"(J {m['levels']})"
        for m in part["missing"]
    ]
    return [
        f"missing on the size axis ({len(shown)})", *shown,
        *(f"note: {w}" for w in part["warnings"]),
    ]  # fmt: skip


def overfitting(result: dict) -> str:
    """Rank correlations of what the critics logged; '' where nothing was logged."""
    if not result["overfit"]:
        return ""
    lines = ["OVERFITTING: rank correlations over runs (published sign: + for all)"]
    for c in result["overfit"]:
        lines.append(
            f"  {c['what']} with {c['with']}: rho {c['rho']:+.2f}, p {c['p']:.2g} "
            f"({c['runs']} runs, held: {', '.join(c['held'])})"
        )
    return "\n".join(lines)
