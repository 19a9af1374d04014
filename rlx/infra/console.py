"""The console of a process that is not the first: nothing on stdout, stderr with its name."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class Prefixed(io.TextIOBase):
    """A text stream that begins every line with `prefix`."""

    def __init__(self, stream: TextIO, prefix: str):
        """Write to `stream`, which is never taken for a terminal: no progress bars."""
        self._stream, self._prefix, self._at_start = stream, prefix, True

    def write(self, text: str) -> int:
        """Write `text`; return how many characters it has."""
        for line in text.splitlines(keepends=True):
            self._stream.write(self._prefix + line if self._at_start else line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True


def quiet(prefix: str) -> None:
    """Drop what this process prints on stdout, and begin its lines on stderr with `prefix`."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")
    sys.stderr = Prefixed(sys.stderr, prefix)
