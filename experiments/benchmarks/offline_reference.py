"""FQL's public reference (repository seohongpark/fql): its modules and its agents of a setting.

Its code is not part of rlx: export its files to a folder and give that with `--reference`. It needs
`pip install distrax` (with a TensorFlow Probability that knows this jax: tfp-nightly).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments.benchmarks import offline_ours as ours

COMMIT = "719d04417cb0b206deddbc7d761b3e710c3d750c"
FQL_SHA256 = "234c313d3acb3ba3d5d2cf1a08feb8a9cda23d47577687ff1daa9b29d425ed1f"  # agents/fql.py


def load(folder: Path) -> SimpleNamespace:
    """Import the reference's modules; `commit` says which one, where it is the one we know."""
    source = (folder / "agents" / "fql.py").read_bytes()
    known = hashlib.sha256(source).hexdigest() == FQL_SHA256
    sys.path.insert(0, str(folder))
    try:
        # modules of the reference's folder, which is on the path only here
        import agents as reference_agents  # pyright: ignore[reportMissingImports]
        from agents import fql, ifql, iql, rebrac  # pyright: ignore[reportMissingImports]
        from utils import datasets  # pyright: ignore[reportMissingImports]
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
