"""Stopping on request: SIGTERM (preemption) and Ctrl-C become a flag that a loop reads between
chunks.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rlx.infra import distributed


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Turn SIGTERM and the first SIGINT into an entry of the yielded list; the second SIGINT
    interrupts. Each process has its own list, see `agreed`.
    """
    stop: list[str] = []

    def on_term(signum, frame):
        del signum, frame
        stop.append("preempted")

    def on_interrupt(signum, frame):
        del signum, frame
        if "interrupted" in stop:
            raise KeyboardInterrupt
        stop.append("interrupted")
        print("\nstopping after this chunk; once more stops at once, unsaved", file=sys.stderr)

    try:
        old = [signal.signal(signal.SIGTERM, on_term), signal.signal(signal.SIGINT, on_interrupt)]
    except ValueError:  # not the main thread: signals belong to whoever is
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, old[0])
        signal.signal(signal.SIGINT, old[1])


def agreed(stop: list[str], tag: str) -> str | None:
    """Return why to stop, the same in all processes, None for going on; `stop` says it afterwards.

    A signal to any one process stops them all. All processes must call it, see `exchange`.
    """
    return settle(stop, distributed.exchange(list(stop), tag))


def settle(stop: list[str], given: list[list[str]]) -> str | None:
    """Return the first reason that any process gave (`given`: one list each), None if none did."""
    reasons = [reason for own in given for reason in own]
    if reasons:
        stop[:] = [reasons[0], *(reason for reason in stop if reason != reasons[0])]
    return reasons[0] if reasons else None
