"""What `scaling_compare` reads: one cell for every algorithm, task and UTD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlx.infra import errors
from rlx.scaling import cells, table


def read(sources: Sequence[str]) -> list[cells.Cell]:
    """Cells of the tables; `label=path` names its algorithm otherwise than the table does."""
    paths: dict[str, list[str]] = {}
    for source in sources:
        label, _, path = source.rpartition("=")
        paths.setdefault(label, []).append(path)
    found: dict[tuple[str, str, float], cells.Cell] = {}
    for label, own in paths.items():
        for cell in cells.make_cells(table.read_table(own), [], []):
            cell = replace(cell, algo=label or cell.algo)
            other = found.setdefault((cell.algo, cell.task, cell.utd), cell)
            if other is not cell:
                raise errors.ConfigError(
                    f"two settings of one algorithm at one UTD: {other.name}; {cell.name}. Give "
                    "tables of one setting each, or labels that tell them apart: label=table"
                )
    return list(found.values())
