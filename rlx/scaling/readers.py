"""Raw readers: one file of any accepted form -> {column name: list of cells}, plus warnings.

Accepted: `.csv`, `.csv.gz`, `.npz` (one array per column), `.jsonl` or a run directory
(`metrics.jsonl`), and in memory a list of dicts or a dict of arrays.  Nothing is interpreted here
except where a file was cut short.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlx.scaling.errors import ScalingError
from rlx.scaling.runs import read_rows


@dataclass
class Raw:
    """One source as read: `columns` {name: [R] cells}, where it came from, and what was odd about
    it."""

    columns: dict[str, list]
    origin: str
    warnings: list[str] = field(default_factory=list)


def read(source: str | Path | dict | Iterable[dict]) -> Raw:
    """Read one source (see the module's docstring)."""
    if isinstance(source, dict):
        return Raw({str(k): list(np.asarray(v)) for k, v in source.items()}, "the given columns")
    if not isinstance(source, (str, Path)):
        return _from_rows(list(source), "the given rows")
    path = Path(source)
    if path.is_dir():
        path = path / "metrics.jsonl"
    if not path.exists():
        raise ScalingError(f"no such table: {path}")
    if path.suffix == ".jsonl":
        rows, notes = read_rows(path)
        return Raw(_from_rows(rows, str(path)).columns, str(path), notes)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return Raw({k: list(np.atleast_1d(arrays[k])) for k in arrays.files}, str(path))
    if path.name.endswith((".csv", ".csv.gz")):
        return _read_csv(path)
    raise ScalingError(
        f"{path}: unknown kind of table; accepted: .csv, .csv.gz, .npz, .jsonl, a run directory"
    )


def _from_rows(rows: list[dict], origin: str) -> Raw:
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ScalingError(f"{origin}: expected at least one row, each a dict")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return Raw({key: [row.get(key, "") for row in rows] for key in keys}, origin)


def _read_csv(path: Path) -> Raw:
    """A CSV file; an unfinished last line (killed run) is skipped with a warning."""
    text, notes = _text(path)
    lines = text.splitlines()
    if text and not text.endswith("\n"):
        # Even a line with every field may end in half a number, and nothing else can tell.
        notes.append(f"{path}: skipped its last line, which does not end in a newline (truncated?)")
        lines = lines[:-1]
    reader = csv.reader(lines)
    header = next(reader, None)
    if not header:
        raise ScalingError(f"{path}: empty table")
    rows = list(reader)
    short = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if short and short[-1] == len(rows) - 1:
        notes.append(f"{path}: skipped its truncated last line")
        rows.pop()
        short.pop()
    if short:
        raise ScalingError(
            f"{path}: line {short[0] + 2} has {len(rows[short[0]])} fields, the header "
            f"{len(header)}"
        )
    cells = zip(*rows) if rows else ([] for _ in header)
    return Raw(
        {name.strip(): list(column) for name, column in zip(header, cells)}, str(path), notes
    )


def _text(path: Path) -> tuple[str, list[str]]:
    """The file's text; of a gzip file cut short, the part that can still be read."""
    if path.suffix != ".gz":
        return path.read_text(encoding="utf-8"), []
    decoder = zlib.decompressobj(wbits=31)
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        raise ScalingError(f"{path}: not a gzip file")
    text = decoder.decompress(data)
    if not decoder.eof:
        return text.decode("utf-8", errors="ignore"), [f"{path}: the compressed file is cut short"]
    return gzip.decompress(data).decode("utf-8"), []
