"""FQL's public reference (repository seohongpark/fql) as a program that can be timed.

Its code is not part of rlx: export its files to a folder and give that with `--reference`. It needs
`pip install distrax` (with a TensorFlow Probability that knows this jax: tfp-nightly).
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks.measure import Block, Line, Part, alternate, ratio, summary

COMMIT = "719d04417cb0b206deddbc7d761b3e710c3d750c"
FQL_SHA256 = "234c313d3acb3ba3d5d2cf1a08feb8a9cda23d47577687ff1daa9b29d425ed1f"  # agents/fql.py
BUFFER = 2_000_000  # rows that the reference's main.py reserves


def load(folder: Path) -> SimpleNamespace:
    """Import the reference's modules; `commit` says which one, where it is the one we know."""
    source = (folder / "agents" / "fql.py").read_bytes()
    known = hashlib.sha256(source).hexdigest() == FQL_SHA256
    sys.path.insert(0, str(folder))
    try:
        import agents as reference_agents
        from agents import fql, ifql, iql, rebrac
        from utils import datasets
    finally:
        sys.path.remove(str(folder))
    return SimpleNamespace(
        agents=reference_agents.agents,
        configs={"fql": fql, "ifql": ifql, "iql": iql, "rebrac": rebrac},
        datasets=datasets,
        commit=COMMIT if known else "another",
    )


def agent(reference: SimpleNamespace, setting: ours.Setting, name: str = "fql", **changes: Any):
    """Return the reference's agent of a setting."""
    config = reference.configs[name].get_config()
    config.update(
        actor_hidden_dims=setting.hidden,
        value_hidden_dims=setting.hidden,
        batch_size=setting.batch_size,
    )
    config.update(changes)
    obs, action = np.zeros((1, setting.obs)), np.zeros((1, setting.action))
    return reference.agents[name].create(0, obs.astype("f4"), action.astype("f4"), config)


def reference_block(reference: SimpleNamespace, setting: ours.Setting, updates: int) -> Block:
    """Return a block of the reference's own loop: sample on the host, one call per update."""
    data = reference.datasets.Dataset.create(**ours.arrays(setting))
    data = reference.datasets.ReplayBuffer.create_from_initial_dataset(
        dict(data), size=max(BUFFER, data.size + 1)
    )
    learner = agent(reference, setting)

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
    reference = load(folder)
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
