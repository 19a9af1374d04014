"""The model-size axis of a table: cells -> crossings over (task, sigma, N) -> pooled D and batch.

One "point" is a measured (sigma, N); everything below is over the P points of the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling import analysis, prepare, rules, size_rule
from rlx.scaling import cells as cells_lib
from rlx.scaling.cells import Cell, Scale
from rlx.scaling.curves import Crossings
from rlx.scaling.errors import ScalingError
from rlx.scaling.options import Options
from rlx.scaling.size_law import MIN_POINTS
from rlx.scaling.size_rule import SizeRule
from rlx.scaling.table import Table

MIN_SIZES = 3


@dataclass
class SizeStudy:
    """sigma, size [P]; D [n_task, P, nJ] env steps and D_samples [K, ...] or None; pooled [P, nJ]
    and pooled_samples [K, P, nJ] or None; task_scale {task: m_task / M}; the batch rule of two
    variables and the factor of each task on it; cells {(task, sigma, N): Cell}."""

    options: Options
    scale: Scale
    tasks: list[str]
    sigma: np.ndarray
    size: np.ndarray
    levels: np.ndarray
    D: np.ndarray
    D_samples: np.ndarray | None
    cells: dict[tuple[str, float, float], Cell]
    pooled: np.ndarray
    pooled_samples: np.ndarray | None
    task_scale: dict[str, float]
    batch_rule: SizeRule | None
    task_batch: dict[str, float]
    rate_rule: rules.Rule | None
    missing: list[dict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Measured range of sigma and of N."""
        sigma, size = self.sigma, self.size
        return (float(sigma.min()), float(sigma.max())), (float(size.min()), float(size.max()))


def size_study(table: Table, options: Options) -> SizeStudy | None:
    """Run specification 4.1-4.5 over (sigma, N); None when the table has fewer than three sizes.

    Raises ScalingError when the axis is there but cannot be fitted.
    """
    notes: list[str] = []
    cells = prepare.choose_rows(cells_lib.make_cells(table, notes, []), options)
    cells = [c for c in cells if np.isfinite(c.model_size)]
    if len(prepare.known_sizes(cells)) < MIN_SIZES or len({c.utd for c in cells}) < 3:
        return None
    notes.clear()
    cells, _ = prepare.fill_blanks(cells, options, notes)
    cells = prepare.without_resets(cells, options, [])
    scale, levels = prepare.make_levels(cells, options, notes)
    crossed = analysis.cross(cells, scale, levels, options)
    batch, rate, chosen = _choose(cells, crossed, options)
    points = sorted({(c.utd, c.model_size) for c in cells})
    tasks = sorted({c.task for c in cells})
    shape = (len(tasks), len(points), len(levels))
    D = np.full(shape, np.nan)
    sampled = options.bootstrap > 1 and all(x.num_seeds > 1 for _, x in chosen.values())
    samples = np.full((options.bootstrap, *shape), np.nan) if sampled else None
    for (task, utd, size), (_, crossing) in chosen.items():
        at = tasks.index(task), points.index((utd, size))
        D[at] = crossing.point
        if samples is not None:
            samples[:, at[0], at[1]] = crossing.stretched
    sigma, size = np.array(points).T
    out = SizeStudy(
        options, scale, tasks, sigma, size, levels, D, samples,
        {key: cell for key, (cell, _) in chosen.items()},
        np.empty(0), None, {}, None, {}, rate, warnings=notes,
    )  # fmt: skip
    _pool(out)
    _fit_batch(out, batch)
    return out


def _choose(
    cells: list[Cell], crossed: list[Crossings], options: Options
) -> tuple[dict, rules.Rule | None, dict]:
    """Best batch size [1 or K] per (task, sigma, N), the learning-rate rule over all sizes, and
    the cell that is nearest to the best per (task, sigma, N)."""
    by_key: dict[tuple, list[int]] = {}
    for i, c in enumerate(cells):
        by_key.setdefault((c.task, c.utd, c.model_size), []).append(i)
    best: dict[tuple, tuple] = {}
    for key, own in by_key.items():
        if len(own) == 1:
            c = cells[own[0]]
            best[key] = (c.batch_size, c.learning_rate, None, None)
            continue
        best[key] = _best_of(cells, crossed, own, key, options)
    names = np.array([task for task, _, _ in best])
    utds = np.array([utd for _, utd, _ in best])
    rates = np.array([found[1] for found in best.values()])
    rate = rules.fit_rule(utds, rates, names) if np.isfinite(rates).any() else None
    chosen = {}
    for key, own in by_key.items():
        at = [
            np.nan_to_num(np.log(cells[i].batch_size / best[key][0])) ** 2
            + np.nan_to_num(np.log(cells[i].learning_rate / best[key][1])) ** 2
            for i in own
        ]
        i = own[int(np.argmin(at))]
        chosen[key] = (cells[i], crossed[i])
    return best, rate, chosen


def _best_of(cells, crossed, own: list[int], key: tuple, options: Options) -> tuple:
    """(B, eta, B samples [K] or None, eta samples) of one (task, sigma, N) of a grid, at the top
    level that any of its settings reaches."""
    seen = np.isfinite([crossed[i].point for i in own]).any(axis=0)
    if not seen.any():
        return np.nan, np.nan, None, None
    top = int(np.flatnonzero(seen)[-1])
    sampled = options.bootstrap > 1 and all(crossed[i].num_seeds > 1 for i in own)
    found = rules.best_hparams(
        [
            (
                key[0], key[1], cells[i].batch_size, cells[i].learning_rate,
                crossed[i].samples[:, top] if sampled else crossed[i].point[None, top],
            )
            for i in own
        ],
        options.hparam_mean,
    )  # fmt: skip
    drawn = (found.batch_samples[:, 0], found.rate_samples[:, 0]) if sampled else (None, None)
    return float(found.batch_size[0]), float(found.learning_rate[0]), *drawn


def _pool(s: SizeStudy) -> None:
    """Pool D over tasks; drop the levels that cannot carry the law (specification 4.5)."""
    ok = np.isfinite(s.D)
    for i, p in zip(*np.nonzero(~ok.all(axis=2))):
        key = (s.tasks[i], float(s.sigma[p]), float(s.size[p]))
        levels = "all" if not ok[i, p].any() else prepare.listed(s.levels[~ok[i, p]])
        why = "not reached" if key in s.cells else "not run"
        s.missing.append({
            "task": key[0], "utd": key[1], "model_size": key[2], "levels": levels, "why": why,
        })  # fmt: skip
    complete = (np.all if s.options.require_complete else np.any)(ok, axis=1)
    entering = np.any(ok & complete[:, None, :], axis=0)  # [P, nJ]
    keep = (entering.sum(axis=0) >= MIN_POINTS) & np.array([
        len(np.unique(s.sigma[own])) >= 3 and len(np.unique(s.size[own])) >= MIN_SIZES
        for own in entering.T
    ])  # fmt: skip
    if not keep.any():
        raise ScalingError(
            "no level is reached by a task at every (UTD, model size); leave out the sizes that "
            "fail with --model_size=N1,N2,..., lower --thresholds, or pool what there is with "
            "--require_complete=false"
        )
    if not keep.all():
        s.warnings.append(f"dropped level(s) too rarely reached: {prepare.listed(s.levels[~keep])}")
    s.levels, s.D, complete = s.levels[keep], s.D[..., keep], complete[:, keep]
    present = np.any(complete, axis=1)
    absent = [t for t, here in zip(s.tasks, present) if not here]
    if absent:
        s.warnings.append(
            f"left out (no level at every (UTD, model size)): {', '.join(absent)}; "
            "--require_complete=false pools what there is"
        )
    changing = [t for t, row in zip(s.tasks, complete) if row.any() and not row.all()]
    if changing:
        s.warnings.append(
            f"the set of pooled tasks changes with J: {', '.join(changing)} miss some levels"
        )
    if s.D_samples is not None:
        s.D_samples = s.D_samples[..., keep]
    analysis.pool_complete(s, complete)


def _fit_batch(s: SizeStudy, best: dict) -> None:
    """The batch rule B~(s, N) through the arithmetic mean over tasks (4.7) of the best batch."""
    shape = (len(s.tasks), len(s.sigma))
    B = np.full(shape, np.nan)
    drawn = None
    if s.D_samples is not None and any(found[2] is not None for found in best.values()):
        drawn = np.full((len(s.D_samples), *shape), np.nan)
    at = {(u, n): p for p, (u, n) in enumerate(zip(s.sigma, s.size))}
    for (task, utd, size), (batch, _, samples, _) in best.items():
        index = s.tasks.index(task), at[utd, size]
        B[index] = batch
        if drawn is not None:
            drawn[:, index[0], index[1]] = batch if samples is None else samples
    whole = np.isfinite(B).all(axis=0)  # a changing task set would tilt the rule
    if whole.sum() < MIN_POINTS:
        s.warnings.append("no batch rule on the size axis: too few (UTD, size) points have one")
        return
    mean = np.where(whole, B.mean(axis=0), np.nan)
    samples = None if drawn is None else np.where(whole, drawn.mean(axis=1), np.nan)
    s.batch_rule = size_rule.fit_size_rule(s.sigma, s.size, mean, samples)
    fitted = np.log(s.batch_rule.predict(s.sigma, s.size))
    s.task_batch = {
        task: float(np.exp(np.mean((np.log(B[i]) - fitted)[whole])))
        for i, task in enumerate(s.tasks)
    }
