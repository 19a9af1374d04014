"""How a tokenizer lies in a folder: one JSON file `<name>.json`, its statistics inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlx.tokenizers.stats import NormStats

FORMAT = 1


def write(path: str | Path, name: str, fields: dict[str, Any], stats: NormStats | None) -> None:
    """Write `<path>/<name>.json`."""
    folder = Path(path).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    saved = {"format_version": FORMAT, **fields}
    saved["norm_stats"] = None if stats is None else stats.to_json()
    (folder / f"{name}.json").write_text(json.dumps(saved))


def read(path: str | Path, name: str) -> dict[str, Any]:
    """Return the fields of `<path>/<name>.json`, `stats` among them.

    FileNotFoundError where there is none, ValueError for another format.
    """
    file = Path(path).expanduser() / f"{name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} not found: {path} holds no tokenizer {name!r}")
    fields = json.loads(file.read_text())
    if (version := fields.pop("format_version", None)) != FORMAT:
        raise ValueError(f"{file} has format_version {version}, expected {FORMAT}")
    stats = fields.pop("norm_stats")
    return {**fields, "stats": None if stats is None else NormStats.from_json(stats)}
