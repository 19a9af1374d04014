"""Reward-guided sampling against the truth, at equal numbers of function evaluations.

  python -m experiments.guidance                  two exact test beds, DNA designs, actions
  python -m experiments.guidance --quick          a minute or two, shows that it runs
  python -m experiments.guidance --parts=beds     one part: beds, designs or actions
  python -m experiments.guidance --config=configs/guidance.py:gpu      a masked transformer
Ends with the table, the figure and their paths. Rewards of DNA are proxies, not activities.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments import (
    guidance_actions,
    guidance_beds,
    guidance_check,
    guidance_compare,
    guidance_designs,
)
from experiments import guidance_plot as plot
from rlx.infra import cli, errors, files, runtime
from rlx.infra.files import plain

DEFAULT = "configs/guidance.py"
SHORT = {"parts": "parts", "seed": "seed", "samples": "beds.samples", "network": "designs.network"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    argv = [f"{flag}=true" if flag == "--quick" else flag for flag in argv]
    argv = cli.into_config(argv, DEFAULT, "quick")
    config, workdir, options = cli.start(DEFAULT, SHORT, argv, extra={"quick": False})
    guidance_check.check(config)
    if options.dry_run:
        print(json.dumps({"workdir": str(workdir), **plain(config.to_dict())}, indent=2))
        return 0
    guidance_check.claim(workdir, options.overwrite)
    runtime.start()
    warnings.filterwarnings("ignore", "effective sample size")  # temperatures are the problems'
    start, found = time.perf_counter(), {}
    for part in config.parts:
        found[part] = []
        for row in rows(part, config):
            found[part].append(row)
            print(said(part, row), file=sys.stderr, flush=True)
        files.write_csv(workdir / f"{part}.csv", found[part])
    text = plot.table(found)
    files.write_text(workdir / "guidance.md", text)
    plot.draw(found, workdir / "guidance.png")
    print(text)
    print(f"{time.perf_counter() - start:.0f} s")
    print(f"written: {workdir / 'guidance.md'}, {workdir / 'guidance.png'} and one CSV per part")
    return 0


def rows(part: str, config: ConfigDict) -> Iterator[dict[str, Any]]:
    """What a part finds, row by row."""
    if part == "beds":
        for name, alpha in zip(config.beds.names, config.beds.alphas, strict=True):
            bed = guidance_beds.make(name, alpha, config.beds.steps)
            yield from guidance_compare.rows(bed, config.beds, config.seed)
    elif part == "designs":
        yield from guidance_designs.rows(config.designs, config.denoiser, config.seed)
    else:
        yield from guidance_actions.rows(config.actions, config.seed)


def said(part: str, row: dict[str, Any]) -> str:
    """One line of progress."""
    names = ("bed", "budget", "method", "values", "reward")
    return f"{part}: " + "  ".join(plot.cell(row, name) for name in names if row.get(name))


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
