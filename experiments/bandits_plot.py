"""Actions of every method over the ring, and what they are worth against alpha."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import bandits_data
from experiments.bandits_parts import Bandit, Method
from experiments.bandits_result import Found, settings

SHOWN = (  # panels of actions: method and the alpha that is nearest to this one
    ("flow BC", 0.0), ("FQL", 0.1), ("FQL", 3.0), ("FQL", 30.0),
    ("ReBRAC", 0.1), ("IFQL", 0.0), ("AWR mean", 0.0),
)  # fmt: skip
SIDE = 1.9  # inches of a panel


def draw(found: Found, bandits: Sequence[Bandit], methods: Sequence[Method], path: Path) -> None:
    """Draw one row of panels per bandit that has runs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    there = [bandit for bandit in bandits if any(row["part"] == bandit.name for row in found.rows)]
    width = len(SHOWN) + 2
    figure, axes = plt.subplots(
        len(there), width, figsize=(SIDE * width, SIDE * len(there)), squeeze=False
    )
    for row, bandit in zip(axes, there, strict=True):
        for ax, (label, alpha) in zip(row, SHOWN, strict=False):
            scatter(ax, found, bandit, label, alpha)
        row[0].set_ylabel(bandit.name)
        for ax, measure in zip(row[-2:], ("reward", "on_data"), strict=True):
            curves(ax, found, bandit, methods, measure)
    axes[0, -2].legend(fontsize=6)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def scatter(ax, found: Found, bandit: Bandit, label: str, alpha: float) -> None:
    """Draw the modes and actions of all seeds."""
    ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], aspect="equal")
    modes = np.asarray(bandits_data.centers(bandit))
    worth = np.asarray(bandits_data.reward(bandit, modes))
    for mode, value in zip(modes, worth, strict=True):
        color = "tab:green" if value > 0.01 else "0.6"
        ax.add_patch(_circle(mode, bandit.near, color))
    own = [
        row["alpha"] for row in found.rows if (row["part"], row["method"]) == (bandit.name, label)
    ]
    if not own:
        ax.set_visible(False)
        return
    values = list(dict.fromkeys(own))
    nearest = int(np.argmin([abs(np.log((v or 1.0) / (alpha or 1.0))) for v in values]))
    prefix = f"{bandit.name}/{label}/{values[nearest]:g}/"
    kept = [own for name, own in found.samples.items() if name.startswith(prefix)]
    if kept:
        ax.scatter(*np.concatenate(kept).T, s=2, color="tab:blue", alpha=0.6, linewidths=0)
    title = f"{label} {values[nearest]:g}" if values[nearest] else label
    ax.set_title(title, fontsize=8)


def _circle(center: np.ndarray, radius: float, color: str):
    from matplotlib.patches import Circle

    return Circle((center[0], center[1]), radius, color=color, alpha=0.3, linewidth=0)


def curves(ax, found: Found, bandit: Bandit, methods: Sequence[Method], measure: str) -> None:
    """Draw a measure against alpha with its runs' range; a level line where there is no alpha."""
    groups = settings([row for row in found.rows if row["part"] == bandit.name])
    for i, method in enumerate(methods):
        own = {alpha: runs for (_, label, alpha), runs in groups.items() if label == method.label}
        means = [np.mean([run[measure] for run in runs]) for runs in own.values()]
        style = {"color": f"C{i}", "label": method.label, "linewidth": 1}
        if means and method.setting:
            ax.plot(list(own), means, marker=".", **style)
            spread = [[f(run[measure] for run in r) for r in own.values()] for f in (min, max)]
            ax.fill_between(list(own), *spread, color=f"C{i}", alpha=0.15, linewidth=0)
        elif means:
            ax.axhline(means[0], linestyle=":", **style)
    ax.set_xscale("log")
    ax.set_title(f"{measure} against alpha", fontsize=8)
    ax.tick_params(labelsize=6)
