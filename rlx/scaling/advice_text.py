"""What `recommend` and `suggest` print."""

from __future__ import annotations

NO_WIDTHS = "the fit knows no widths (column width, or --net= at the fit): set the network to N"


def _span(ci: list | None) -> str:
    if ci is None or all(end is None for end in ci):
        return "[interval unavailable]"
    low, high = ("beyond the fitted levels" if end is None else f"{end:.4g}" for end in ci)
    return f"[{low}, {high}]"


def recommendation(advice: dict) -> str:
    """Settings with 95 % intervals, flags, and one command per task."""
    unit = advice["unit"]
    lines = [
        f"budget {advice['budget']:.3g} {unit}, delta {advice['delta']:.3g} {unit} per transition; "
        "[..]: 95 % intervals",
        f"UTD {advice['utd']:.3g} {_span(advice['utd_ci'])}",
    ]
    if advice["size"] is not None:
        width = f", width {advice['width']}" if advice["width"] else ""
        lines.append(f"model size N {advice['size']:.3g} {_span(advice['size_ci'])}{width}")
    lines += [
        f"data {advice['data']:.4g} env steps, a new measurement of it {_span(advice['data_ci'])}",
        f"compute {advice['compute']:.3g} {unit}",
    ]
    if advice["J"] is not None:
        lines.append(f"reaches about J = {advice['J']:.0f} {_span(advice['J_ci'])}")
    lines += [f"warning: {flag}" for flag in advice["flags"]]
    names = {"utd": "the UTD", "size": "N"}
    lines += [
        f"note: the interval of {names[name]} is cut at the edge of the measured range"
        for name in advice["truncated"]
    ]
    if len(advice["runs"]) > 1:
        lines.append("env steps are of each task; the budget is that of the pooled tasks")
    if advice["size"] is not None and advice["width"] is None:
        lines.append(NO_WIDTHS)
    return "\n".join([*lines, *(run["command"] for run in advice["runs"])])


def suggestion(plan: dict) -> str:
    """The chosen runs in order, with cost and expected interval, then their commands."""
    what = {"utd": "sigma*", "size": "N*", "data": "D"}[plan["target"]]
    low, high = plan["interval"]
    lines = [
        f"{what} at F = {plan['budget']:.3g} {plan['unit']}: 95 % interval now [{low:.3g}, "
        f"{high:.3g}], a factor {plan['factor']:.2f}",
        *(f"warning: {flag}" for flag in plan["flags"]),
    ]
    if not plan["runs"]:
        return "\n".join([*lines, "no candidate is expected to narrow it"])
    lines.append("after each run, given the ones before (expected):")
    for i, run in enumerate(plan["runs"], 1):
        where = f"UTD {run['utd']:.3g}" + (f", N {run['size']:.3g}" if run["size"] else "")
        note = "  (outside the measured range)" if run["outside"] else ""
        lines.append(
            f"{i}. {run['kind']}: {where}, {run['task'] or 'every task'}, {run['seeds']} seeds; "
            f"cost {run['cost']:.3g} {plan['unit']}; factor {run['factor_after']:.2f}{note}"
        )
        lines += [f"   {command}" for command in run["commands"]]
    if any(run["size"] and "--width=" not in " ".join(run["commands"]) for run in plan["runs"]):
        lines.append(NO_WIDTHS)
    return "\n".join(lines)
