"""Rows of metrics: `metrics.jsonl` is the truth, `metrics.csv`, the console and wandb are copies.

A solo run logs into the workdir itself, run r of a pack into `workdir/runs/<id>`; the files look
the same. Line 1 is the header {"schema", "config_sha", "run_id", "seed", "hp"}, then come the rows
of `infra/rows.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlx.infra import distributed, rows
from rlx.infra.files import plain, write_text
from rlx.infra.progress import Progress
from rlx.infra.tracking import Tracker

SCHEMA = 1
_RETURNS = ("eval/return", "train/return")


class Run(NamedTuple):
    """One run of a pack; a solo run is a pack of one."""

    id: str
    seed: int
    hp: Mapping[str, Any] = {}  # the fields in which the runs of this workdir differ


class Logger:
    """Writes the rows of the runs of one workdir; in processes other than 0 it does nothing."""

    def __init__(
        self,
        workdir: str | Path,
        runs: Sequence[Run],
        *,
        total: int,
        counter: str = "env_steps",
        config_sha: str = "",
        tracker: Tracker | None = None,
        progress: Progress | None = None,
    ):
        """Open the files of `runs`; rows of an earlier launch stay until `rewind`.

        Args:
          workdir: the run directory.
          runs: one solo run, or the runs of a pack.
          total: steps of the whole run, for the progress bar; counter: the name of their column.
          config_sha: goes into the headers.
          tracker: wandb, from `tracking.start_wandb`; None for none.
          progress: where progress is shown; the terminal if None.
        """
        folder = Path(workdir)
        solo = len(runs) == 1
        self._runs = tuple(runs)
        self._files = [
            (folder if solo else folder / "runs" / run.id) / "metrics.jsonl" for run in runs
        ]
        if len(set(self._files)) < len(self._files):
            raise ValueError(f"run ids must differ, got {[run.id for run in runs]}")
        self._main = distributed.is_main()
        self._headers = [
            {
                "schema": SCHEMA,
                "config_sha": config_sha,
                "run_id": run.id,
                "seed": run.seed,
                "hp": plain(run.hp),
            }
            for run in runs
        ]
        self._prefixes = [""] if solo else [f"{run.id}/" for run in runs]
        self._tracker = tracker
        self._counter = counter
        self._progress = progress or Progress(total, counter=counter)
        self._returns: dict[int, float] = {}
        self._last: Mapping[str, Any] = {}
        self.rewind(math.inf)

    def log(self, run_index: int, row: Mapping[str, Any]) -> None:
        """Append one row of one run: `rows.COUNTERS` and any `train/…`, `eval/…` scalars."""
        if not self._main:
            return
        run = self._runs[run_index]
        counted = rows.make_row(row, run.id, run.seed)
        with self._files[run_index].open("a", encoding="utf-8") as file:
            file.write(rows.line(counted))
        self._last = counted
        for key in _RETURNS[::-1]:
            if counted.get(key) is not None:
                self._returns[run_index] = counted[key]
        if self._tracker:
            self._tracker.log(counted, self._prefixes[run_index])

    def show(self) -> None:
        """Show progress once per log event: the bar, or one plain line if there is no terminal."""
        if not self._main:
            return
        mean = sum(self._returns.values()) / len(self._returns) if self._returns else None
        self._progress.update(self._last[self._counter], self._last["wall_s"], mean)

    def rewind(self, step: float) -> None:
        """Keep the rows with `row["step"] <= step`, drop the rest and half-written lines.

        Call it on resume with the restored step, or with -1 if there was no checkpoint to restore;
        a reader sees the old file or the new one. The CSV is rewritten too.
        """
        if not self._main:
            return
        for header, file in zip(self._headers, self._files):
            kept = [row for row in rows.read_rows(file) if row["step"] <= step]
            write_text(file, "".join(map(rows.line, [header, *kept])))
            rows.write_csv(file, kept)

    def close(self) -> None:
        """Write every `metrics.csv`, end the progress bar and the tracker."""
        if not self._main:
            return
        for file in self._files:
            rows.write_csv(file, rows.read_rows(file))
        self._progress.close()
        if self._tracker:
            self._tracker.close()
