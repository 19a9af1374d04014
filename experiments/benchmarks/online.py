"""Speed of the online loop: measures, prints a table and writes one JSON file.

  python -m experiments.benchmarks.online           everything: half an hour on 2 busy cores
  python -m experiments.benchmarks.online --quick   the same parts, fewer rounds and sizes
  python -m experiments.benchmarks.online --parts=brax,replay --out=speed.json

Targets are compared and reported, never asserted: timings depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks import (
    algorithms,
    devices,
    environments,
    launches,
    measure,
    storage,
    updates,
)
from rlx.infra import files

PARTS = {
    "brax": updates.against_brax,
    "loop": updates.loops,
    "algorithms": algorithms.speeds,
    "devices": devices.costs,
    "replay": storage.inserts,
    "checkpoint": storage.checkpoints,
    "environments": environments.speeds,
    "launches": launches.launches,
}
RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> None:
    """Run the parts asked for, print their rows as they come and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="comma list; default %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument(
        "--out", type=Path, help="default results/online_BACKEND.json, PART_BACKEND.json of some"
    )
    options = parser.parse_args(argv)
    names = options.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"--parts: {name!r} is none of {', '.join(PARTS)}")
    found: dict[str, Any] = {"machine": measure.machine(), "quick": options.quick}
    part = "online" if options.parts == parser.get_default("parts") else "_".join(names)
    out = options.out or RESULTS / f"{part}_{found['machine']['backend']}.json"
    for name in names:
        start = time.perf_counter()
        part = PARTS[name](options.quick)
        show(name, part.lines)
        targets = [line._asdict() | {"met": line.met()} for line in part.lines if line.target]
        found[name] = {**part.figures, "targets": targets, "took_s": time.perf_counter() - start}
        files.write_json(out, found)
    print(f"written: {out}")


def show(name: str, lines: list[measure.Line]) -> None:
    """Print the rows of one part."""
    print(f"\n{name}")
    for line in lines:
        verdict = {None: "", True: "met", False: "MISSED"}[line.met()]
        print(f"  {line.what:<58} {line.value:>12,.4g}  {line.target:<8} {verdict}", flush=True)


if __name__ == "__main__":
    main()
