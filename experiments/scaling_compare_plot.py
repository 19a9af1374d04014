"""The figure of `scaling_compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw(rows: Sequence[dict], path: Path) -> None:
    """Draw D_J against the UTD, one panel per task; the level J stands below each UTD."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = plt.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.4), squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        for algo in dict.fromkeys(row["algo"] for row in rows):
            own = [row for row in rows if (row["task"], row["algo"]) == (task, algo)]
            x, y, low, high = (
                np.array([r[k] for r in own]) for k in ("utd", "D", "D_low", "D_high")
            )
            high = np.where(np.isfinite(high), high, y)
            ax.errorbar(x, y, [y - low, high - y], marker="o", capsize=3, label=algo.upper())
        ax.set(xscale="log", yscale="log", xlabel="UTD", title=task)
        levels = [row["J"] for row in own]  # of the algorithm drawn last; all have the same
        ax.set_xticks(x, [f"{u:g}\nJ {j:g}" for u, j in zip(x, levels)], minor=False)
        ax.legend()
    axes[0][0].set_ylabel("transitions to reach J")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
