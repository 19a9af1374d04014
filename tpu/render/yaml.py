"""YAML of dicts, lists and scalars: no package needed to write what clusters read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Anything else is quoted: `on`, `no`, `1e3`, `2x2` and the like mean several things to parsers.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def dump(tree: dict[str, Any]) -> str:
    """Return `tree` as a YAML document; texts of several lines become `|` blocks."""
    return "\n".join(_lines(tree)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{_scalar(key)}:", inner)
    elif isinstance(value, list) and value and not _flat(value):
        for inner in value:
            first, *rest = _lines(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(start: str, value: Any) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value:
        yield f"{start} |"
        yield from (f"  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
    elif (isinstance(value, dict) and value) or (isinstance(value, list) and not _flat(value)):
        yield start
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{start} {_scalar(value)}"


def _flat(value: list[Any]) -> bool:
    """Say whether a list goes on one line: numbers only, or nothing."""
    return all(isinstance(item, int) for item in value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
