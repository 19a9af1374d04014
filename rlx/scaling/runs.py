"""Read run directories (`metrics.jsonl`, framework section 21) into flat arrays.  Numpy only."""

from __future__ import annotations

import glob as globbing
import json
import warnings
from pathlib import Path

import numpy as np

from rlx.scaling.errors import ScalingError


def load_runs(pattern: str) -> dict[str, np.ndarray]:
    """Rows of every `metrics.jsonl` that matches, as one column per key.

    The header row `{"schema": 1, "hp": {...}}` gives columns that are constant over the run; a key
    of a row wins over a header key of the same name.  A truncated last line is skipped with a
    warning.

    Args:
      pattern: glob of run directories or of `metrics.jsonl` files.
    Returns:
      {key: [R]} float64 arrays (missing, null: NaN) or str arrays (missing: ''), and `path` [R]
      str.
    """
    files = find_files(pattern)
    if not files:
        raise ScalingError(
            f"no run matches '{pattern}' (looked for directories with a metrics.jsonl)"
        )
    rows: list[dict] = []
    for file in files:
        more, notes = read_rows(file)
        rows += more
        for note in notes:
            warnings.warn(note, stacklevel=2)
    if not rows:
        raise ScalingError(f"the runs that match '{pattern}' have no rows yet")
    keys = sorted({key for row in rows for key in row})
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def find_files(pattern: str) -> list[Path]:
    """The `metrics.jsonl` files that a glob of files or of run directories matches."""
    found = [Path(p) for p in sorted(globbing.glob(str(pattern), recursive=True))]
    nested = [p / "metrics.jsonl" if p.is_dir() else p for p in found]
    return [p for p in nested if p.suffix == ".jsonl" and p.exists()]


def read_rows(file: Path) -> tuple[list[dict], list[str]]:
    """Rows of one `metrics.jsonl`, the header's scalars merged in, and warnings."""
    header: dict = {}
    rows: list[dict] = []
    notes: list[str] = []
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ScalingError(f"{file}: line {number} is not JSON ({error.msg})") from error
            notes.append(f"{file}: skipped its truncated last line")
            continue
        if "schema" in row:
            header = {k: v for k, v in (row.get("hp") or {}).items() if _scalar(v)}
        else:
            values = {k: v for k, v in row.items() if _scalar(v)}
            rows.append({**header, **values, "path": str(file)})
    return rows, notes


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _column(values: list) -> np.ndarray:
    if any(isinstance(v, str) for v in values):
        return np.array(["" if v is None else str(v) for v in values])
    return np.array([np.nan if v is None else float(v) for v in values])
