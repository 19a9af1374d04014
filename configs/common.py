"""What every config file shares: typed options, and generators of sweeps. Pure Python.

A *sweep* is an iterator of flat override dicts, `{"learner.lr": 3e-4, "seed": 1}`. Axes are given
as one dict, since field names hold dots: `product({"learner.lr": [1e-4, 3e-4], "seed": [0, 1]})`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

Override = dict[str, Any]
Ranges = Mapping[str, tuple[float, float]]


def parse_arg(arg: str, **defaults: bool | int | float | str) -> SimpleNamespace:
    """Parse the option list of `--config=file.py:smoke,env=CheetahRun` into typed attributes.

    Args:
      arg: comma list of `name=value`; a bool option is switched on by its name alone.
      **defaults: every option with its default, whose type is the option's type.

    Returns:
      A namespace with one attribute per option.
    """
    options = dict(defaults)
    for item in filter(None, (part.strip() for part in arg.split(","))):
        name, given, text = (part.strip() for part in item.partition("="))
        if name not in defaults:
            known = ", ".join(_describe(key, value) for key, value in defaults.items()) or "none"
            raise ValueError(f"unknown config option '{name}'; options: {known}")
        if not given and not isinstance(defaults[name], bool):
            raise ValueError(
                f"config option '{name}' needs a value: {_describe(name, defaults[name])}"
            )
        options[name] = _convert(name, text, type(defaults[name])) if given else True
    return SimpleNamespace(**options)


def _describe(name: str, default: Any) -> str:
    return name if default is False else f"{name}={default}"


def _convert(name: str, text: str, kind: type) -> Any:
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ValueError(f"config option '{name}' is {words[kind]}, got '{text}'") from None


def product(axes: Mapping[str, Iterable[Any]], *sweeps: Iterable[Override]) -> Iterator[Override]:
    """Yield every combination of the axes, the last running fastest, times all of `sweeps`."""
    parts = [[{name: value} for value in values] for name, values in axes.items()]
    for combination in itertools.product(*parts, *(list(sweep) for sweep in sweeps)):
        yield _merge(combination)


def _merge(overrides: Iterable[Override]) -> Override:
    merged: Override = {}
    for override in overrides:
        twice = merged.keys() & override.keys()
        if twice:
            raise ValueError(f"a sweep sets {', '.join(sorted(twice))} twice")
        merged |= override
    return merged


def zip_(axes: Mapping[str, Iterable[Any]]) -> Iterator[Override]:
    """Yield the axes in lockstep: the first values together, then the second ones, ..."""
    columns = {name: list(values) for name, values in axes.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zip_ needs axes of one length, got {lengths}")
    for row in zip(*columns.values()):
        yield dict(zip(columns, row))


def chain(*sweeps: Iterable[Override]) -> Iterator[Override]:
    """Yield one sweep after the other."""
    yield from itertools.chain(*sweeps)


def uniform(ranges: Ranges, n: int, seed: int = 0) -> Iterator[Override]:
    """Yield `n` points drawn uniformly from `ranges` {field: (low, high)}."""
    _check(ranges, log=())
    draw = random.Random(seed).random
    for _ in range(n):
        yield {name: low + (high - low) * draw() for name, (low, high) in ranges.items()}


def log_uniform(ranges: Ranges, n: int, seed: int = 0) -> Iterator[Override]:
    """Yield `n` points whose logarithms are drawn uniformly from `ranges` {field: (low, high)}."""
    _check(ranges, log=ranges)
    draw = random.Random(seed).random
    for _ in range(n):
        yield {name: low * (high / low) ** draw() for name, (low, high) in ranges.items()}


def sobol(ranges: Ranges, n: int, seed: int = 0, log: Collection[str] = ()) -> Iterator[Override]:
    """Yield `n` points of a scrambled Sobol sequence; fields in `log` are spaced by logarithm."""
    from scipy.stats import qmc

    _check(ranges, log=log)
    power = max(0, math.ceil(math.log2(n))) if n > 0 else 0
    points = qmc.Sobol(len(ranges), scramble=True, rng=seed).random_base2(power)[: max(n, 0)]
    for point in points:
        yield {
            name: low * (high / low) ** float(x) if name in log else low + (high - low) * float(x)
            for x, (name, (low, high)) in zip(point, ranges.items())
        }


def _check(ranges: Ranges, log: Collection[str]) -> None:
    for name in log:
        if name not in ranges:
            raise ValueError(f"log names '{name}', which is not among {', '.join(ranges)}")
    for name, (low, high) in ranges.items():
        if not low < high:
            raise ValueError(f"range of '{name}' needs low < high, got ({low}, {high})")
        if name in log and low <= 0:
            raise ValueError(f"logarithmic range of '{name}' needs low > 0, got {low}")
