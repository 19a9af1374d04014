"""One row of metrics: its keys, its JSON line, the files of rows.

{"step", "env_steps", "grad_steps", "wall_s", "run_id", "seed", "train/return", ...}: a float keeps
every digit; NaN and inf are null, and the row names them: "nan": [keys].
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlx.infra.files import plain, write_text

COUNTERS = ("step", "env_steps", "grad_steps", "wall_s")


def make_row(row: Mapping[str, Any], run_id: str, seed: int) -> dict[str, Any]:
    """Return the row as written: counters, run, seed, then metrics; NaN are named under "nan"."""
    missing = [key for key in COUNTERS if key not in row]
    if missing:
        raise ValueError(f"a row needs {', '.join(COUNTERS)}; missing: {', '.join(missing)}")
    head = {key: row[key] for key in COUNTERS}
    full = head | {"run_id": run_id, "seed": seed} | {k: v for k, v in row.items() if k not in head}
    result = plain(full)
    vectors = [key for key, value in result.items() if isinstance(value, (list, dict))]
    if vectors:
        raise ValueError(f"a row holds scalars; not scalar: {', '.join(vectors)}")
    lost = [key for key, value in result.items() if value is None and full[key] is not None]
    return result | ({"nan": lost} if lost else {})


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a `metrics.jsonl` without header and half-written lines, [] if absent."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    parsed = map(_parse, lines)
    return [row for row in parsed if "step" in row]


def _parse(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError:  # a run was killed while it wrote this line
        return {}
    return row if isinstance(row, dict) else {}


def line(row: Mapping[str, Any]) -> str:
    """Return one line of a `metrics.jsonl`."""
    return json.dumps(row, allow_nan=False) + "\n"


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `metrics.csv` beside `file`: every key a column, null empty, "nan" joined by `;`."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({**row, "nan": ";".join(row["nan"])} if "nan" in row else row for row in rows)
    write_text(file.with_suffix(".csv"), text.getvalue())
