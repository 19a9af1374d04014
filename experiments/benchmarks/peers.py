"""brax's SAC trainer as a program that can be timed: its own compiled `training_epoch`.

brax 0.14.2 keeps that program inside `train()`. `capture_epoch` starts `train()` with our settings
and stops it at the first call of the epoch, after brax's own initialisation and prefill; what is
timed is brax's code, compiled as brax compiles it (pmap over one device, state donated).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks.measure import Block
from experiments.benchmarks.ours import Setting


class Epoch(NamedTuple):
    """brax's compiled epoch, its arguments at the first call, and what one call does."""

    program: Callable[..., Any]  # training state, env state, buffer state (all donated), keys
    args: tuple[Any, ...]
    vector_steps: int  # per call; each is followed by `setting.updates` gradient steps


class _ReachedError(Exception):
    """Carries the epoch out of `train()`."""

    def __init__(self, program: Callable[..., Any], args: tuple[Any, ...]):
        super().__init__("brax's first epoch")
        self.program, self.args_ = program, args


@contextmanager
def patched():
    """Give jax the function that brax 0.14.2 still calls; stop at brax's first `training_epoch`."""
    pmap = jax.pmap
    missing = not hasattr(jax, "device_put_replicated")

    def pmap_or_stop(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        program = pmap(function, *args, **kwargs)
        if function.__name__ != "training_epoch":
            return program

        def stop(*args: Any) -> None:
            raise _ReachedError(program, args)

        return stop

    def put_replicated(tree: Any, devices: list[Any]) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)

    jax.pmap = pmap_or_stop
    if missing:
        jax.device_put_replicated = put_replicated
    try:
        yield
    finally:
        jax.pmap = pmap
        if missing:
            del jax.device_put_replicated


def capture_epoch(setting: Setting, vector_steps: int) -> Epoch:
    """Start brax's SAC on `setting` ("brax/..." tasks only); return its epoch, not yet compiled."""
    from brax import envs
    from brax.training.agents.sac import networks, train

    task = setting.env.removeprefix("brax/")
    prefill = setting.prefill * setting.num_envs
    try:
        with patched():
            train.train(
                envs.get_environment(task, backend="spring"),
                num_timesteps=prefill + vector_steps * setting.num_envs,
                episode_length=1000,
                num_envs=setting.num_envs,
                num_eval_envs=1,
                learning_rate=3e-4,
                discounting=0.99,
                batch_size=setting.batch_size,
                min_replay_size=prefill,
                max_replay_size=setting.capacity,
                grad_updates_per_step=setting.updates,
                max_devices_per_host=1,
                # brax's own factory does not fit the protocol that brax declares for it
                network_factory=functools.partial(  # pyright: ignore[reportArgumentType]
                    networks.make_sac_networks,
                    hidden_layer_sizes=setting.hidden,
                ),
            )
    except _ReachedError as reached:
        return Epoch(reached.program, reached.args_, vector_steps)
    raise RuntimeError("brax's train() ended without an epoch")


def epoch_block(epoch: Epoch, setting: Setting) -> Block:
    """Return a block of gradient steps: one call of brax's epoch."""
    *state, keys = epoch.args
    if setting.full:  # likewise, the position is all that says so
        position = state[2].insert_position
        state[2] = state[2].replace(insert_position=jnp.full_like(position, setting.capacity))

    def block() -> int:
        nonlocal state
        *state, _ = jax.block_until_ready(epoch.program(*state, keys))
        return epoch.vector_steps * setting.updates

    return block


def make_queue(capacity: int, width: int) -> tuple[Any, Callable[[Any, jax.Array], Any]]:
    """Return brax's queue of `[capacity, width]` floats and its insert (state, rows) -> state."""
    from brax.training import replay_buffers

    queue = replay_buffers.UniformSamplingQueue(capacity, jnp.zeros(width), sample_batch_size=256)
    return queue.init(jax.random.PRNGKey(0)), queue.insert_internal
