"""Several runs as one program: gradient steps per second of all runs together, against one run."""

from __future__ import annotations

from typing import Any

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks.measure import Line, Part, alternate, ratio, summary
from rlx.infra.runtime import on_cpu


def packs(quick: bool) -> Part:
    """Time R vmapped runs of FQL, 512x4, batch 256: R = 1, 2, 4 on a CPU, 1, 8 elsewhere."""
    setting, sizes = ours.Setting(), (1, 2, 4) if on_cpu() else (1, 8)
    data, updates = ours.rows(setting), 4 if on_cpu() else 2000
    blocks = {
        f"{R} runs": ours.learn_block(ours.config(setting), data, max(1, updates // R), R)
        for R in sizes
    }
    samples = alternate(blocks, 5 if quick else 11)
    figures: dict[str, Any] = {"setting": vars(setting)}
    lines = []
    for name, own in samples.items():
        more = ratio(samples["1 runs"], own)
        figures[name] = {**summary(own), "throughput_over_one": more}
        lines.append(Line(f"{name}: updates/s, all runs", figures[name]["per_s"]))
        lines.append(Line(f"{name}: throughput over one run, wall", more["wall_s"]["median"]))
        lines.append(Line(f"{name}: throughput over one run, CPU", more["cpu_s"]["median"]))
    return Part(figures, lines)
