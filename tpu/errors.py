"""What a launch refuses, in the words of the rest of the house. Pure Python: tpu imports no rlx."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1  # a job or a tool failed
EXIT_USAGE = 2  # the user must type something else
EXIT_PREEMPTED = 42  # saved and stopped: the same command goes on


class LaunchError(ValueError):
    """A launch that cannot be made as it was typed."""


def unknown(
    kind: str, name: str, names: Iterable[str], list_command: str, *, like: str = ""
) -> str:
    """Return the text for an unknown name: the three nearest (to `like` if given), and the
    command that lists all.
    """
    close = ", ".join(nearest(like or name, names)) or "(there is none)"
    return f"unknown {kind} '{name}'; nearest: {close}; `{list_command}` lists all"


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Return the `n` of `names` most like `name`, best first; last dotted parts count too."""

    def likeness(candidate: str) -> float:
        given, full = name.lower(), candidate.lower()
        pairs = ((given, full), (given.rpartition(".")[2], full.rpartition(".")[2]))
        scores = [difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs]
        return max(scores) + 0.1 * sum(scores)

    return sorted(dict.fromkeys(names), key=lambda candidate: (-likeness(candidate), candidate))[:n]
