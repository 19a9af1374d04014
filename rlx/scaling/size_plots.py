"""Figures of the model-size axis: D against sigma at each N, and the plane with its optima."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from rlx.scaling import plots
from rlx.scaling.size_report import law_from_summary

PLANE_POINTS = 60  # of each side of the contour plot
CONTOURS = 12
LEVELS_SHOWN = 3


def size_data(result: dict) -> Figure | None:
    """D against sigma at each model size, at the lowest, the middle and the top level: pooled
    points, fit, 95 % band of the prediction."""
    part = result["size_axis"]
    if part is None:
        return None
    shown = plots._some(part["law"], LEVELS_SHOWN)
    figure, (axes,) = plots._axes(columns=len(shown), width=4.6)
    for ax, j in zip(axes, shown):
        law = part["law"][j]
        rows = [r for r in part["table"] if r["J"] == law["J"]]
        for i, curve in enumerate(law["curves"]):
            color, x = plots._color(i), plots._array(curve["utd"])
            plots._band(ax, x, curve["low"], curve["high"], color)
            ax.plot(x, curve["D"], color=color, label=f"N = {curve['size']:.3g}")
            own = [r for r in rows if r["size"] == curve["size"] and r["D"] is not None]
            if own:
                D, ci = plots._array([r["D"] for r in own]), plots._array([r["D_ci"] for r in own])
                bars = plots._bars(D, ci)
                ax.errorbar(
                    [r["utd"] for r in own], D, bars, fmt="o", markersize=4, color=color,
                    elinewidth=0.6,
                )  # fmt: skip
        plots._log(ax)
        ax.set(xlabel="UTD  sigma", ylabel="D  (env steps)", title=f"J = {law['J']:.0f}")
        ax.legend(fontsize=7)
    return figure


def size_plane(result: dict) -> Figure | None:
    """Equal-data contours of the top level over (sigma, N), the measured points and the path of
    the joint optima; hollow: at an edge of the measured box, crosses: held out of the law."""
    part = result["size_axis"]
    if part is None:
        return None
    figure, ((ax,),) = plots._axes()
    law = law_from_summary(part["law"][-1], len(part["law"]) - 1, {})
    utd, size = (np.geomspace(low, high, PLANE_POINTS) for low, high in part["box"])
    D = law.predict(utd[:, None], size[None]).T
    lines = ax.contour(
        utd, size, D, levels=np.geomspace(D.min() * 1.01, D.max() * 0.99, CONTOURS),
        cmap="viridis",
    )  # fmt: skip
    ax.clabel(lines, fmt=lambda value: f"{value:.2g}", fontsize=6)
    points = {(r["utd"], r["size"]) for r in part["table"]}
    ax.plot(*zip(*points), ".", color="grey", markersize=4, label="measured")
    held = {h["J"] for h in (part["budget_law"] or {}).get("holdout", [])}
    path = [o for o in part["optima"] if o["utd"] is not None]
    ax.plot([o["utd"] for o in path], [o["size"] for o in path], "k-", linewidth=0.6)
    for o in path:
        marker = "x" if o["J"] in held else "o"
        face = {"markerfacecolor": "none"} if o["at_bound"] else {}
        ax.plot(o["utd"], o["size"], marker, color=plots.HELD_OUT, **face)
    if path:
        ax.annotate(f"J = {path[-1]['J']:.0f}", (path[-1]["utd"], path[-1]["size"]), fontsize=7)
    plots._log(ax)
    title = f"Env steps to J = {part['law'][-1]['J']:.0f}; joint optima"
    ax.set(xlabel="UTD  sigma", ylabel="N  (critic parameters)", title=title)
    ax.legend(fontsize=7)
    return figure


def size_error(result: dict) -> Figure | None:
    """predicted / actual per level for the largest UTD and the largest N, fitted without them."""
    part = result["size_axis"]
    if part is None:
        return None
    sides = [(s, part["extrapolation"][s]) for s in ("utd", "size")]
    sides = [(s, e) for s, e in sides if e["levels"]]
    if not sides:
        return None
    figure, (axes,) = plots._axes(columns=len(sides), height=3.4)
    for ax, (side, e) in zip(axes, sides):
        for row in e["levels"]:
            ratios = 1.0 + plots._array(row["errors"])
            ax.plot(np.full(len(ratios), row["J"]), ratios, "o", color=plots.HELD_OUT, alpha=0.6)
        ax.axhline(1.0, color="grey", linewidth=0.8)
        ax.set(
            xlabel="J", ylabel="predicted / actual",
            title=f"{'UTD' if side == 'utd' else 'N'} {e['left_out']:.3g} left out",
        )  # fmt: skip
    return figure


FIGURES = {"size_data": size_data, "size_plane": size_plane, "size_error": size_error}
