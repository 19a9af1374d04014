"""What has become of a job, read from its work directory alone: no state is kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tpu import storage
from tpu.plan import Job

NOT_STARTED, RUNNING, DONE, FAILED = "not started", "running", "done", "failed"


class State(NamedTuple):
    """`running` means begun and not ended: at work, or stopped and waiting for a relaunch."""

    name: str
    rows: int = 0  # of the first run of a pack
    env_steps: int = 0
    message: str = ""

    def __str__(self) -> str:
        if self.name == RUNNING:
            return f"{self.name}: {self.rows} rows, {self.env_steps} env steps"
        return f"{self.name}: {self.message}" if self.message else self.name


def state_of(workdir: str) -> State:
    """Read the state of one job."""
    result = storage.read(f"{workdir}/result.json")
    if result is not None:
        outcome = json.loads(result)
        if outcome.get("status") == FAILED:
            return State(FAILED, message=outcome.get("message", "no message"))
        return State(DONE)
    if storage.read(f"{workdir}/config.json") is None:
        return State(NOT_STARTED)
    rows = storage.read(f"{workdir}/metrics.jsonl")
    if rows is None:
        rows = storage.read(f"{workdir}/runs/*/metrics.jsonl")
    return _progress(rows or "")


def _progress(text: str) -> State:
    """Count the rows of the first metrics file in `text`; each begins with a line of its own."""
    rows = []
    for index, line in enumerate(text.splitlines(keepends=True)):
        if not line.endswith("\n"):
            break  # being written
        row = json.loads(line)
        if "schema" in row:
            if index:
                break  # of the next run
            continue
        rows.append(row)
    return State(RUNNING, len(rows), rows[-1].get("env_steps", 0) if rows else 0)


def states_of(jobs: Sequence[Job]) -> dict[str, State]:
    """Return {job name: state}; buckets are asked for several jobs at a time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        states = pool.map(state_of, [job.workdir for job in jobs])
    return {job.name: state for job, state in zip(jobs, states, strict=True)}
