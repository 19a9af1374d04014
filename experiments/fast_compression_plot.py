"""The table and the figure of `experiments.fast_compression`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPORTED = 10  # scale of the table, as published


def table(rows: Sequence[dict], tasks: Sequence[Any]) -> str:
    """Return Table I, tokens of binning and of FAST: made-up motion, then as published."""
    head = f"{'':<11}{'dims':>5}{'Hz':>4}{'naive':>7}{'FAST':>7}{'95 %':>6}{'ratio':>7}{'rmse':>8}"
    lines = [f"{head}   published: {'naive':>6}{'FAST':>6}{'ratio':>7}"]
    for task in tasks:
        own = [r for r in rows if r["task"] == task.name]
        fast = next(r for r in own if r["method"] == "FAST" and r["setting"] == REPORTED)
        lines.append(
            f"{task.name:<11}{task.dims:>5}{task.hz:>4}{task.dims * task.hz:>7}"
            f"{fast['mean_tokens']:>7.1f}{fast['p95_tokens']:>6.0f}{fast['ratio']:>7.1f}"
            f"{fast['rmse']:>8.4f}{'':>14}{task.paper_naive:>6}{task.paper_fast:>6}"
            f"{task.paper_naive / task.paper_fast:>7.1f}"
        )
    return "\n".join(lines)


def draw(rows: Sequence[dict], path: Path) -> None:
    """Draw error against tokens, one panel per task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.4), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        own = [row for row in rows if row["task"] == name]
        for method in dict.fromkeys(row["method"] for row in own):
            points = sorted((r["mean_tokens"], r["rmse"]) for r in own if r["method"] == method)
            ax.plot(*zip(*points, strict=True), marker="o", label=method)
        ax.set(xscale="log", yscale="log", xlabel="tokens per chunk")
        ax.set_title(f"{name}: {own[0]['dims']} dims, {own[0]['hz']} Hz")
    axes[0][0].set_ylabel("RMSE of normalised actions")
    axes[0][0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
