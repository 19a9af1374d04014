"""Success and errors against the tokens read, one line per run, one colour per setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw(rows: Sequence[dict], shown: Sequence[str], path: Path) -> None:
    """Draw the first four measures of `shown` that the rows have."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [name for name in shown if any(name in row for row in rows)][:4]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2), squeeze=False)
    labels = [f"{row['tokenizer']} {row['hz']} Hz {row['head']}" for row in rows]
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(labels))}
    runs = dict.fromkeys((label, row["seed"]) for label, row in zip(labels, rows))
    for ax, panel in zip(axes[0], panels, strict=True):
        for label, seed in runs:
            own = [r for r, of in zip(rows, labels) if (of, r["seed"]) == (label, seed)]
            read, values = zip(*[(int(r["read"]) / 1e6, float(r[panel])) for r in own])
            first = seed == next(s for of, s in runs if of == label)
            ax.plot(read, values, ".-", color=colours[label], label=label if first else None)
        ax.set(xlabel="million tokens read", title=panel.replace("_", " "))
        if panel.endswith("mse"):
            ax.set_yscale("log")
    axes[0][0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
