"""What bandit runs are worth: one row per run, some of their actions, a printed table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import bandits_data
from experiments.bandits_parts import Bandit, Method
from rlx.infra import files

MEASURED = ("reward", "on_data", "modes")
WORDS = ("part", "method")
WHICH = (*WORDS, "alpha", "seed")  # tell a run from all others
HIT = 0.01  # of the samples: so many near a mode, and it is hit
SHOWN = 60  # samples of a run that are kept for the figure


class Found(NamedTuple):
    """All that is known so far."""

    rows: list[dict[str, Any]]  # part, method, alpha (0 = it has none), seed, MEASURED, updates
    samples: dict[str, np.ndarray]  # "part/method/alpha/seed" -> [SHOWN, 2]


def measure(bandit: Bandit, frames: np.ndarray) -> dict[str, float]:
    """Return mean true reward, the share on data and the number of modes hit of `frames [n, 2]`."""
    mode, near = map(np.asarray, bandits_data.nearest(bandit, frames))
    share = np.bincount(mode[near], minlength=bandit.modes) / len(frames)
    return {
        "reward": round(float(bandits_data.reward(bandit, frames).mean()), 4),
        "on_data": round(float(near.mean()), 4),
        "modes": int((share >= HIT).sum()),
    }


def add(
    found: Found, method: Method, bandit: Bandit, seeds: Sequence[int], frames: np.ndarray
) -> Found:
    """Put new runs and their actions `frames [S, P, n, 2]` in the place of earlier ones."""
    part = {"part": bandit.name, "method": method.label}
    new = [
        part | {"alpha": alpha, "seed": seed} | measure(bandit, frames[s, p])
        for p, alpha in enumerate(method.values(bandit))
        for s, seed in enumerate(seeds)
    ]
    runs = {tuple(row[name] for name in WHICH): row for row in found.rows}
    runs |= {tuple(row[name] for name in WHICH): row | {"updates": bandit.updates} for row in new}
    samples = {
        f"{bandit.name}/{method.label}/{alpha:g}/{seed}": frames[s, p, :SHOWN].astype(np.float16)
        for p, alpha in enumerate(method.values(bandit))
        for s, seed in enumerate(seeds)
    }
    return Found([runs[key] for key in sorted(runs)], found.samples | samples)


def save(path: Path, found: Found) -> None:
    """Write the samples, and beside them the table."""
    files.write_npz(path.with_suffix(".npz"), found.samples)
    files.write_csv(path, found.rows)


def load(path: Path) -> Found:
    """Read what `save` wrote; nothing if there is nothing, and no samples where they are lost."""
    if not path.exists():
        return Found([], {})
    rows = [
        {k: v if k in WORDS else float(v) if "." in v else int(v) for k, v in row.items()}
        for row in files.read_csv(path)
    ]
    if not (kept := path.with_suffix(".npz")).exists():
        return Found(rows, {})
    with np.load(kept) as samples:
        return Found(rows, dict(samples))


def settings(rows: Sequence[dict]) -> dict[tuple, list[dict]]:
    """Group the runs of one setting: (part, method, alpha) -> its runs."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["part"], row["method"], row["alpha"]), []).append(row)
    return groups


def summary(rows: Sequence[dict]) -> str:
    """One line per setting: means over its seeds, and the reward of every run."""
    lines = [
        f"{'part':8} {'method':9} {'alpha':>6} {'reward':>7} {'on_data':>8} {'modes':>6}  runs"
    ]
    for (part, method, alpha), runs in settings(rows).items():
        reward, on_data, modes = (np.mean([run[name] for run in runs]) for name in MEASURED)
        own = " ".join(f"{run['reward']:.2f}" for run in runs)
        shown = f"{alpha:g}" if alpha else "-"
        lines.append(
            f"{part:8} {method:9} {shown:>6} {reward:7.2f} {on_data:8.2f} {modes:6.1f}  {own}"
        )
    return "\n".join(lines)
