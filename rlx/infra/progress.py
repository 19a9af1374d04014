"""Progress on the console: a rich bar in a terminal, one plain line per log event elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from typing import TextIO

WINDOW = 10  # updates that the rate is taken over


class Progress:
    """Shows steps (of environments, of training), steps/s, time left and the last return."""

    def __init__(self, total: int, stream: TextIO | None = None, counter: str = "env_steps"):
        """Show on `stream` (default stderr) how far a run of `total` steps is; `counter`: their
        name.
        """
        self._counter = counter
        self._total = total
        self._stream = stream or sys.stderr
        self._bar = None
        self._seen: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._rate = 0.0

    def update(self, steps: int, wall_s: float, last_return: float | None) -> None:
        """Show that the run has done `steps` after `wall_s` seconds."""
        self._measure(steps, wall_s)
        text = "" if last_return is None else f"return {last_return:.1f}"
        if self._stream.isatty():
            self._draw(steps, text)
        else:
            print(self._line(steps, text), file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        if self._bar:
            self._bar.stop()

    def _measure(self, done: int, wall_s: float) -> None:
        """Set the rate over the last few updates, which arrive in bursts."""
        steps, seconds = self._seen[0] if self._seen else (done, wall_s)
        if done > steps and wall_s > seconds:
            self._rate = (done - steps) / (wall_s - seconds)
        self._seen.append((done, wall_s))

    def _speed(self, steps: int) -> str:
        if not self._rate:
            return ""
        left = max(0, self._total - steps) / self._rate
        return f"{self._rate:,.0f} steps/s  ETA {clock(left)}"

    def _line(self, steps: int, text: str) -> str:
        share = steps / max(1, self._total)
        done = f"{self._counter} {steps:,}/{self._total:,} ({share:.0%})"
        return "  ".join(part for part in (done, self._speed(steps), text) if part)

    def _draw(self, steps: int, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
            self._bar = Bar(*columns, console=Console(file=self._stream))
            self._task = self._bar.add_task("", total=self._total, text="")
            self._bar.start()
        shown = "  ".join(part for part in (self._speed(steps), text) if part)
        self._bar.update(self._task, completed=steps, text=shown, refresh=True)


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
