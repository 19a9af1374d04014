"""Success and Q against steps, one line per setting with its seeds' range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FIXED = ("agent", "tag", "task", "run", "seed", "step", "success", "return_", "score", "q")


def draw(rows: Sequence[dict], path: Path, offline_steps: int) -> None:
    """Draw what `experiments.offline` measured; a line marks where the online phase begins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [name for name in ("success", "return_", "q") if any(name in row for row in rows)]
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False)
    labels = {row["run"]: label(row) for row in rows}
    for ax, panel in zip(axes[0], panels, strict=True):
        for name in dict.fromkeys(labels.values()):
            own = [row for row in rows if labels[row["run"]] == name and panel in row]
            steps = sorted({row["step"] for row in own})
            values = [[row[panel] for row in own if row["step"] == step] for step in steps]
            line = ax.plot(steps, [np.mean(v) for v in values], marker="o", label=name)[0]
            low, high = [min(v) for v in values], [max(v) for v in values]
            ax.fill_between(steps, low, high, alpha=0.2, color=line.get_color())
        if 0 < offline_steps < max(row["step"] for row in rows):
            ax.axvline(offline_steps, color="0.5", linestyle=":")
        ax.set(xlabel="steps", title=panel.rstrip("_"))
        ax.legend()
    figure.suptitle(rows[0]["task"])
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def label(row: dict) -> str:
    """The agent and the settings in which its runs differ."""
    return " ".join([row["agent"], *(f"{k} {v:g}" for k, v in row.items() if k not in FIXED)])
