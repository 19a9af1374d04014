"""What the host decides between two chunks: their length, when to save, whether to stop.

None of it changes a result. Where several processes make up the run, the clock of process 0 counts,
and a signal to any one of them stops all: they agree once per chunk.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from rlx.infra import distributed, signals

GROWTH = 8  # at most, from one chunk to the next: the first ones only measure the speed


class Decision(NamedTuple):
    """The same in all processes."""

    stop: str | None  # "preempted", "interrupted" or None
    limit: int  # iterations of the next chunk, at most
    overdue: bool  # a checkpoint, by the clock


@dataclass
class Clock:
    """Settings of the host that change no result, and what it measured."""

    chunk_seconds: float = 10.0
    save_seconds: float = 600.0
    save_every: int = 0  # transitions; 0 = by the clock alone

    def start(self) -> None:
        """Begin to measure: the first chunk has one iteration."""
        self.last_save = self.last_read = time.perf_counter()
        self.limit = 1

    def decide(self, stop: list[str], step: int) -> Decision:
        """Agree on what comes after vector step `step`; `stop`: filled by signals."""
        overdue = time.perf_counter() - self.last_save > self.save_seconds
        given = distributed.exchange([list(stop), self.limit, overdue], f"step {step}")
        _, limit, overdue = given[0]
        return Decision(signals.settle(stop, [own for own, *_ in given]), limit, overdue)

    def adapt(self, iterations: int, evaluated: bool) -> None:
        """Set how many iterations fill `chunk_seconds` at the speed of the chunk just read."""
        seconds, self.last_read = time.perf_counter() - self.last_read, time.perf_counter()
        if not evaluated:
            fitting = int(iterations * self.chunk_seconds / max(seconds, 1e-6))
            self.limit = max(1, min(fitting, self.limit * GROWTH))

    def saved(self) -> None:
        """Note that a checkpoint was written."""
        self.last_save = time.perf_counter()
