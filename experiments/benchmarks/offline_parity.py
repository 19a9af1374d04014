"""Losses, gradients and targets of the public reference's agents and ours: same parameters, same
batch, same noise.

Both sides draw in the same order, so one queue of arrays stands in for `jax.random` on both.
Found (results/offline_parity.json): losses of FQL, IQL, IFQL and ReBRAC differ by at most 1e-6,
gradients by 6e-7 of their largest, targets by nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks import offline_reference
from experiments.benchmarks.measure import Line, Part
from experiments.benchmarks.offline_same import LOSSES, NETWORKS, SETTING, batches, like, noise
from rlx import agents
from rlx.types import EnvSpec, Keys, Spec

WEIGHTS = {"alpha_actor": 0.1, "alpha_critic": 0.01}  # the reference's own default is 0 for both
CHANGES = {"rebrac": WEIGHTS}


def compare(reference: Any, name: str) -> dict[str, Any]:
    """Return the largest differences after one update of an agent."""
    other = offline_reference.agent(reference, SETTING, name, **CHANGES.get(name, {}))
    rng = np.random.default_rng(2)
    params = jax.tree.map(
        lambda x: x + 0.03 * rng.standard_normal(x.shape).astype(np.float32), other.network.params
    )
    other = other.replace(network=other.network.replace(params=params))
    spec = EnvSpec(Spec((SETTING.obs,)), Spec((SETTING.action,), np.float32, -1.0, 1.0))
    learner = agents.make(ours.config(SETTING, name), spec)
    state = learner.init(jax.random.key(0), {k: jnp.float32(v) for k, v in learner.hp.items()})
    theirs = {ours_: f"modules_{their}" for ours_, their in NETWORKS[name].items()}
    own = {k: like(params[theirs[k]], tree) for k, tree in state.params.items()}
    targets = {k: f"modules_target_{NETWORKS[name][k]}" for k in state.target_params}
    target = {k: like(params[targets[k]], tree) for k, tree in state.target_params.items()}
    state = state.replace(params=own, target_params=target, grad_steps=jnp.int32(1))
    their_batch, batch = batches()
    key = jax.random.key(0)
    with noise(3):
        other, info = other.update(their_batch)
    with noise(3):
        new, metrics = learner.update(
            state, batch, Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)
        )
    gap = lambda a, b: float(jnp.abs(a - b).max())  # noqa: E731
    losses = {k: gap(metrics[k], info[v]) for k, v in LOSSES[name].items()}
    worst = {"gradients over their largest": 0.0, "targets": 0.0}
    for k in own:
        adam = new.opt_state[k] if name == "rebrac" else new.opt_state
        mine = adam[0].mu if name == "rebrac" else adam[0].mu[k]
        moment = like(other.network.opt_state[0].mu[theirs[k]], mine)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(moment), strict=True):
            share = gap(a, b) / max(float(jnp.abs(b).max()), 1e-12)
            worst["gradients over their largest"] = max(
                worst["gradients over their largest"], share
            )
    for k, tree in new.target_params.items():
        moved = like(other.network.params[targets[k]], tree)
        gaps = jax.tree.leaves(jax.tree.map(gap, tree, moved))
        worst["targets"] = max(worst["targets"], *gaps)
    return {**losses, **worst, "loss sizes": {k: float(metrics[k]) for k in losses}}


def parity(quick: bool, folder: Path) -> Part:
    """Compare one update of every agent that both sides have."""
    del quick
    reference = offline_reference.load(folder)
    figures: dict[str, Any] = {"reference_commit": reference.commit}
    lines = []
    for name in LOSSES:
        figures[name] = found = compare(reference, name)
        sizes = found["loss sizes"]
        worst = max(found[k] / max(1.0, abs(sizes[k])) for k in sizes)
        lines.append(Line(f"{name}: losses, largest difference / max(1, size)", worst, "<= 1e-05"))
        for what in ("gradients over their largest", "targets"):
            lines.append(Line(f"{name}: {what}, largest difference", found[what]))
    return Part(figures, lines)
