"""Learning from data: speed and memory; each part prints a table and writes one JSON file.

  python -m experiments.benchmarks.offline --part=packs,evaluation,data,pixels
  python -m experiments.benchmarks.offline --part=peer,parity --reference=DIR

`peer` (updates per CPU second) and `parity` (the same losses) are against FQL's public reference,
see offline_reference.py. For one core, so that CPU seconds compare: `taskset -c 1` and
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from experiments.benchmarks import (
    measure,
    offline_host,
    offline_packs,
    offline_parity,
    offline_peer,
    offline_pixels,
    online,
)
from rlx.infra import files

AGAINST = {"peer": offline_peer.against_reference, "parity": offline_parity.parity}
OWN = {
    "packs": offline_packs.packs,
    "evaluation": offline_host.evaluation,
    "data": offline_host.data,
    "pixels": offline_pixels.pixels,
}


def main(argv: list[str] | None = None) -> None:
    """Run the parts asked for, print their rows as they come and write their JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default=",".join(OWN), help="comma list; default %(default)s")
    parser.add_argument("--reference", type=Path, help="folder of the reference's files")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--out", type=Path, default=online.RESULTS, help="folder of the JSON")
    options = parser.parse_args(argv)
    names = options.part.split(",")
    for name in names:
        if name not in AGAINST | OWN:
            parser.error(f"--part: {name!r} is none of {', '.join(AGAINST | OWN)}")
        if name in AGAINST and options.reference is None:
            parser.error(f"--part={name} needs --reference=DIR, see offline_reference.py")
    for name in names:
        machine, start = measure.machine(), time.perf_counter()
        if name in AGAINST:
            part = AGAINST[name](options.quick, options.reference)
        else:
            part = OWN[name](options.quick)
        online.show(name, part.lines)
        targets = [line._asdict() | {"met": line.met()} for line in part.lines if line.target]
        found = {"machine": machine, "quick": options.quick, **part.figures, "targets": targets}
        found["took_s"] = time.perf_counter() - start
        backend = "" if name == "parity" else f"_{machine['backend']}"
        out = options.out / f"offline_{name}{backend}.json"
        files.write_json(out, found)
        print(f"written: {out}")


if __name__ == "__main__":
    main()
