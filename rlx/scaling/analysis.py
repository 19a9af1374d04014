"""The numbers of a report: table -> cells -> crossings -> rules -> pooled data laws.  No files, no
formatting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rlx.scaling import cells as cells_lib
from rlx.scaling import curves, data_law, prepare, rules, stats
from rlx.scaling.cells import Cell, Scale
from rlx.scaling.errors import ScalingError
from rlx.scaling.options import Options
from rlx.scaling.table import Table


@dataclass
class Study:
    """Everything between the table and the laws.

    cells: the chosen cell per (task, sigma).  D [n_task, n_sigma, nJ] env steps and D_samples [K,
    ...] or None. pooled [n_sigma, nJ], pooled_samples [K, n_sigma, nJ] or None; complete [n_task,
    nJ] which tasks enter the mean.
    task_scale {task: m_task / M}: what a pooled D is of a task's own (specification 4.5).
    batch_rule, rate_rule: None when the column is blank.  model_size: NaN when unknown.
    """

    options: Options
    scale: Scale
    levels: np.ndarray
    tasks: list[str]
    sigma: np.ndarray
    cells: dict[tuple[str, float], Cell]
    D: np.ndarray
    D_samples: np.ndarray | None
    complete: np.ndarray
    pooled: np.ndarray
    pooled_samples: np.ndarray | None
    batch_rule: rules.Rule | None
    rate_rule: rules.Rule | None
    best: rules.BestHparams | None
    model_size: float
    nan_fraction: np.ndarray
    task_scale: dict[str, float] = field(default_factory=dict)
    missing: list[dict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def study(table: Table, options: Options) -> Study:
    """Run specification 4.1-4.5 on a checked table."""
    notes, lost = list(table.warnings), []
    everything = prepare.choose_rows(cells_lib.make_cells(table, notes, lost), options)
    all_cells = prepare.choose_size(everything, options, notes)
    all_cells, model_size = prepare.fill_blanks(all_cells, options, notes)
    data_law.check_utds(np.array([c.utd for c in all_cells]), options.three_utds)
    all_cells = prepare.without_resets(all_cells, options, notes)
    scale, levels = prepare.make_levels(all_cells, options, notes)
    crossed = cross(all_cells, scale, levels, options)
    reached = np.isfinite([c.point for c in crossed]).any(axis=0)
    if not reached.all():
        notes.append(f"dropped level(s) that no run reaches: {prepare.listed(levels[~reached])}")
    if not reached.any():
        raise ScalingError(_no_level(all_cells, scale))
    batch_rule, rate_rule, best = fit_rules(all_cells, crossed, options, notes)
    chosen = {}
    for cell, crossing in zip(all_cells, crossed):
        key = (cell.task, cell.utd)
        distance = _distance(cell, batch_rule, rate_rule)
        if key not in chosen or distance < chosen[key][0]:
            chosen[key] = (distance, cell, crossing)
    prepare.warn_about_curves([(c, x) for _, c, x in chosen.values()], options, notes)
    partial = _arrange(chosen, levels, options)
    out = Study(
        options=options, scale=scale, levels=levels, batch_rule=batch_rule, rate_rule=rate_rule,
        best=best, model_size=model_size, missing=[{"why": why} for why in lost], warnings=notes,
        **partial,
    )  # fmt: skip
    return pool_tasks(out)


def cross(
    cells: list[Cell], scale: Scale, levels: np.ndarray, options: Options
) -> list[curves.Crossings]:
    """Crossings of every cell; NaN where a level counts as not reached."""
    return [
        _drop_unreached(
            curves.crossings(
                c.steps, scale.apply(c), levels, options.bootstrap, [options.seed, i],
                options.interpolate,
            ),
            options,
        )
        for i, c in enumerate(cells)
    ]  # fmt: skip


def _drop_unreached(crossing: curves.Crossings, options: Options) -> curves.Crossings:
    """A level missed by the mean or by more than 20 % of the bootstrap means is not reached
    (4.3.5); with unfinished='cell' a missed top level takes the others with it."""
    bad = np.isnan(crossing.point) | (crossing.nan_fraction > options.max_nan)
    if options.unfinished == "cell":
        bad = bad | bad[-1]
    return replace(
        crossing,
        point=np.where(bad, np.nan, crossing.point),
        samples=np.where(bad, np.nan, crossing.samples),
        stretched=np.where(bad, np.nan, crossing.stretched),
    )


def _no_level(cells: list[Cell], scale: Scale) -> str:
    best: dict[str, float] = {}
    for c in cells:
        top = curves.final_means(scale.apply(c))[1]
        best[c.task] = max(top, best.get(c.task, -np.inf))
    tops = ", ".join(f"{task} {value:.4g}" for task, value in best.items())
    return (
        f"no run reaches any level; best mean return per task: {tops}; "
        f"try --thresholds={0.8 * min(best.values()):.3g}"
    )


def fit_rules(
    cells: list[Cell], crossed: list[curves.Crossings], options: Options, notes: list[str]
) -> tuple[rules.Rule | None, rules.Rule | None, rules.BestHparams | None]:
    """Batch-size and learning-rate rules, and the best hyper-parameters behind them.

    From a grid they are fitted at the top level that every (task, UTD) reaches with some setting.
    With one choice per (task, UTD) they only restate the table.
    """
    by_key: dict[tuple[str, float], list[int]] = {}
    for i, c in enumerate(cells):
        by_key.setdefault((c.task, c.utd), []).append(i)
    if all(len(own) == 1 for own in by_key.values()):
        notes.append(
            "one (batch size, learning rate) per task and UTD: nothing to choose, so the rules "
            "only restate the table"
        )
        keys = [(c.task, c.utd, c.batch_size, c.learning_rate) for c in cells]
        tasks, sigma, batch, rate = (np.array(v) for v in zip(*keys))
        return _rule_or_none(sigma, batch, tasks), _rule_or_none(sigma, rate, tasks), None
    if not all(np.isfinite([c.learning_rate, c.batch_size]).all() for c in cells):
        raise ScalingError(
            "a sweep over batch sizes and learning rates needs both columns filled in every row"
        )
    seen = np.isfinite([x.point for x in crossed])
    everywhere = np.all([seen[own].any(axis=0) for own in by_key.values()], axis=0)
    top = int(np.flatnonzero(everywhere if everywhere.any() else seen.any(axis=0))[-1])
    sampled = all(x.num_seeds > 1 for x in crossed) and options.bootstrap > 1

    def best(name: str) -> rules.BestHparams:
        values = [getattr(x, name)[:, top] if sampled else x.point[None, top] for x in crossed]
        keys = [(c.task, c.utd, c.batch_size, c.learning_rate) for c in cells]
        entries = [(*key, D) for key, D in zip(keys, values)]
        return rules.best_hparams(entries, options.hparam_mean)

    found, spread = best("samples"), best("stretched")
    found = replace(found, batch_samples=spread.batch_samples, rate_samples=spread.rate_samples)
    batch_samples = found.batch_samples if sampled else None
    rate_samples = found.rate_samples if sampled else None
    batch = rules.fit_rule(found.sigma, found.batch_size, found.tasks, batch_samples)
    rate = rules.fit_rule(found.sigma, found.learning_rate, found.tasks, rate_samples)
    return batch, rate, found


def _rule_or_none(sigma: np.ndarray, y: np.ndarray, tasks: np.ndarray) -> rules.Rule | None:
    return rules.fit_rule(sigma, y, tasks) if np.isfinite(y).any() else None


def _distance(cell: Cell, batch: rules.Rule | None, rate: rules.Rule | None) -> float:
    """Log distance of a cell's hyper-parameters from the rule (a raw difference would ignore the
    learning rate)."""
    total = 0.0
    for rule, value in ((batch, cell.batch_size), (rate, cell.learning_rate)):
        if rule is not None and cell.task in rule.value_at_1 and np.isfinite(value):
            total += np.log(value / (rule.value_at_1[cell.task] * cell.utd**rule.slope)) ** 2
    return total


def _arrange(chosen: dict, levels: np.ndarray, options: Options) -> dict:
    """Crossings of the chosen cells as arrays over (task, sigma, J)."""
    tasks = sorted({task for task, _ in chosen})
    sigma = np.array(sorted({s for _, s in chosen}))
    shape = (len(tasks), len(sigma), len(levels))
    D, nan_fraction = np.full(shape, np.nan), np.ones(shape)
    # One single-seed cell makes every interval that uses it unavailable.
    sampled = options.bootstrap > 1 and all(x.num_seeds > 1 for _, _, x in chosen.values())
    samples = np.full((options.bootstrap, *shape), np.nan) if sampled else None
    for (task, s), (_, _, crossing) in chosen.items():
        at = tasks.index(task), int(np.searchsorted(sigma, s))
        D[at], nan_fraction[at] = crossing.point, crossing.nan_fraction
        if samples is not None:
            samples[:, at[0], at[1]] = crossing.stretched
    cells = {key: cell for key, (_, cell, _) in chosen.items()}
    return dict(
        tasks=tasks, sigma=sigma, cells=cells, D=D, D_samples=samples, nan_fraction=nan_fraction,
        complete=np.ones((len(tasks), len(levels)), bool), pooled=np.full(shape[1:], np.nan),
        pooled_samples=None,
    )  # fmt: skip


def pool_tasks(s: Study) -> Study:
    """Pool D over tasks and drop the levels that cannot be pooled (specification 4.5)."""
    ok: np.ndarray = np.isfinite(s.D)
    for i, j in zip(*np.nonzero(~ok.all(axis=2))):
        key = (s.tasks[i], float(s.sigma[j]))
        levels = "all" if not ok[i, j].any() else prepare.listed(s.levels[~ok[i, j]])
        why = "not reached" if key in s.cells else "not run"
        s.missing.append({"task": key[0], "utd": key[1], "levels": levels, "why": why})
    s.complete = np.asarray(ok.all(axis=1) if s.options.require_complete else ok.any(axis=1))
    keep = s.complete.any(axis=0)
    if s.options.require_complete and not keep.any():
        raise ScalingError(
            "no level is reached by any task at every UTD; lower --thresholds, or pool what "
            "there is with "
            "--require_complete=false.  Missing: " + "; ".join(_told(m) for m in s.missing[:8])
        )
    if not keep.all():
        s.warnings.append(
            f"dropped level(s) that no task reaches at every UTD: {prepare.listed(s.levels[~keep])}"
        )
    s.levels, s.D, s.complete = s.levels[keep], s.D[..., keep], s.complete[:, keep]
    s.nan_fraction = s.nan_fraction[..., keep]
    lost = [t for t, row in zip(s.tasks, s.complete) if not row.all()]
    if lost:
        s.warnings.append(
            f"the set of pooled tasks changes with J: {', '.join(lost)} miss some levels"
        )
    if s.D_samples is not None:
        s.D_samples = s.D_samples[..., keep]
    pool_complete(s, s.complete)
    return s


def pool_complete(s: Any, complete: np.ndarray) -> None:
    """Set pooled, pooled_samples and task_scale of a study (of either axis) from its D.

    Args:
      s: a `Study` or `SizeStudy`, its D and D_samples at the kept levels only.
      complete: [n_task, nJ] which tasks are there at which level.
    """
    mask = complete if s.options.require_complete else None
    # Tasks absent at every kept level would only shift the scale M.
    present = np.any(complete, axis=1)[:, None, None]
    D = np.where(present, s.D, np.nan)
    s.pooled, total = data_law.pool(D, mask)
    s.task_scale = {
        task: float(np.nanmedian(own) / total)
        for task, own in zip(s.tasks, D)
        if np.isfinite(own).any()
    }
    if s.D_samples is not None:
        tasks = None
        if s.options.resample_tasks:
            tasks = stats.resample_tasks(len(s.tasks), len(s.D_samples), s.options.seed)
        s.pooled_samples, _ = data_law.pool(np.where(present, s.D_samples, np.nan), mask, tasks)


def _told(m: dict) -> str:
    return (
        f"{m['task']} at UTD {m['utd']:g}: {m['why']} (J {m['levels']})"
        if "task" in m
        else m["why"]
    )
