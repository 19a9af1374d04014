"""How the public reference's losses, networks and parameters correspond to ours."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

LOSSES = {  # of each agent: our metric -> the reference's
    "fql": {
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/bc_flow_loss",
        "distill_loss": "actor/distill_loss",
        "q_loss": "actor/q_loss",
    },
    "iql": {
        "value_loss": "value/value_loss",
        "critic_loss": "critic/critic_loss",
        "policy_loss": "actor/actor_loss",
    },
    "ifql": {
        "value_loss": "value/value_loss",
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/actor_loss",
    },
    "rebrac": {"critic_loss": "critic/critic_loss", "policy_loss": "actor/total_loss"},
}
NETWORKS = {  # our name -> the reference's
    "fql": {"critic": "critic", "flow": "actor_bc_flow", "policy": "actor_onestep_flow"},
    "iql": {"critic": "critic", "value": "value", "policy": "actor"},
    "ifql": {"critic": "critic", "value": "value", "flow": "actor_flow"},
    "rebrac": {"critic": "critic", "policy": "actor"},
}


def order(path: tuple[Any, ...]) -> tuple[bool, int, str]:
    """Place of a parameter: dense layers first, in order, then the norms."""
    *names, leaf = [key.key for key in path]
    number = re.search(r"_(\d+)$", names[-1]) if names else None
    layer = int(number[1]) if number else 99 if names[-1:] == ["mean_net"] else -1
    return "LayerNorm" in "".join(names[-1:]), layer, leaf


def like(values: Any, tree: Any) -> Any:
    """Return `values`, one side's parameters of a network, in the other side's `tree`."""
    flat = [
        sorted(jax.tree.leaves_with_path(x), key=lambda leaf: order(leaf[0]))
        for x in (values, tree)
    ]
    found = {path: value for (path, _), (_, value) in zip(flat[1], flat[0], strict=True)}
    out = jax.tree.map_with_path(lambda path, _: found[path], tree)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, tree)
    return out
