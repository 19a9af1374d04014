"""How the benchmarks measure: alternating blocks, medians with their spread, the machine.

Two programs are always compared in one process in short blocks that take turns, so that another job
on the machine slows both. Beside the wall clock stands the CPU time of the process, which such a
job disturbs less (it says nothing about work on an accelerator).
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

Block = Callable[[], int]  # runs to the end, device included; returns how many units it did


class Line(NamedTuple):
    """One row of the printed table; `target` is a bound such as ">= 1.3", or nothing."""

    what: str
    value: float
    target: str = ""

    def met(self) -> bool | None:
        """Say whether the value keeps its target; None without one."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


class Part(NamedTuple):
    """What one part of the benchmark found."""

    figures: dict[str, Any]
    lines: list[Line]


def alternate(blocks: Mapping[str, Block], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Warm every block up, then run each `rounds` times in turns, every other round backwards.

    Returns {block: {"wall_s": [...], "cpu_s": [...]}}, seconds per unit, one entry per round.
    """
    samples: dict[str, dict[str, list[float]]] = {
        name: {"wall_s": [], "cpu_s": []} for name in blocks
    }
    for block in blocks.values():
        block()
    for turn in range(rounds):
        for name in list(blocks)[:: 1 if turn % 2 == 0 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            units = blocks[name]()
            samples[name]["wall_s"].append((time.perf_counter() - wall) / units)
            samples[name]["cpu_s"].append((time.process_time() - cpu) / units)
    return samples


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, min and max."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(samples: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the spread of seconds per unit, wall and CPU, and units per second of the median."""
    figures: dict[str, Any] = {name: spread(values) for name, values in samples.items()}
    figures["per_s"] = 1.0 / figures["wall_s"]["median"]
    return figures


def ratio(over: Mapping[str, list[float]], under: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the spread of `over / under`, round by round, by wall clock and by CPU time."""
    return {
        name: spread(a / max(b, 1e-12) for a, b in zip(over[name], under[name], strict=True))
        for name in over
    }


def machine() -> dict[str, Any]:
    """Say what the figures were taken on."""
    devices = jax.devices()
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in devices],
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_average": os.getloadavg(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit of this checkout, with "+changes" if the tree differs from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return (git("rev-parse", "HEAD") or "unknown") + (
        "+changes" if git("status", "--porcelain") else ""
    )


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )
