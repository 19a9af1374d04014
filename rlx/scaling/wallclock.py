"""Measured seconds in place of FLOPs: the wall-clock frontier (specification 13.10).

    seconds per transition w(s, N) = w1 * s**m * N**n

through the runs' own `wall_s`, whose slope over the run leaves out start-up and compilation.  Where
several random seeds ran in one program, `wall_s` is of the whole program.  The times are taken as
exact: run-to-run noise of D dwarfs that of the clock.
"""

from __future__ import annotations

import numpy as np

from rlx.scaling.cells import KEY
from rlx.scaling.options import Options
from rlx.scaling.table import Table


def by_run(table: Table, rows: np.ndarray | None = None) -> list[tuple[dict, np.ndarray]]:
    """(configuration and seed, its rows in order of env steps) per run of a table."""
    rows = np.arange(len(table)) if rows is None else rows
    names = (*KEY, "seed")
    codes = [np.unique(table[n][rows], return_inverse=True)[1].ravel() for n in names]
    _, first, group = np.unique(
        np.stack(codes, axis=1), axis=0, return_index=True, return_inverse=True
    )
    order = np.lexsort((table["env_step"][rows], group.ravel()))
    ends = np.cumsum(np.bincount(group.ravel()))[:-1]
    return [
        ({n: table[n][rows[i]].item() for n in names}, rows[own])
        for i, own in zip(first, np.split(order, ends))
    ]


def chosen_rows(table: Table, options: Options) -> np.ndarray:
    """Rows of the asked algorithm, tasks and model sizes."""
    keep = np.ones(len(table), bool)
    if options.algo is not None:
        keep &= table["algo"] == options.algo
    if options.tasks is not None:
        keep &= np.isin(table["task"], options.tasks)
    if options.model_size is not None and np.isfinite(table["model_size"]).any():
        keep &= np.isin(table["model_size"], options.model_size)
    return np.flatnonzero(keep)


def measure(table: Table, options: Options) -> dict | None:
    """Seconds per transition over the table's runs, or None without a `wall_s` column.

    Returns:
      `rows`: [{'task', 'utd', 'model_size', 'seconds'}] medians over the runs of a configuration;
      `line`: (log w1, m) in log sigma alone, `plane`: (log w1, m, n) in (log sigma, log N); each
      None where the table has fewer than 3 UTDs (2 sizes).  Tasks enter by the geometric mean.
    """
    found: dict[tuple, list[float]] = {}
    for config, rows in by_run(table, chosen_rows(table, options)):
        seen = rows[np.isfinite(table["wall_s"][rows])]
        if len(seen) < 2:
            continue
        steps, seconds = (np.ptp(table[name][seen]) for name in ("env_step", "wall_s"))
        if seconds > 0 and steps > 0:
            key = (config["task"], config["utd"], config["model_size"])
            found.setdefault(key, []).append(float(seconds / steps))
    if not found:
        return None
    tasks, utds, sizes = (np.array(v) for v in zip(*found))
    y = np.log([np.median(v) for v in found.values()])
    rows = [
        {"task": t, "utd": u, "model_size": n, "seconds": s}
        for (t, u, n), s in zip(found, np.exp(y))
    ]
    return {
        "rows": rows,
        "line": _regress([np.log(utds)], y, tasks),
        "plane": _regress([np.log(utds), np.log(sizes)], y, tasks),
    }


def at_size(measured: dict | None, size: float) -> tuple[float, float] | None:
    """The line (log w1, m) of one model size: the plane there, or the line of a table without
    sizes."""
    if measured is None:
        return None
    if measured["plane"] is not None and np.isfinite(size):
        w, m, n = measured["plane"]
        return w + n * float(np.log(size)), m
    return measured["line"]


def _regress(columns: list[np.ndarray], y: np.ndarray, tasks: np.ndarray) -> tuple | None:
    """(mean intercept over tasks, slopes...) of y on the columns with task dummies, or None."""
    needed = (3, 2)
    if not all(np.isfinite(c).all() and len(np.unique(c)) >= n for c, n in zip(columns, needed)):
        return None
    names = np.unique(tasks)
    dummies = (tasks[:, None] == names).astype(float)
    design = np.hstack([dummies, np.stack(columns, axis=1)])
    solved = np.linalg.lstsq(design, y, rcond=None)[0]
    return (float(solved[: len(names)].mean()), *(float(v) for v in solved[len(names) :]))


def widths(table: Table) -> list[tuple[float, float]]:
    """(model size, network width) pairs of the table, ascending; empty without the columns."""
    seen = np.isfinite(table["width"]) & np.isfinite(table["model_size"])
    pairs = np.unique(np.stack([table["model_size"][seen], table["width"][seen]], axis=1), axis=0)
    return [(float(n), float(w)) for n, w in pairs]
