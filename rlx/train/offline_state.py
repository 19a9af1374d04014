"""The state of a pack of runs that learn from data, and perhaps go on in environments."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from rlx.data.growing import Growing, empty
from rlx.data.rows import Array, Rows, Windows, window
from rlx.types import EnvSpec, Keys, Learner, Metrics, PyTree, Transition


class Sums(struct.PyTreeNode):
    """Sums since the last log event, each [R]."""

    learner: dict[str, jax.Array]  # over gradient steps
    return_: jax.Array  # over the episodes that ended, as are these
    length: jax.Array
    success: jax.Array
    episodes: jax.Array


class Playing(struct.PyTreeNode):
    """The running episode of each run [R, ...]: what it takes to play it again from its reset."""

    episode: jax.Array  # int32[R], episodes that ended before it
    length: jax.Array  # int32[R], steps taken in it
    return_: jax.Array  # f32[R]
    actions: jax.Array  # [R, T, A], those steps' actions
    queue: jax.Array  # [R, chunk, A], the chunk of actions being executed
    queued: jax.Array  # int32[R], how many of them are left


class OfflineState(struct.PyTreeNode):
    """Everything a pack of runs is, on device."""

    learner: PyTree  # [R, ...]; its grad_steps carries no run axis
    buffer: Growing | None  # [R, ...] what the runs collect online
    playing: Playing | None
    metrics: Sums
    alive: jax.Array  # bool[R], False from the update on whose loss or gradient was not finite
    seed: jax.Array  # int32[R]
    step: jax.Array  # int32[], see `offline_plan`
    grad_steps: jax.Array  # int32[]

    COUNTERS: ClassVar[tuple[str, ...]] = ("step", "grad_steps")
    OPTIONAL: ClassVar = ("buffer", "playing")  # parts that checkpoints may lack


class Report(struct.PyTreeNode):
    """What a call tells the host."""

    metrics: Sums
    alive: jax.Array
    probe: dict[str, jax.Array]  # each [R]


class Online(NamedTuple):
    """What running in environments needs to know."""

    capacity: int  # rows of each run's ring
    episode_length: int
    balanced: bool = False  # half of each batch from the ring, else both as one set


class HostSteps(struct.PyTreeNode):
    """One step of one environment per run [R, ...], as the host saw it."""

    obs: Array  # one frame, as the ring stores it
    reward: Array
    next_obs: Array
    terminated: Array
    truncated: Array
    success: Array


def fresh(
    learner: PyTree,
    seed: jax.Array,
    names: list[str],
    spec: EnvSpec,
    how: Windows,
    online: Online | None,
) -> OfflineState:
    """Return the state of R runs before their first step.

    Args: learner: states [R, ...]; seed int32[R]; names: of what `update` reports.
    """
    num_runs, A = seed.shape[0], spec.action.shape[0]
    zeros, none = jnp.zeros(num_runs), jnp.zeros(num_runs, jnp.int32)
    buffer = playing = None
    if online:
        one = empty(jax.ShapeDtypeStruct(*spec.obs[:2]), A, online.capacity)
        buffer = jax.tree.map(lambda x: jnp.zeros((num_runs, *x.shape), x.dtype), one)
        actions = jnp.zeros((num_runs, online.episode_length, A))
        queue = jnp.zeros((num_runs, how.chunk, A))
        playing = Playing(none, none, zeros, actions, queue, none)
    return OfflineState(
        learner=learner.replace(grad_steps=jnp.int32(0)),
        buffer=buffer,
        playing=playing,
        metrics=Sums({name: zeros for name in names}, zeros, zeros, zeros, zeros),
        alive=jnp.ones(num_runs, bool),
        seed=seed,
        step=jnp.int32(0),
        grad_steps=jnp.int32(0),
    )


def example(spec: EnvSpec, how: Windows) -> Transition:
    """Return one example of the shapes that `window` makes, batch axis 1."""
    flag, index = jnp.zeros(2, bool), jnp.zeros(2, jnp.int32)
    frames = jnp.zeros((2, *spec.obs.shape), spec.obs.dtype)
    action = jnp.zeros((2, spec.action.shape[0]))
    data = Rows(frames, action, jnp.zeros(2), flag, flag, flag, index, index)
    return window(data, jnp.zeros(1, jnp.int32), jnp.float32(0), how)


def metric_names(learner: Learner, spec: EnvSpec, how: Windows) -> list[str]:
    """Names that `learner.update` reports, found by abstract evaluation."""

    def names() -> Metrics:
        key = jax.random.key(0)
        keys = Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)
        settings = {name: jnp.float32(value) for name, value in learner.hp.items()}
        return learner.update(learner.init(key, settings), example(spec, how), keys)[1]

    return sorted(jax.eval_shape(names))
