"""Figures of a result (the dict of `rlx.scaling.report.report`), each as PNG and SVG; no display is
needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rlx.scaling import prices

SHADES = (
    "#440154",
    "#31688e",
    "#35b779",
    "#b5a21b",
    "#d1495b",
    "#7a5195",
    "#003f5c",
    "#ef8354",
    "#2f4b7c",
    "#6a994e",
)
HELD_OUT = "#d1495b"
DPI = 120


def write_all(result: dict, out: Path) -> list[Path]:
    """Draw every figure the result has data for; returns the files written."""
    from rlx.scaling import size_plots

    paths = []
    for name, draw in (FIGURES | size_plots.FIGURES).items():
        figure = draw(result)
        if figure is None:
            continue
        FigureCanvasAgg(figure)
        for suffix in ("png", "svg"):
            path = out / f"{name}.{suffix}"
            figure.savefig(path, dpi=DPI)
            paths.append(path)
    return paths


def _axes(columns: int = 1, rows: int = 1, width: float = 5.6, height: float = 4.2):
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _array(values: list) -> np.ndarray:
    """JSON list with nulls -> float array with NaN."""
    return np.array(values, float)


def _color(i: int) -> str:
    return SHADES[i % len(SHADES)]


def _log(ax) -> None:
    """Log axes with labels at 1, 2, 5 only, so that short ranges do not crowd."""
    for axis in (ax.xaxis, ax.yaxis):
        ax.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.2g}" if value >= 1e4 else f"{value:g}")
        )
        axis.set_minor_formatter(NullFormatter())


def _bars(y: np.ndarray, ci: np.ndarray) -> np.ndarray:
    """[2, n] lengths of error bars for y [n] and ci [n, 2]; 0 where an end is unavailable or beyond
    the point."""
    return np.maximum(np.nan_to_num(np.stack([y - ci[:, 0], ci[:, 1] - y])), 0.0)


def _some(laws: list, count: int = 5) -> list[int]:
    """Indices of at most `count` levels, spread evenly and including both ends."""
    return sorted(
        set(np.linspace(0, len(laws) - 1, min(count, len(laws))).round().astype(int).tolist())
    )


def _band(ax, x: np.ndarray, low: list, high: list, color: str) -> None:
    bottom, top = _array(low), _array(high)
    shown = np.isfinite(bottom + top).tolist()
    ax.fill_between(x, bottom, top, where=shown, color=color, alpha=0.18, linewidth=0)


def data(result: dict) -> Figure:
    """D against sigma per J: measured points, fit, 95 % band of the prediction, dashed Dmin."""
    figure, ((ax,),) = _axes()
    laws = result["data_law"]
    for i in _some(laws):
        law, x = laws[i], _array(laws[i]["curve"]["utd"])
        _band(ax, x, law["curve"]["low"], law["curve"]["high"], _color(i))
        ax.plot(x, law["curve"]["D"], color=_color(i), label=f"J = {law['J']:.0f}")
        if law["Dmin"]:
            ax.axhline(law["Dmin"], color=_color(i), linestyle="--", linewidth=0.7, alpha=0.7)
        if law["measured"]:
            y, ci = (
                _array([m["D"] for m in law["measured"]]),
                _array([m["D_ci"] for m in law["measured"]]),
            )
            ax.errorbar(
                [m["utd"] for m in law["measured"]],
                y,
                _bars(y, ci),
                fmt="o",
                markersize=4,
                color=_color(i),
            )
    for law in result.get("data_law_constant", [])[-1:]:
        label = f"J = {law['J']:.0f}, constant B and eta"
        ax.plot(law["curve"]["utd"], law["curve"]["D"], color="black", linestyle=":", label=label)
    _log(ax)
    ax.set(xlabel="UTD  sigma", ylabel="D  (env steps)", title="Data to reach J")
    ax.legend(fontsize=7)
    return figure


def frontier(result: dict) -> Figure | None:
    """Iso-performance curves in (compute, data), the optimum of each, iso-budget lines D = (F - C)
    / delta."""
    budget = result["budget_law"]
    if budget is None:
        return None
    figure, ((ax,),) = _axes()
    laws, costs = result["data_law"], prices.from_summary(budget)
    for i in _some(laws):
        utd, D = (_array(laws[i]["curve"][name]) for name in ("utd", "D"))
        compute = costs.per_transition(utd) * D
        ax.plot(compute, D, color=_color(i), label=f"J = {laws[i]['J']:.0f}")
        best = budget["optima"][i]
        if best["failed"]:
            continue
        if budget["delta"] > 0:
            iso = np.geomspace(compute.min(), compute.max(), 200)
            line = (best["budget"] - iso) / budget["delta"]
            near = line > 0.5 * D.min()
            ax.plot(iso[near], line[near], color="grey", linewidth=0.6)
        face = "none" if best["at_bound"] else _color(i)
        ax.plot(
            best["compute"], best["data"], "*", markersize=11, color=_color(i), markerfacecolor=face
        )
    if budget["data_vs_compute"]:
        ends = np.array(sorted(o["compute"] for o in budget["optima"] if not o["failed"]))
        along = budget["data_vs_compute"]
        ax.plot(
            ends,
            along["coefficient"] * ends ** along["exponent"],
            "k--",
            linewidth=1,
            label="optima",
        )
    _log(ax)
    ax.set(
        xlabel=f"C  ({result['config']['unit']})",
        ylabel="D  (env steps)",
        title="Data-compute frontier",
    )
    ax.legend(fontsize=7)
    return figure


def budget(result: dict) -> Figure | None:
    """sigma* against F: law with its band; held-out levels as crosses, at-bound optima hollow."""
    law = result["budget_law"]
    if law is None:
        return None
    figure, ((ax,),) = _axes()
    held = {h["J"] for h in law["holdout_errors"]}
    if law["band"]:
        F = _array(law["band"]["budget"])
        _band(ax, F, law["band"]["low"], law["band"]["high"], SHADES[1])
        label = f"{law['coefficient']:.3g} F^{law['exponent']:.3f}"
        ax.plot(F, law["band"]["utd"], color=SHADES[1], label=label)
    for o in law["optima"]:
        marker, color = ("x", HELD_OUT) if o["J"] in held else ("o", "black")
        face = {"markerfacecolor": "none"} if o["at_bound"] else {}
        bars = _bars(_array([o["utd"]]), _array([o["utd_ci"]]))
        ax.errorbar(
            [o["budget"]], [o["utd"]], bars, fmt=marker, color=color, elinewidth=0.6, **face
        )
    _log(ax)
    xlabel = f"F = C + delta D  ({result['config']['unit']})"
    ax.set(xlabel=xlabel, ylabel="sigma*", title="Best UTD for a budget")
    if law["band"]:
        ax.legend(fontsize=8)
    return figure


def hparams(result: dict) -> Figure | None:
    """B* and eta* against sigma: estimates per task and the shared-slope lines."""
    names = [n for n in ("batch_size", "learning_rate") if result["rules"][n] is not None]
    if not names:
        return None
    figure, (axes,) = _axes(columns=len(names))
    utd = np.geomspace(min(result["config"]["utds"]), max(result["config"]["utds"]), 30)
    for ax, name in zip(axes, names):
        rule = result["rules"][name]
        for i, (task, value) in enumerate(rule["at_utd_1"].items()):
            ax.plot(utd, value * utd ** rule["slope"], color=_color(i), label=task)
            own = [b for b in result["rules"]["best"] if b["task"] == task]
            ax.errorbar(
                [b["utd"] for b in own],
                [b[name] for b in own],
                [b[f"{name}_sd"] or 0.0 for b in own],
                fmt="o", markersize=4, color=_color(i),
            )  # fmt: skip
        r2 = "" if rule["r2"] is None else f", R2 = {rule['r2']:.2f}"
        _log(ax)
        ax.set(xlabel="UTD  sigma", ylabel=name, title=f"slope {rule['slope']:.3f}{r2}")
        ax.legend(fontsize=6)
    return figure


def extrapolation(result: dict) -> Figure | None:
    """predicted / actual for D at the left-out UTD and for sigma* at the held-out J."""
    left = result["extrapolation"]["utd_errors"]
    held = (result["budget_law"] or {}).get("holdout_errors", [])
    groups = [
        (left, f"D at UTD {result['extrapolation']['left_out_utd']}"),
        (held, "sigma* at held-out J"),
    ]
    groups = [(rows, title) for rows, title in groups if rows]
    if not groups:
        return None
    figure, (axes,) = _axes(columns=len(groups), height=3.4)
    for ax, (rows, title) in zip(axes, groups):
        y = 1.0 + _array([r["error"] for r in rows])
        ci = 1.0 + _array([r["error_ci"] for r in rows])
        ax.errorbar(np.arange(len(rows)), y, _bars(y, ci), fmt="o", color=HELD_OUT)
        ax.axhline(1.0, color="grey", linewidth=0.8)
        ax.set_xticks(np.arange(len(rows)), [f"{r['J']:.0f}" for r in rows])
        ax.set(xlabel="J", ylabel="predicted / actual", title=title)
    return figure


def diagnostics(result: dict) -> Figure | None:
    """Learning curves per task: mean (thin), isotonic fit (thick), crossings (dots); weaknesses as
    a footer."""
    cells = result["learning_curves"]
    if not cells:
        return None
    tasks = result["config"]["tasks"]
    columns = min(3, len(tasks))
    figure, axes = _axes(columns, -(-len(tasks) // columns), width=4.2, height=3.0)
    utds = result["config"]["utds"]
    for ax in axes.ravel()[len(tasks) :]:
        ax.set_visible(False)
    for ax, task in zip(axes.ravel(), tasks):
        for cell in (c for c in cells if c["task"] == task):
            color = _color(utds.index(cell["utd"]))
            ax.plot(cell["steps"], cell["mean"], color=color, linewidth=0.5, alpha=0.6)
            ax.plot(
                cell["steps"],
                cell["isotonic"],
                color=color,
                linewidth=1.4,
                label=f"UTD {cell['utd']:g}",
            )
            ax.plot(_array(cell["D"]), result["config"]["thresholds"], ".", color=color)
        ax.set(title=task, xlabel="env steps", ylabel="J")
        ax.legend(fontsize=6)
    unidentified = sum(any(law["unidentified"].values()) for law in result["data_law"])
    at_bound = sum(bool(o["at_bound"]) for o in (result["budget_law"] or {}).get("optima", []))
    shares = [x for c in cells for x in c["nan_fraction"] if x is not None]
    figure.supxlabel(
        f"missing: {len(result['missing'])}   at-bound optima: {at_bound}   fits with an "
        "unidentified coefficient: "
        f"{unidentified} of {len(result['data_law'])}   largest NaN share: {max(shares):.2f}",
        fontsize=8,
    )  # fmt: skip
    return figure


FIGURES = {
    "data": data,
    "frontier": frontier,
    "budget": budget,
    "hparams": hparams,
    "extrapolation": extrapolation,
    "diagnostics": diagnostics,
}
