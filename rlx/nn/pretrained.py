"""Pretrained weights in the layouts of others, made to fit the networks of this house.

  paligemma    the npz of PaliGemma: flat names such as `params/llm/layers/attn/q_einsum/w`
  openpi       the same below `PaliGemma/`, with a trailing `/value`; the action expert's names end
               in `_1`, its projections stand at the top
  huggingface  safetensors of PaliGemma: one entry per layer, matrices as (out, in)

Nothing is loaded in silence: names that are missing or unexpected and shapes that differ are all
listed at once, unless they were allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlx.names import nearest
from rlx.nn.pretrained_layouts import ENTRIES, TABLE
from rlx.ops.partition import paths, tree_of
from rlx.types import PyTree


class Report(NamedTuple):
    """What did not match; `shapes` as "ours (2, 3), there (2, 4)" by our name."""

    missing: list[str]  # ours, not in the checkpoint
    unexpected: list[str]  # in the checkpoint, not ours
    shapes: dict[str, str]


def load(
    params: PyTree,
    source: Mapping[str, Any],
    layout: str,
    *,
    rows: Sequence[int] | None = None,
    allow_missing: str = "",
    allow_unexpected: str = "",
) -> tuple[PyTree, Report]:
    """Return `params` with the values of `source`, and what was allowed not to match.

    Args: params: ours, {"llm": ..., "img": ..., "expert": ...}, of which those allowed to be
    missing keep their values; source: arrays by flat or nested names; rows: which rows of the
    checkpoint's token table are ours, one per token of our vocabulary (needed where it is smaller);
    allow_...: patterns searched in our names (missing) and theirs (unexpected).
    Raises ValueError listing every mismatch that is not allowed.
    """
    if layout not in ENTRIES:
        near = nearest(layout, ENTRIES)[0]
        raise ValueError(f"layout is one of {', '.join(ENTRIES)}, got {layout!r}; nearest: {near}")
    there = clean(source, layout)
    ours, found, used, shapes = paths(params), {}, set(), {}
    for name, leaf in ours.items():
        entry = ENTRIES[layout].get(name)
        names = entry.sources(leaf.shape) if entry else []
        if entry is None or not names or not all(n in there for n in names):
            continue
        used.update(names)
        parts = [np.asarray(there[n]) for n in names]
        if name == TABLE and rows is not None:
            parts = [_rows(parts[0], rows, leaf.shape[0])]
        value = entry.value(parts, leaf.shape)
        if value.shape == leaf.shape:
            found[name] = value.astype(leaf.dtype)
        else:
            shapes[name] = f"ours {leaf.shape}, there {value.shape}"
    report = Report(
        missing=sorted(set(ours) - set(found) - set(shapes)),
        unexpected=sorted(set(there) - used),
        shapes=shapes,
    )
    _refuse(report, allow_missing, allow_unexpected)
    return tree_of({name: found.get(name, leaf) for name, leaf in ours.items()}), report


def _rows(table: np.ndarray, rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.shape != (count,) or rows.min() < 0 or rows.max() >= len(table):
        raise ValueError(
            f"rows are {count} row numbers below {len(table)}, one per token of our vocabulary; "
            f"got shape {rows.shape} from {rows.min()} to {rows.max()}"
        )
    return table[rows]


def _refuse(report: Report, allow_missing: str, allow_unexpected: str) -> None:
    """Raise ValueError with all that is not allowed."""

    def bad(names: list[str], allowed: str) -> list[str]:
        return [n for n in names if not (allowed and re.search(allowed, n))]

    lines = [f"missing {n}" for n in bad(report.missing, allow_missing)]
    lines += [f"unexpected {n}" for n in bad(report.unexpected, allow_unexpected)]
    lines += [f"shape of {name}: {text}" for name, text in report.shapes.items()]
    if TABLE in report.shapes:
        lines.append("(a smaller vocabulary takes `rows` of the checkpoint's table)")
    if lines:
        raise ValueError("the checkpoint does not fit the model:\n  " + "\n  ".join(lines))


def clean(source: Mapping[str, Any], layout: str) -> dict[str, Any]:
    """Return `source` by flat names without the prefixes and suffixes that versions differ in."""
    flat = paths(dict(source))
    if layout == "huggingface":
        names = {name: re.sub(r"^model\.", "", name) for name in flat}
        names = {n: re.sub(r"^language_model\.model\.", "language_model.", m)
                 for n, m in names.items()}  # fmt: skip
        tied = ("lm_head.weight", "language_model.lm_head.weight")  # a copy of the token table
        return {names[n]: x for n, x in flat.items() if names[n] not in tied}
    names = {name: re.sub(r"^params/", "", name).removesuffix("/value") for name in flat}
    names = {n: re.sub("^PaliGemma/|^action_(?=time_mlp)", "", m) for n, m in names.items()}
    return {names[n]: x for n, x in flat.items()}


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name."""
    with np.load(Path(path).expanduser()) as file:
        return {name: file[name] for name in file.files}


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """Return the arrays of a safetensors file, or of all the files of a model's folder.

    Raises FileNotFoundError where there is none or one that the folder's index names is missing.
    """
    from safetensors.flax import load_file  # NumPy alone has no bfloat16

    path = Path(path).expanduser()
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [path / name for name in sorted(names)]
    absent = [str(file) for file in files if not file.is_file()]
    if absent or not files:
        raise FileNotFoundError(f"no safetensors: {', '.join(absent) or f'{path} holds none'}")
    return {name: x for file in files for name, x in load_file(file).items()}
