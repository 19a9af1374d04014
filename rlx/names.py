"""The names most like a mistyped one. Below every room: pure Python, imports nothing of rlx."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Return the `n` of `names` most like `name`, best first, whatever its case and separators.

    Last dotted parts count too: `lr` finds `learner.lr`.
    """

    def likeness(candidate: str) -> float:
        given, full = name.lower(), candidate.lower()
        last = (given.rpartition(".")[2], full.rpartition(".")[2])
        pairs = ((given, full), last, (squash(given), squash(full)))
        scores = [difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs]
        return max(scores) + 0.1 * sum(scores)

    return sorted(dict.fromkeys(names), key=lambda candidate: (-likeness(candidate), candidate))[:n]


def squash(name: str) -> str:
    """`name` without case and separators, so that `cheetah-run` equals `CheetahRun`."""
    return "".join(c for c in name.lower() if c.isalnum())
