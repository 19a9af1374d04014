"""Config fields by dotted name: their types, values from text (command line) or Python (sweeps).

The config file's defaults are the types: an int is accepted for a float, a float never for an int;
a field that may be None is a `placeholder(type)`. A float may be given as a fraction, 1/16.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict

from rlx.infra.config import flatten
from rlx.infra.errors import ConfigError, unknown

_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number or a fraction such as 1/16",
    str: "a text",
    tuple: "a list such as 64,64",
    list: "a list such as 64,64",
}


def kind_of(config: ConfigDict, field: str) -> type:
    """Return the type of a field by its dotted name; an unknown name or a section is an error."""
    *sections, last = field.split(".")
    here = config
    for section in sections:
        here = here[section] if isinstance(here, ConfigDict) and section in here else None
    if not isinstance(here, ConfigDict) or last not in here:
        raise ConfigError(unknown("config field", field, flatten(config), "--print_config"))
    if isinstance(here[last], ConfigDict):
        inside = ", ".join(flatten(here[last], f"{field}."))
        raise ConfigError(f"{field} is a section, set one of its fields: {inside}")
    return here.get_type(last)


def value_of(config: ConfigDict, field: str) -> Any:
    """Return the value of a field by its dotted name."""
    kind_of(config, field)
    return flatten(config)[field]


def parse(config: ConfigDict, field: str, text: str, hints: Mapping[str, str] | None = None) -> Any:
    """Return `text` as a value of the field's type; `hints` {field: what it is} word the error."""
    kind, current = kind_of(config, field), value_of(config, field)
    if current is None and text.lower() == "none":
        return None
    return from_text(field, text, kind, current, hints)


def from_text(
    name: str, text: str, kind: type, like: Any = None, hints: Mapping[str, str] | None = None
) -> Any:
    """Return `text` as a value of `kind`, its items typed as those of `like`; errors say `name`."""
    try:
        return _from_text(text, kind, like)
    except (ValueError, SyntaxError, ZeroDivisionError):
        raise _mismatch(name, kind, text, hints) from None


def _mismatch(field: str, kind: type, value: Any, hints: Mapping[str, str] | None) -> ConfigError:
    words = (hints or {}).get(field) or _WORDS.get(kind, f"a {kind.__name__}")
    return ConfigError(f"{field} is {words}, got '{value}'")


def _from_text(text: str, kind: type, like: Any = None) -> Any:
    if kind is bool:
        return bool(("false", "true").index(text.lower()))
    if kind is int:
        return int(float(text)) if re.fullmatch(r"[+-]?\d+[eE]\+?\d+", text) else int(text)
    if kind is float:
        value = float(Fraction(text)) if "/" in text else float(text)
        if math.isnan(value):
            raise ValueError("NaN is no setting")
        return value
    if kind is str:
        return text
    if kind in (tuple, list):
        return kind(_items(text, like))
    return _literal(text)


def _items(text: str, like: Any) -> list[Any]:
    """Parse `(64, 64)`, `[64]`, `64,64` or `()` into items of the type of the first of `like`."""
    element = type(like[0]) if like else None
    if element in (tuple, list):
        return list(ast.literal_eval(text))
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("()", "[]"):
        inner = inner[1:-1]
    parts = [part.strip() for part in inner.split(",") if part.strip()]
    return [_from_text(part, element) if element else _literal(part) for part in parts]


def _literal(text: str) -> Any:
    """Read a number, True, None or a tuple as Python does, anything else as a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def override(
    config: ConfigDict, values: Mapping[str, Any], hints: Mapping[str, str] | None = None
) -> None:
    """Set typed values in place, `{"learner.lr": 3e-4}`; wrong names and types raise."""
    for field, value in values.items():
        kind, current = kind_of(config, field), value_of(config, field)
        if not _fits(value, kind, current):
            raise _mismatch(field, kind, value, hints)
        *sections, last = field.split(".")
        here = config
        for section in sections:
            here = here[section]
        here[last] = float(value) if kind is float and value is not None else value


def _fits(value: Any, kind: type, current: Any) -> bool:
    if value is None or kind in (object, type(None)):
        return current is None or kind is object
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(
        value,
        {float: (int, float, Fraction), tuple: (tuple, list), list: (tuple, list)}.get(kind, kind),
    )


def parse_ratio(value: str | float | Fraction, field: str = "train.utd") -> Fraction:
    """Return a ratio > 0 exactly: "1/16", "0.1", 8 and the float of 1/3 are those fractions."""
    try:
        exact = Fraction(value)
        near = exact.limit_denominator(10_000)
        ratio = near if isinstance(value, float) and float(near) == value else exact
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        ratio = Fraction(0)
    if ratio <= 0:
        raise ConfigError(f"{field} is a number > 0 or a fraction such as 1/16, got '{value}'")
    return ratio
