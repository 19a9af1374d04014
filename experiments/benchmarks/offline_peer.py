"""Updates per CPU second of our FQL against its public reference, both as their users run them."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import jax

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks import offline_reference
from experiments.benchmarks.measure import Block, Line, Part, alternate, ratio, summary

BUFFER = 2_000_000  # rows that the reference's main.py reserves


def reference_block(reference: SimpleNamespace, setting: ours.Setting, updates: int) -> Block:
    """Return a block of the reference's own loop: sample on the host, one call per update."""
    data = reference.datasets.Dataset.create(**ours.arrays(setting))
    data = reference.datasets.ReplayBuffer.create_from_initial_dataset(
        dict(data), size=max(BUFFER, data.size + 1)
    )
    learner = offline_reference.agent(reference, setting)

    def block() -> int:
        nonlocal learner
        for _ in range(updates):
            learner, info = learner.update(data.sample(setting.batch_size))
        jax.block_until_ready((learner, info))
        return updates

    return block


def against_reference(quick: bool, folder: Path) -> Part:
    """Time our program and the reference's loop in turns, as they are run by their users."""
    setting, updates = ours.Setting(), 20  # what a call costs is shared by more in a real run
    start = time.perf_counter()
    own = ours.learn_block(ours.config(setting), ours.rows(setting), updates)
    own()
    own_ready = time.perf_counter()
    reference = offline_reference.load(folder)
    other = reference_block(reference, setting, updates)
    other()
    ready_s = {"rlx": own_ready - start, "reference": time.perf_counter() - own_ready}
    samples = alternate({"rlx": own, "reference": other}, 10 if quick else 20)
    faster = ratio(samples["reference"], samples["rlx"])
    speeds = {who: summary(samples[who]) for who in samples}
    per_cpu_s = {who: 1 / speeds[who]["cpu_s"]["median"] for who in speeds}
    figures = {
        "setting": vars(setting),
        "reference_commit": reference.commit,
        "updates_per_block": updates,
        **speeds,
        "updates_per_cpu_s": per_cpu_s,
        "reference_over_rlx": faster,
        "ready_s": ready_s,
    }
    return Part(
        figures,
        [
            Line(
                "FQL 512x4 B=256: speed over the reference, CPU",
                faster["cpu_s"]["median"],
                ">= 1.05",
            ),
            Line("  least of the rounds", faster["cpu_s"]["min"]),
            Line("  greatest", faster["cpu_s"]["max"]),
            *(Line(f"updates per CPU second, {who}", per_cpu_s[who]) for who in per_cpu_s),
            *(Line(f"seconds to the first result, {who}", ready_s[who]) for who in ready_s),
        ],
    )
