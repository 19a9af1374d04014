"""Before the analysis: which rows, what blanks mean, which levels; what is odd about the curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlx.scaling import cells as cells_lib
from rlx.scaling import flops, published, rules
from rlx.scaling.cells import Cell, Scale
from rlx.scaling.errors import ScalingError
from rlx.scaling.options import Options
from rlx.scaling.table import Table

MIN_POINTS_BEFORE = 40  # logged points before a crossing below which rounding matters (4.3.3)
FEW_SEEDS = 5
COS_LEVELS = 20  # linear thresholds per task (Fu et al., 2025)
# Of a table with several model sizes: the published nominal size of the shipped BRO curves.
DEFAULT_MODEL_SIZE = published.BENCHMARKS["dmc"].model_size
DEFAULT_BATCH_SIZE = 256.0  # frozen batch of Fu et al. (2025), for compute only (3.1.6)


def choose_rows(cells: list[Cell], options: Options) -> list[Cell]:
    """Select algorithm, tasks and, where several are asked for, model sizes."""
    algos = sorted({c.algo for c in cells})
    if options.algo is not None:
        cells = [c for c in cells if c.algo == options.algo]
        if not cells:
            raise ScalingError(
                f"no rows with algo={options.algo}; the table has: {', '.join(algos)}"
            )
    elif len(algos) > 1:
        raise ScalingError(
            f"the table has several algorithms ({', '.join(algos)}); choose one with --algo="
        )
    if options.tasks is not None:
        cells = [c for task in options.tasks for c in cells_lib.select(cells, "task", task)]
    if isinstance(options.model_size, tuple):
        chosen = options.model_size
        cells = [c for size in chosen for c in cells_lib.select(cells, "model_size", size)]
    return cells


def nominal_sizes(table: Table) -> Table:
    """One model size per network width where tasks give the same width different sizes (their
    observations differ): the geometric mean over tasks.  A table without widths stays as it is."""
    width, size, columns = table["width"], table["model_size"].copy(), table.columns
    known = np.isfinite(width) & np.isfinite(size)
    changed = []
    for w in np.unique(width[known]):
        rows = known & (width == w)
        own = {
            task: size[rows & (table["task"] == task)] for task in np.unique(table["task"][rows])
        }
        if len(np.unique(size[rows])) > 1:
            size[rows] = np.exp(np.mean([np.log(n).mean() for n in own.values()]))
            changed.append(w)
    if not changed:
        return table
    note = (
        f"width {listed(changed)}: model sizes differ between tasks; their geometric mean stands "
        "for the width"
    )
    return Table(columns | {"model_size": size}, [*table.warnings, note])


def known_sizes(cells: list[Cell]) -> list[float]:
    """The model sizes of the table, ascending."""
    return sorted({c.model_size for c in cells if np.isfinite(c.model_size)})


def choose_size(cells: list[Cell], options: Options, notes: list[str]) -> list[Cell]:
    """The cells of one model size, for the laws in the UTD alone."""
    sizes = known_sizes(cells)
    chosen = options.model_size if isinstance(options.model_size, (int, float)) else None
    if sizes and chosen is not None:
        return cells_lib.select(cells, "model_size", float(chosen))
    if len(sizes) < 2:
        return cells
    why = "the published nominal size"
    chosen = DEFAULT_MODEL_SIZE
    if chosen not in sizes:
        middle = np.log(sizes).mean()
        chosen = min(sizes, key=lambda n: abs(np.log(n) - middle))
        why = "the nearest to their geometric mean"
    notes.append(
        f"the table has model sizes {listed(sizes)}: the laws in the UTD alone are of {chosen:g} "
        f"({why}); --model_size= selects another"
    )
    return cells_lib.select(cells, "model_size", chosen)


def fill_blanks(cells: list[Cell], options: Options, notes: list[str]) -> tuple[list[Cell], float]:
    """Supply the batch size and the model size where the table leaves them blank."""
    blank = [not np.isfinite(c.batch_size) for c in cells]
    if options.batch_size is not None and not any(blank):
        raise ScalingError("the table has batch sizes; --batch_size= only fills a blank column")
    if any(blank):
        value = options.batch_size
        if value is None:
            value = DEFAULT_BATCH_SIZE
            notes.append(
                f"blank batch_size: compute priced at B = {value:g} at every UTD, as Fu et al. "
                "(2025) do; set --batch_size=NUMBER, dmc or gym (published rule)"
            )
        cells = [
            replace(c, batch_size=_batch(value, c.utd)) if b else c for c, b in zip(cells, blank)
        ]
    known = known_sizes(cells)
    if known:
        return cells, known[0]
    if isinstance(options.model_size, tuple):
        raise ScalingError("the table has no model sizes; --model_size= takes one number to fill")
    if options.model_size is not None:
        return cells, float(options.model_size)
    if options.net is not None:
        return cells, float(flops.sac(*options.net, batch_size=1).critic_params)
    return cells, np.nan


def _batch(value: float | str, utd: float) -> float:
    """A number as it is, or the published rule of that name at `utd`."""
    if not isinstance(value, str):
        return float(value)
    rule = rules.published_rule(value)
    return rule.batch_at_1 * utd**rule.batch_slope


def without_resets(cells: list[Cell], options: Options, notes: list[str]) -> list[Cell]:
    """Apply the reset filter where asked for; say so where it seems to be missing."""
    if options.reset_grad_steps == 0:
        return cells
    if options.reset_grad_steps is not None:
        return cells_lib.without_resets(cells, options.reset_grad_steps)
    if any("bro" in c.algo.lower() for c in cells):
        notes.append(
            "BRO resets its networks; --reset_grad_steps=2.5e6 drops the relearning dips (not "
            "applied); 0 says that these runs never reset"
        )
    return cells


def make_levels(cells: list[Cell], options: Options, notes: list[str]) -> tuple[Scale, np.ndarray]:
    """Return scale and thresholds J, ascending."""
    max_return = options.max_return
    if options.thresholds is not None:
        return cells_lib.make_scale(cells, max_return), np.unique(
            np.asarray(options.thresholds, float)
        )
    if max_return == "cos":
        return cells_lib.make_scale(cells, "cos"), np.linspace(0.0, 1000.0, COS_LEVELS)
    scale = cells_lib.make_scale(cells, "auto" if max_return is None else max_return)
    levels = cells_lib.auto_thresholds(cells, scale)
    if max_return is None:
        tops = ", ".join(f"{t} {scale.base[t]:g}..{scale.top[t]:.4g}" for t in scale.top)
        notes.append(
            "levels J are per mille of what the mean curve of every UTD reaches on the task "
            "(returns of J = 0 and "
            f"J = 1000: {tops}); --thresholds= and --max_return= set absolute ones"
        )
    return scale, levels


def warn_about_curves(pairs: list, options: Options, notes: list[str]) -> None:
    """Few seeds, coarse logging, crossings at the first logged point."""
    least = min(c.returns.shape[1] for c, _ in pairs)
    few = sum(c.returns.shape[1] < FEW_SEEDS for c, _ in pairs)
    if few:
        what = f"intervals rest on as few as {least} random seeds"
        notes.append(
            f"{few} of {len(pairs)} configurations have fewer than {FEW_SEEDS} random seeds: "
            + (what if least > 1 else "intervals unavailable")
        )
    found = [(c.steps, x.point[np.isfinite(x.point)]) for c, x in pairs]
    before = np.concatenate([np.searchsorted(steps, D) for steps, D in found])
    if (before == 0).any():
        notes.append(
            f"{np.count_nonzero(before == 0)} of {len(before)} crossings are at the first logged "
            "step: D is only an upper bound there"
        )
    coarse = np.count_nonzero(before < MIN_POINTS_BEFORE)
    if coarse and not options.interpolate:
        gaps = np.concatenate(
            [np.median(np.diff(steps)) / D for steps, D in found if len(steps) > 1]
        )
        notes.append(
            f"{coarse} of {len(before)} crossings have fewer than {MIN_POINTS_BEFORE} logged "
            f"points before them: rounding up to the logging grid makes D about "
            f"{50 * np.median(gaps):.0f} % too high (median; up to {50 * gaps.max():.0f} %), which "
            "no interval includes; use --interpolate=true or log more often"
        )


def listed(values) -> str:
    """Numbers for a message, comma-separated."""
    return ", ".join(f"{v:g}" for v in values)
