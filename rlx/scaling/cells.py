"""Cells: the random seeds of one configuration on one step grid.  A cell is what is bootstrapped.

Also here: return scaling per task (specification 4.1) and automatic thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlx.scaling import curves, published
from rlx.scaling.errors import ScalingError, unknown
from rlx.scaling.table import Table

KEY = ("algo", "task", "utd", "batch_size", "learning_rate", "model_size")


@dataclass(frozen=True)
class Cell:
    """One configuration: steps [T] env steps, returns [T, S] of the random seeds `seeds`; end: its
    last logged env step, whatever a filter drops."""

    algo: str
    task: str
    utd: float
    batch_size: float
    learning_rate: float
    model_size: float
    steps: np.ndarray
    returns: np.ndarray
    seeds: tuple[str, ...]
    end: float

    @property
    def name(self) -> str:
        """For messages: the fields that are known."""
        return _name({k: getattr(self, k) for k in KEY})


def _name(key: dict) -> str:
    """'task=..., utd=...' without the blank fields (empty text, NaN)."""
    return ", ".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in key.items()
        if v == v and v != ""
    )


def make_cells(table: Table, notes: list[str], missing: list[str]) -> list[Cell]:
    """Group the rows of a checked table into cells, sorted by (task, utd, batch size, learning
    rate).

    A seed with a NaN or infinite return is excluded by name (appended to `notes`); a configuration
    left without seeds is appended to `missing`.
    """
    codes = np.stack([np.unique(table[k], return_inverse=True)[1].ravel() for k in KEY], axis=1)
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    cells = []
    for g, row in enumerate(first):
        rows = np.flatnonzero(group.ravel() == g)
        key = {k: table[k][row].item() for k in KEY}
        name = _name(key)
        curves_of = _curves_by_seed(table, rows, name, notes)
        if not curves_of:
            missing.append(f"{name}: no seed with finite returns")
            continue
        steps, returns = _align(curves_of, name, notes)
        cells.append(Cell(**key, steps=steps, returns=returns, seeds=tuple(curves_of),
                          end=float(steps[-1])))  # fmt: skip
    if not cells:
        raise ScalingError("no configuration has a seed with finite returns")
    return sorted(cells, key=lambda c: (c.task, c.utd, c.batch_size, c.learning_rate, c.model_size))


def _curves_by_seed(table: Table, rows: np.ndarray, name: str, notes: list[str]) -> dict:
    """{seed: (steps [T], returns [T])}, sorted in time, without the seeds that have non-finite
    returns."""
    out = {}
    for seed in sorted(set(table["seed"][rows].tolist())):
        own = rows[table["seed"][rows] == seed]
        own = own[np.argsort(table["env_step"][own], kind="stable")]
        bad = np.count_nonzero(~np.isfinite(table["return"][own]))
        if bad:
            notes.append(
                f"excluded seed {seed} of {name}: {bad} of {len(own)} returns are NaN or infinite"
            )
        else:
            out[seed] = (table["env_step"][own], table["return"][own])
    return out


def _align(curves_of: dict, name: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Common step grid; unequal grids are step-held on their union from the latest first point
    on."""
    grids = [steps for steps, _ in curves_of.values()]
    if all(len(g) == len(grids[0]) and (g == grids[0]).all() for g in grids):
        return grids[0], np.stack([values for _, values in curves_of.values()], axis=1)
    union = np.unique(np.concatenate(grids))
    union = union[union >= max(g[0] for g in grids)]
    short = [seed for seed, (steps, _) in curves_of.items() if steps[-1] < union[-1]]
    if short:
        notes.append(
            f"seed(s) {', '.join(short)} of {name} end before env step {union[-1]:.0f}: last "
            "return held"
        )
    held = [
        values[np.searchsorted(steps, union, side="right") - 1]
        for steps, values in curves_of.values()
    ]
    return union, np.stack(held, axis=1)


def select(cells: list[Cell], field: str, chosen: object) -> list[Cell]:
    """The cells whose `field` equals `chosen`, or an error that lists what there is."""
    out = [c for c in cells if getattr(c, field) == chosen]
    if not out:
        known = sorted({f"{getattr(c, field):g}" if field != "task" else c.task for c in cells})
        raise unknown(field, str(chosen), known)
    return out


def without_resets(cells: list[Cell], reset_grad_steps: float) -> list[Cell]:
    """Apply the reset filter (specification 4.2) to every cell."""
    out = []
    for c in cells:
        keep = curves.reset_filter(c.steps, c.returns.mean(axis=1), c.utd, reset_grad_steps, c.name)
        out.append(Cell(**{**c.__dict__, "steps": c.steps[keep], "returns": c.returns[keep]}))
    return out


@dataclass(frozen=True)
class Scale:
    """J = 1000 * (return - base) / (top - base), per task."""

    base: dict[str, float]
    top: dict[str, float]

    def apply(self, cell: Cell) -> np.ndarray:
        """Normalised returns [T, S] of a cell."""
        base, top = self.base[cell.task], self.top[cell.task]
        return 1000.0 * (cell.returns - base) / (top - base)


def _cos_scale(cells: list[Cell], tasks: list[str]) -> Scale:
    """Fu et al. (2025): from the printed base level to 95 % of the lower quintile of final levels,
    rounded down to tens."""
    lacking = [t for t in tasks if t not in published.COS_BASES]
    if lacking:
        raise ScalingError(
            f"max_return=cos knows no base level of {', '.join(lacking)}; it knows: "
            f"{', '.join(published.COS_BASES)}"
        )
    top = {}
    for task in tasks:
        ends = [curves.final_means(c.returns)[1] for c in cells if c.task == task]
        top[task] = float(0.95 * np.quantile(ends, 0.2) // 10 * 10)
        if top[task] <= published.COS_BASES[task]:
            raise ScalingError(
                f"max_return=cos: most runs of {task} end below its base level "
                f"{published.COS_BASES[task]:g}"
            )
    return Scale({t: float(published.COS_BASES[t]) for t in tasks}, top)


def make_scale(cells: list[Cell], max_return: float | dict[str, float] | str | None) -> Scale:
    """How returns become levels in [0, 1000].

    Args:
      max_return: a number or {task: number}: returns are multiplied by 1000 / max_return
        (specification 4.1).  None: returns as they are.  'auto': per task, 1000 is the highest
        level that the mean curve of every UTD (and model size) reaches, and 0 is return 0, or the
        lowest mean return if that is negative.  'cos': the range of Fu et al. (2025).
    """
    tasks = sorted({c.task for c in cells})
    if max_return == "cos":
        return _cos_scale(cells, tasks)
    if max_return != "auto":
        given = max_return if isinstance(max_return, dict) else {}
        if not isinstance(max_return, dict):
            given = dict.fromkeys(tasks, 1000.0 if max_return is None else float(max_return))
        lacking = [t for t in tasks if t not in given]
        if lacking:
            raise ScalingError(
                f"max_return lacks {', '.join(lacking)}; write --max_return=task=value,..."
            )
        if min(given[t] for t in tasks) <= 0:
            raise ScalingError(
                "max_return must be positive; use --max_return=auto for negative returns"
            )
        return Scale(dict.fromkeys(tasks, 0.0), {t: float(given[t]) for t in tasks})
    base, top = {}, {}
    for task in tasks:
        ends = {}
        for c in (c for c in cells if c.task == task):
            low, high = curves.final_means(c.returns)
            old = ends.get((c.utd, c.model_size), (low, high))
            ends[c.utd, c.model_size] = (min(low, old[0]), max(high, old[1]))
        base[task] = min(0.0, min(low for low, _ in ends.values()))
        top[task] = min(high for _, high in ends.values())
        if not top[task] > base[task]:
            raise ScalingError(
                f"task {task}: some UTD never improves, so no level can be set; give --max_return"
            )
    return Scale(base, top)


def auto_thresholds(cells: list[Cell], scale: Scale, count: int = 10) -> np.ndarray:
    """[count] levels from just above what the first logged points already reach to 90 % of the
    common top.

    The lower end keeps crossings from being censored by the first logged step; 200 is the published
    lower end (specification 4.1).
    """
    ends = {}
    for c in cells:
        low, high = curves.final_means(scale.apply(c))
        ends.setdefault((c.task, c.utd, c.model_size), []).append((low, high))
    top = 0.9 * min(max(high for _, high in pair) for pair in ends.values())
    if top <= 0:
        raise ScalingError(
            "no positive return level is reached by every UTD; use --max_return=auto"
        )
    start = max(min(low for low, _ in pair) for pair in ends.values())
    low = max(0.2 * top / 0.9, 1.05 * start)
    if low >= 0.95 * top:
        low = (
            0.2 * top / 0.9
        )  # one configuration starts near the top: accept censored crossings (warned later)
    return np.linspace(low, top, count)
