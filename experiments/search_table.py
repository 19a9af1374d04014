"""The table of a search: every setting, how far it came and what it returned."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlx.infra import files


def finish(root: Path, rungs: int, order: Sequence[Mapping[str, float]]) -> int:
    """Write `search.csv` and print the last rung, best first."""
    rows: list[dict[str, Any]] = []
    for k in range(rungs):
        found = json.loads((root / f"rung_{k}" / "result.json").read_text(encoding="utf-8"))
        runs = zip(found["ids"], found["settings"], found["returns"], strict=True)
        head = {"rung": k, "env_steps": found["env_steps"]}
        rows += [head | {"run": run, **hp, "return": value} for run, hp, value in runs]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(root / "search.csv", text.getvalue())
    last = [row for row in rows if row["rung"] == rungs - 1]
    for place, point in enumerate(order, start=1):
        own = [row["return"] for row in last if all(row[name] == point[name] for name in point)]
        said = "  ".join(f"{name} {value:g}" for name, value in point.items())
        print(f"{place}. {said}  return {', '.join(f'{value:.1f}' for value in own)}")
    print(f"written: {root / 'search.csv'}")
    return 0
