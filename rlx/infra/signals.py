"""Stopping on request: SIGTERM (preemption) and Ctrl-C become a flag that a loop reads between
chunks.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Turn SIGTERM and the first SIGINT into an entry of the yielded list; the second SIGINT
    interrupts.
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
