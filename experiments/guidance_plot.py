"""The figure and the table of `experiments.guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DISTANCE = {"gaussian": "KL of moments to the truth", "tokens": "TV to the truth"}
TITLES = {"gaussian": "two numbers, linear-Gaussian reward", "tokens": "six tokens of four"}


def draw(parts: dict[str, Sequence[Row]], path: Path) -> None:
    """Distance and reward of the beds against calls; designs against calls of the reward."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    beds = list(dict.fromkeys(row["bed"] for row in parts.get("beds", [])))
    panels = [(bed, name) for bed in beds for name in ("distance", "reward")]
    panels += [("designs", "reward")] if parts.get("designs") else []
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4.4), squeeze=False)
    for ax, (part, name) in zip(axes[0], panels, strict=True):
        if part == "designs":
            curves(ax, parts["designs"], "budget", name)
            ax.set(xlabel="calls of the reward", title="DNA: best reward of a group (proxy)")
            ax.legend(fontsize=7)
            continue
        own = [row for row in parts["beds"] if row["bed"] == part]
        level = next(row[name] for row in own if row["method"] == "truth")
        ax.axhline(level, color="0.4", linestyle=":", label="truth, as many samples")
        curves(ax, [row for row in own if row["method"] != "truth"], "calls", name)
        text = DISTANCE[part] if name == "distance" else "mean reward"
        ax.set(xlabel="calls per group", title=f"{TITLES[part]}: {text}")
        if name == "distance":
            ax.set_yscale("log")
            ax.legend(fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def curves(ax: Any, rows: Sequence[Row], x: str, y: str) -> None:
    """One line with intervals per method; dashed where values are exact."""
    ax.set_xscale("log")
    names = dict.fromkeys((row["method"], row.get("value", "")) for row in rows)
    for i, (method, value) in enumerate(names):
        own = [r for r in rows if (r["method"], r.get("value", "")) == (method, value)]
        label = f"{method}, exact values" if value == "exact" else method
        errors = [[r[y] - r[f"{y}_low"] for r in own], [r[f"{y}_high"] - r[y] for r in own]]
        style = {"linestyle": "--"} if value == "exact" else {}
        color = f"C{i % 10}"
        errors = [[max(0.0, e) for e in side] for side in errors]
        ax.errorbar(
            [r[x] for r in own], [r[y] for r in own], errors, label=label, color=color,
            marker="ovs^"[i // 10 % 4], markersize=4, capsize=2, **style,
        )  # fmt: skip


def table(parts: dict[str, Sequence[Row]]) -> str:
    """Markdown: one table per part."""
    columns = {
        "beds": ("bed", "method", "value", "calls", "reward", "distance", "logZ", "groups"),
        "designs": ("budget", "method", "reward_calls", "model_calls", "reward", "held_out",
                    "log_likelihood", "diversity", "best"),
        "actions": ("method", "calls", "reward", "on_data", "modes"),
    }  # fmt: skip
    lines = []
    for part, rows in parts.items():
        names = columns[part]
        lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [f"| {' | '.join(cell(row, name) for name in names)} |" for row in rows] + [""]
    return "\n".join(lines)


def cell(row: Row, name: str) -> str:
    """A value with its interval where it has one."""
    value = row.get(name, "")
    if not isinstance(value, float):
        return str(value)
    if f"{name}_low" in row:
        return f"{value:.3g} [{row[f'{name}_low']:.3g}, {row[f'{name}_high']:.3g}]"
    return f"{value:.4g}"
