"""Table and figure of `experiments.fast_toy`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

Rows = Sequence[dict]


def groups(rows: Rows) -> dict[tuple[str, int], dict[int, list[dict]]]:
    """Rows by (variant, extra) and T."""
    found: dict[tuple[str, int], dict[int, list[dict]]] = {}
    for row in rows:
        kind = found.setdefault((row["variant"], int(row["extra"])), {})
        kind.setdefault(int(row["T"]), []).append(row)
    return found


def mean(rows: Rows, name: str) -> float:
    """The mean of a column over runs."""
    return float(np.mean([float(row[name]) for row in rows]))


def label(variant: str, extra: int) -> str:
    """What the figure and the table call a group."""
    if variant == "naive":
        return f"naive, {extra} bins"
    return f"FAST, {extra} tokens" if extra >= 1024 else f"FAST, alphabet + {extra}"


def summary(rows: Rows) -> str:
    """One line per group and T, and the ratios that the paper's figure is about."""
    lines = [f"{'':22}{'T':>5}{'MSE':>10}{'tokens':>9}{'next step':>11}{'runs':>6}"]
    for kind, by_length in groups(rows).items():
        for T, own in sorted(by_length.items()):
            step = mean(own, "next_step_mse") if kind[0] == "naive" else float("nan")
            lines.append(
                f"{label(*kind):22}{T:5}{mean(own, 'mse'):10.4f}{mean(own, 'tokens'):9.1f}"
                f"{step:11.1e}{len(own):6}"
            )
    for kind in (("naive", 256), ("fast", 32)):
        own = groups(rows).get(kind, {})
        if len(own) > 1:
            first, last = min(own), max(own)
            ratio = mean(own[last], "mse") / mean(own[first], "mse")
            lines.append(f"{label(*kind)}: MSE({last}) / MSE({first}) = {ratio:.2f}")
    naive, fast = (groups(rows).get(kind, {}) for kind in (("naive", 256), ("fast", 32)))
    for T in sorted(naive.keys() & fast.keys()):
        ratio = mean(naive[T], "mse") / mean(fast[T], "mse")
        lines.append(f"naive MSE / FAST MSE at T = {T}: {ratio:.1f}")
    lines.append(f"variance {mean(rows, 'variance'):.3f}, first value {mean(rows, 'copy_mse'):.3f}")
    return "\n".join(lines)


def draw(rows: Rows, path: Path) -> None:
    """Errors on held-out curves against T."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 3.6))
    for kind, by_length in groups(rows).items():
        T = sorted(by_length)
        line = ax.plot(T, [mean(by_length[t], "mse") for t in T], "o-", label=label(*kind))[0]
        for t in T:
            each = [float(row["mse"]) for row in by_length[t]]
            ax.plot([t] * len(each), each, "_", color=line.get_color())
    ax.axhline(mean(rows, "variance"), color="0.6", linestyle=":", label="variance")
    ax.set(xscale="log", yscale="log", xlabel="samples per curve", ylabel="MSE of greedy decoding")
    ax.xaxis.set_minor_formatter("")
    ax.set_xticks(ticks := sorted({int(row["T"]) for row in rows}), labels=map(str, ticks))
    ax.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
