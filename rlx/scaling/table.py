"""The tidy results table: one row per logged point, checked once so that nothing after it has to.

Required columns: task, utd, seed, env_step, return (or return_seed0..K instead of seed and return).
Optional: algo, batch_size, learning_rate, model_size (blank: unknown), num_envs (environments at
once, for the commands of `recommend`), and what runs measured of themselves: wall_s, width,
critic_loss_replay, critic_loss_recent, critic_param_norm.  Other columns are ignored.
`utd` is the achieved value grad_steps / (env_steps - prefill); `env_step` counts transitions,
prefill included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlx.scaling import readers
from rlx.scaling.errors import ScalingError

# Accepted names, the canonical one first.
NAMES = {
    "algo": ("algo", "algorithm"),
    "task": ("task", "env", "env_name"),
    "utd": ("utd", "utd_achieved"),
    "batch_size": ("batch_size",),
    "learning_rate": ("learning_rate", "lr"),
    "model_size": ("model_size", "critic_params"),
    "seed": ("seed",),
    "env_step": ("env_step", "env_steps"),
    "num_envs": ("num_envs",),
    "wall_s": ("wall_s", "time/wall_s"),
    "width": ("width", "critic_width"),
    "critic_loss_replay": ("critic_loss_replay", "train/critic_loss_replay"),
    "critic_loss_recent": ("critic_loss_recent", "train/critic_loss_recent"),
    "critic_param_norm": ("critic_param_norm", "train/critic_param_norm"),
}
# Which return the fit uses (specification 4.1): evaluation episodes or online training episodes.
RETURN_NAMES = {
    "eval": ("return", "eval/return", "eval_return"),
    "train": ("train/return", "train_return", "online_return"),
}
TEXT = ("algo", "task", "seed")
REQUIRED = ("task", "utd", "seed", "env_step")
MEASURED = tuple(NAMES)[-5:]  # of the run itself; never part of a configuration
OPTIONAL = ("algo", "batch_size", "learning_rate", "model_size", "num_envs", *MEASURED)
WIDE = re.compile(r"return_seed(\w+)$")
UTD_TOLERANCE = (
    0.01  # runs are refused when the achieved UTD is off by more (specification section 12)
)

Source = str | Path | dict | Iterable[dict]


@dataclass
class Table:
    """Columns of equal length [R]: text `algo, task, seed, source`, the rest float64 (NaN:
    blank)."""

    columns: dict[str, np.ndarray]
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["return"])


def read_table(source: Source | Sequence[str | Path], return_source: str = "eval") -> Table:
    """Read, join and check one table or many.

    Args:
      source: path (.csv, .csv.gz, .npz, .jsonl, run directory), list of paths, list of dicts, dict
        of arrays.
      return_source: 'eval' or 'train': which return column the analysis uses.
    """
    if return_source not in RETURN_NAMES:
        raise ScalingError(f"return_source='{return_source}'; accepted: {', '.join(RETURN_NAMES)}")
    many = isinstance(source, (list, tuple)) and source and isinstance(source[0], (str, Path))
    sources: Any = source if many else [source]
    raws = [readers.read(s) for s in sources]
    parts = [_typed(raw, return_source) for raw in raws]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not len(columns["return"]):
        raise ScalingError("the table has no rows")
    columns["utd"] = snap(columns["utd"])
    _refuse_duplicates(columns)
    return Table(columns, [note for raw in raws for note in raw.warnings])


def snap(values: np.ndarray, tolerance: float = UTD_TOLERANCE) -> np.ndarray:
    """Give values that differ by at most `tolerance` (relative) one name, the median of their
    group: [R] -> [R]."""
    distinct = np.unique(values)
    groups, first = [], distinct[0]
    for value in distinct:
        new = value > first * (1.0 + tolerance)
        groups.append((groups[-1] + new) if groups else 0)
        first = value if new else first
    groups = np.array(groups)
    members = groups[np.searchsorted(distinct, values)]
    middle = np.array([np.median(values[members == g]) for g in range(groups[-1] + 1)])
    return middle[members]


def _typed(raw: readers.Raw, return_source: str) -> dict[str, np.ndarray]:
    """Canonical columns of one source, wide returns unfolded, types checked."""
    wide = {name: m.group(1) for name in raw.columns if (m := WIDE.match(name))}
    raw = _unfold(raw, wide) if wide else _rows_with_return(raw, RETURN_NAMES[return_source])
    num_rows = len(next(iter(raw.columns.values())))
    out = {}
    for name in (*REQUIRED, *OPTIONAL):
        found = (_required if name in REQUIRED else _find)(raw, NAMES[name])
        cells = raw.columns[found] if found else [""] * num_rows
        out[name] = (
            np.array([str(c) for c in cells])
            if name in TEXT
            else _numbers(cells, found or name, raw)
        )
    found = _required(raw, ("return",) if wide else RETURN_NAMES[return_source])
    out["return"] = _numbers(raw.columns[found], found, raw)
    for name, low in (("utd", 0.0), ("env_step", -1.0)):
        bad = ~(out[name] > low) | ~np.isfinite(out[name])
        if bad.any():
            row = int(bad.argmax())
            raise ScalingError(
                f"{raw.origin}: column '{name}', row {row + 1}: {out[name][row]} is not a "
                f"{'positive' if low == 0 else 'non-negative'} number"
            )
    out["source"] = np.full(num_rows, raw.origin)
    return out


def _find(raw: readers.Raw, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in raw.columns), None)


def _required(raw: readers.Raw, names: tuple[str, ...]) -> str:
    """The column's name in this source, or an error with the accepted names."""
    found = _find(raw, names)
    if found is None:
        wide = ", or return_seed0..K" if names[0] == "return" else ""
        raise ScalingError(
            f"{raw.origin}: missing column '{names[0]}' "
            f"(accepted names: {', '.join(names)}{wide}); it has: {', '.join(raw.columns)}"
        )
    return found


def _rows_with_return(raw: readers.Raw, names: tuple[str, ...]) -> readers.Raw:
    """Run logs hold rows without an evaluation (key absent): keep the rows that have one."""
    found = _required(raw, names)
    if not raw.origin.endswith(".jsonl"):
        return raw
    keep = [
        i for i, cell in enumerate(raw.columns[found]) if not (isinstance(cell, str) and cell == "")
    ]
    return readers.Raw(
        {k: [v[i] for i in keep] for k, v in raw.columns.items()}, raw.origin, raw.warnings
    )


def _unfold(raw: readers.Raw, wide: dict[str, str]) -> readers.Raw:
    """Wide return_seed0..K -> long; a blank cell means that the seed has no such point."""
    shared = {k: v for k, v in raw.columns.items() if k not in wide and k not in ("seed", "return")}
    out: dict[str, list] = {k: [] for k in (*shared, "seed", "return")}
    for column, seed in wide.items():
        keep = [i for i, cell in enumerate(raw.columns[column]) if str(cell).strip() != ""]
        for k, cells in shared.items():
            out[k] += [cells[i] for i in keep]
        out["seed"] += [seed] * len(keep)
        out["return"] += [raw.columns[column][i] for i in keep]
    return readers.Raw(out, raw.origin, raw.warnings)


def _numbers(cells: list, name: str, raw: readers.Raw) -> np.ndarray:
    """[R] float64; blank is NaN; anything else that is no number is an error that names column and
    row."""
    out = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            out[row] = np.nan if cell is None or str(cell).strip() == "" else float(cell)
        except (TypeError, ValueError) as error:
            raise ScalingError(
                f"{raw.origin}: column '{name}', row {row + 1}: '{cell}' is not a number"
            ) from error
    return out


def _refuse_duplicates(columns: dict[str, np.ndarray]) -> None:
    """Error on the first repeated (config, seed, env_step), naming both files."""
    names = ("algo", "task", "utd", "batch_size", "learning_rate", "model_size", "seed", "env_step")
    codes = np.stack([np.unique(columns[n], return_inverse=True)[1].ravel() for n in names], axis=1)
    _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    earlier = first[inverse.ravel()]
    repeated = np.flatnonzero(earlier != np.arange(len(codes)))
    if len(repeated):
        row = int(repeated[0])
        files = [str(columns["source"][i]) for i in (earlier[row], row)]
        what = ", ".join(f"{n}={columns[n][row]}" for n in names)
        raise ScalingError(
            f"the same point twice ({what}): once in {files[0]} and once in {files[1]}; "
            "remove one of the two files or give the runs different seeds"
        )
