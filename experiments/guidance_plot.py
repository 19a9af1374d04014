"""The figure and the table of `experiments.guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TITLES = {
    ("gaussian", "distance"): "two numbers: KL of moments to the truth",
    ("gaussian", "reward"): "two numbers: mean reward",
    ("tokens", "distance"): "six tokens: TV to the truth",
    ("tokens", "reward"): "six tokens: mean reward",
    ("designs", "reward"): "DNA: best design of a group (proxy)",
}


def draw(parts: dict[str, Sequence[Row]], path: Path) -> None:
    """Distance and reward of the beds against calls; designs against calls of the reward."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    there = {row["bed"] for row in parts.get("beds", [])} | ({"designs"} & set(parts))
    panels = [panel for panel in TITLES if panel[0] in there]
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 4.6), squeeze=False)
    for ax, (part, name) in zip(axes[0], panels, strict=True):
        designs = part == "designs"
        own = parts["designs"] if designs else [r for r in parts["beds"] if r["bed"] == part]
        for row in own:
            if row["method"] == "truth":
                ax.axhline(row[name], color="0.4", linestyle=":", label="truth, as many samples")
        rest = [row for row in own if row["method"] != "truth"]
        curves(ax, rest, "reward_calls" if designs else "calls", name)
        ax.set_yscale("log" if name == "distance" else "linear")
        ax.set_xlabel("calls of the reward" if designs else "calls per group")
        ax.set_title(TITLES[part, name], fontsize=9)
        if designs or panels.index((part, name)) == 0:
            ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def curves(ax: Any, rows: Sequence[Row], x: str, y: str) -> None:
    """One line with intervals per method; dashed where values are exact."""
    ax.set_xscale("log")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method, values in dict.fromkeys((row["method"], row.get("values", "")) for row in rows):
        own = [r for r in rows if (r["method"], r.get("values", "")) == (method, values)]
        i = methods.index(method)
        errors = [[abs(r[y] - r[f"{y}_{end}"]) for r in own] for end in ("low", "high")]
        ax.errorbar(
            [r[x] for r in own], [r[y] for r in own], errors, color=f"C{i % 10}",
            label=f"{method}, exact values" if values == "exact" else method,
            linestyle="--" if values == "exact" else "-",
            marker="ov"[i // 10 % 2], markersize=4, capsize=2, linewidth=1,
        )  # fmt: skip


def table(parts: dict[str, Sequence[Row]]) -> str:
    """Markdown: one table per part."""
    columns = {
        "beds": ("bed", "method", "values", "calls", "reward", "distance", "logZ", "groups"),
        "designs": ("budget", "method", "reward_calls", "model_calls", "reward", "median", "q90",
                    "held_out", "hacking", "log_likelihood", "kmer_correlation", "diversity",
                    "unique", "best"),
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
