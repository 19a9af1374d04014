"""The house's learners on a bandit: all settings and seeds of one of them are one program.

Runs of one seed differ in alpha alone and see the same draws. Every run is what it would be alone.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments import bandits_data
from experiments.bandits_parts import Bandit, Method, config
from rlx import agents
from rlx.infra.progress import Progress
from rlx.infra.random import key_for, shard_keys
from rlx.types import PyTree

REPORTS = 10  # lines of progress per learner


def axes(state: PyTree, setting: str | None) -> PyTree:
    """Return which leaves of a learner's state have an axis of their own, 0, and which have none.

    setting: the one that runs differ in; None = they differ in the seed.
    """

    def axis(path: tuple, _: PyTree) -> int | None:
        names = {str(getattr(key, "key", getattr(key, "name", ""))) for key in path}
        if "hp" in names:
            return 0 if setting in names else None
        return None if names & {"grad_steps", "count"} else 0

    return jax.tree_util.tree_map_with_path(axis, state)


def train(
    method: Method, bandit: Bandit, seeds: tuple[int, ...], samples: int, **more: int
) -> np.ndarray:
    """Train; return `samples` actions of every run, seen from their states [S, P, samples, 2]."""
    made, values = config(method, bandit, **more), method.values(bandit)
    learner = agents.make(made, bandit.spec)
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    shapes = jax.eval_shape(learner.init, jax.random.key(0), hp)
    by_alpha, by_seed = axes(shapes, method.setting), axes(shapes, None)
    if method.setting:
        hp[method.setting] = jnp.asarray(values)

    def over_runs(one, *mapped: tuple, out: tuple):
        """Map `one` over alpha and around that over seeds; mapped, out: (over alpha, over seeds)"""
        over_alpha = jax.vmap(one, [m[0] for m in mapped], out[0], axis_size=len(values))
        return jax.vmap(over_alpha, [m[1] for m in mapped], out[1])

    def init(seed: jax.Array, hp: dict[str, jax.Array]) -> PyTree:
        return learner.init(key_for(seed, 0, "init"), hp)

    def steps(state: PyTree, seed: jax.Array, first: jax.Array, n: jax.Array) -> PyTree:
        def step(i: jax.Array, state: PyTree) -> PyTree:
            batch = bandits_data.draw(bandit, key_for(seed, i, "sample"), made.batch_size)
            return learner.update(state, batch, shard_keys(key_for(seed, i, "update"), 1))[0]

        return jax.lax.fori_loop(first, first + n, step, state)

    def act(state: PyTree, seed: jax.Array) -> jax.Array:
        angle, obs = bandits_data.states(bandit, key_for(seed, 0, "reset"), samples)
        action = learner.act(state, obs, shard_keys(key_for(seed, 0, "eval"), 1), False)[0]
        return bandits_data.turn(action, -angle)

    states, own, same = (by_alpha, by_seed), (None, 0), (None, None)
    begin = jax.jit(over_runs(init, own, (by_alpha.hp, None), out=states))
    advance = jax.jit(over_runs(steps, states, own, same, same, out=states), donate_argnums=0)
    sample = jax.jit(over_runs(act, states, own, out=(0, 0)))
    numbers = jnp.asarray(seeds)
    state = begin(numbers, hp)
    progress, size = Progress(bandit.updates, counter="updates"), -(-bandit.updates // REPORTS)
    started = time.monotonic()
    for first in range(0, bandit.updates, size):
        state = jax.block_until_ready(
            advance(state, numbers, first, min(size, bandit.updates - first))
        )
        progress.update(min(first + size, bandit.updates), time.monotonic() - started, None)
    progress.close()
    return np.asarray(sample(state, numbers))
