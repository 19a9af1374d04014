"""The one exception of the room: bad input, told in the user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScalingError(ValueError):
    """Bad input to the analysis; the message says what was given, what was expected, what to
    type."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ScalingError:
    """An error for a name that does not exist, with the nearest three that do."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return ScalingError(
        f"unknown {kind} '{name}'; nearest: {', '.join(near)}; all: {', '.join(known)}"
    )
