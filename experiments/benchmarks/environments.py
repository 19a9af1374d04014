"""Environment steps per second of the online program: policy, physics, resets, ring."""

from __future__ import annotations

import time
from typing import Any

from experiments.benchmarks import ours
from experiments.benchmarks.measure import Line, Part, alternate, summary
from experiments.benchmarks.ours import Setting

STEPS = {"pendulum": 262_144, "CartpoleSwingup": 16_384}  # transitions of one block
SIZES = (8, 64, 1024)  # environments side by side


def speeds(quick: bool) -> Part:
    """Time the collecting half of our chunk (64x64 networks, no updates) for each task and size."""
    figures: dict[str, Any] = {}
    lines = []
    for env in ("pendulum",) if quick else STEPS:
        blocks, ready = {}, {}
        for num_envs in SIZES:
            setting = Setting(env=env, num_envs=num_envs)
            start = time.perf_counter()
            programs = ours.build(setting)
            state = ours.initial(programs, setting)
            block = ours.collect_block(programs, state, setting, max(8, STEPS[env] // num_envs))
            block()
            blocks[num_envs], ready[num_envs] = block, time.perf_counter() - start
        samples = alternate({str(n): block for n, block in blocks.items()}, 3 if quick else 5)
        figures[env] = {label: summary(values) for label, values in samples.items()} | {
            "ready_s": ready
        }
        lines += [Line(f"{env}: env steps/s, N={n}", figures[env][n]["per_s"]) for n in samples]
    return Part(figures, lines)
