"""The same losses, networks, noise and batch for the public reference's agents and ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import offline_ours as ours
from rlx.types import Transition

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
SETTING = ours.Setting()


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


@contextmanager
def noise(seed: int) -> Iterator[None]:
    """Let the i-th draw of `jax.random` inside be a function of seed and i, whatever its key."""
    rng = np.random.default_rng(seed)

    def drawn(make: Any) -> Any:
        return lambda key, shape=(), *_, **__: jnp.asarray(make(shape), jnp.float32)

    with (
        mock.patch("jax.random.normal", drawn(rng.standard_normal)),
        mock.patch("jax.random.uniform", drawn(rng.random)),
        jax.disable_jit(),
    ):
        yield


def batches() -> tuple[dict[str, np.ndarray], Transition]:
    """Return one batch as both sides take it."""
    rng, (B, O, A) = np.random.default_rng(1), (SETTING.batch_size, SETTING.obs, SETTING.action)
    row = lambda *shape: rng.standard_normal((B, *shape)).astype(np.float32)  # noqa: E731
    batch = dict(
        observations=row(O),
        actions=np.tanh(row(A)),
        next_observations=row(O),
        next_actions=np.tanh(row(A)),
        rewards=row(),
        masks=(rng.random(B) > 0.1).astype(np.float32),
    )
    one, discount = jnp.ones(B), jnp.float32(0.99)
    extras = dict(discount=discount * batch["masks"], valid=one, action_valid=one[:, None])
    extras |= dict(next_action=jnp.asarray(batch["next_actions"]), next_action_valid=one)
    names = ("observations", "actions", "rewards", "next_observations")
    obs, action, reward, next_obs = (jnp.asarray(batch[name]) for name in names)
    ended, cut = batch["masks"] == 0, one == 0
    return batch, Transition(obs, action, reward, next_obs, ended, cut, extras)
