"""A config file's sweep, read and checked: every override names a field and fits its type."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from tpu.errors import LaunchError, unknown

Override = dict[str, Any]
Fields = Mapping[str, tuple[type, Any]]  # {dotted field: (type, value)}
OWN = ("workdir",)  # set by the launcher itself

_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number or a fraction such as 1/16",
    str: "a text",
    tuple: "a list such as (64, 64)",
    list: "a list such as [64, 64]",
}


class Sweep(NamedTuple):
    """What a config file wants to be run."""

    entries: list[Override]  # checked, floats as floats
    packed: dict[str, str]  # {field: flag of the experiment that takes several values at once}
    flags: Mapping[str, str] = MappingProxyType({})  # {other flag: the swept field that it sets}
    max_processes: int | None = None  # per job; None = as many as there are hosts


def load(experiment: str, spec: str) -> Sweep:
    """Read `get_sweep` of `configs/x.py:options`; a config without one is a sweep of one entry."""
    check_experiment(experiment)
    path, _, arg = spec.partition(":")
    module = _module(path)
    if not hasattr(module, "get_config"):
        raise LaunchError(f"{path} has no get_config(arg)")
    try:
        fields = fields_of(module.get_config(arg))
        entries = _entries(module, arg)
    except ValueError as error:  # the words of configs/common.py
        raise LaunchError(f"{path}: {error}") from error
    packed = dict(getattr(module, "PACKED", {}))
    listing = f"python -m experiments.{experiment} --config={spec} --print_config"
    flags = dict(getattr(module, "FLAGS", {}))
    for field in (*packed, *flags.values()):
        _check_name(field, fields, listing)
    checked = [
        {field: _checked(field, value, fields, listing) for field, value in entry.items()}
        for entry in entries
    ]
    _refuse_duplicates(checked)
    return Sweep(checked, packed, flags, getattr(module, "MAX_PROCESSES", None))


def check_experiment(name: str) -> None:
    """Raise LaunchError unless `experiments/<name>.py` is there and is a program."""
    folder = Path(__file__).resolve().parents[1] / "experiments"
    programs = [f.stem for f in folder.glob("*.py") if '__name__ == "__main__"' in f.read_text()]
    if name not in programs:
        raise LaunchError(unknown("experiment", name, programs, "ls experiments/*.py"))


def fields_of(config: Any, prefix: str = "") -> dict[str, tuple[type, Any]]:
    """Return {dotted field: (type, value)} of a ConfigDict."""
    flat: dict[str, tuple[type, Any]] = {}
    for key, value in config.items():
        if hasattr(value, "get_type"):
            flat |= fields_of(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (config.get_type(key), value)
    return flat


def as_text(value: Any) -> str:
    """Return `value` as the command line of an experiment reads it; floats come back exactly."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        nested = any(isinstance(item, (tuple, list)) for item in value)
        return repr(value) if nested or not value else ",".join(map(as_text, value))
    return repr(value) if isinstance(value, float) else str(value)


def _module(path: str) -> ModuleType:
    file = Path(path)
    if not file.is_file():
        others = [str(file.parent / other.name) for other in file.parent.glob("*.py")]
        others = [other for other in others if not other.endswith("__init__.py")]
        raise LaunchError(unknown("config file", path, others, f"ls {file.parent}/*.py"))
    spec = importlib.util.spec_from_file_location(f"config_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise LaunchError(f"config file '{path}' is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _entries(module: ModuleType, arg: str) -> list[Override]:
    if not hasattr(module, "get_sweep"):
        return [{}]
    takes_arg = bool(inspect.signature(module.get_sweep).parameters)
    entries = list(module.get_sweep(arg) if takes_arg else module.get_sweep())
    if not entries:
        raise ValueError("get_sweep yields no entry")
    return entries


def _check_name(field: str, fields: Fields, listing: str) -> None:
    if field in OWN:
        raise LaunchError(f"the sweep sets {field}, which the launcher sets: leave it out")
    if field in fields:
        return
    inside = [name for name in fields if name.startswith(f"{field}.")]
    if inside:
        raise LaunchError(f"{field} is a section, set one of its fields: {', '.join(inside)}")
    raise LaunchError(unknown("config field", field, fields, listing))


def _checked(field: str, value: Any, fields: Fields, listing: str) -> Any:
    """Return `value` in the type of its field; the rules are those of the experiments."""
    _check_name(field, fields, listing)
    kind, current = fields[field]
    if value is None or kind in (object, type(None)):
        fits = current is None or kind is object
    elif isinstance(value, bool) or kind is bool:
        fits = kind is bool and isinstance(value, bool)
    elif kind is float:
        fits = isinstance(value, (int, float, Fraction)) and not math.isnan(value)
    else:
        fits = isinstance(value, (tuple, list) if kind in (tuple, list) else kind)
    if not fits:
        words = _WORDS.get(kind, f"a {kind.__name__}")
        raise LaunchError(f"{field} is {words}, got '{value}'")
    return float(value) if kind is float and value is not None else value


def _refuse_duplicates(entries: Iterable[Override]) -> None:
    seen: dict[tuple, int] = {}
    for number, entry in enumerate(entries, start=1):
        key = tuple(sorted((field, repr(value)) for field, value in entry.items()))
        first = seen.setdefault(key, number)
        if first != number:
            shown = ", ".join(f"{field}={text}" for field, text in key) or "no override"
            raise LaunchError(f"sweep entries {first} and {number} are the same: {shown}")
