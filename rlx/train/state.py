"""The state of a pack of online runs, and how a function of one run is mapped over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import NamedSharding

from rlx.infra.sharding import without
from rlx.types import EnvState, Keys, Learner, PyTree, Spec, TimeStep, Transition, VecState

MUST_BE_FINITE = ("loss", "grad_norm")  # endings of the metrics that stop a run when they are not


class TrainMetrics(struct.PyTreeNode):
    """Sums since the last log event; per logical shard where environments are concerned."""

    learner: dict[str, jax.Array]  # each [R], over gradient steps
    return_: jax.Array  # [R, shards], over the episodes that ended
    length: jax.Array  # [R, shards], agent steps of those
    episodes: jax.Array  # [R, shards]
    nan: jax.Array  # [R, shards], environments that diverged


class Report(struct.PyTreeNode):
    """What a chunk tells the host."""

    metrics: PyTree  # sums since the last log event: TrainMetrics, or those of sequences
    alive: jax.Array  # [R] bool
    probe: dict[str, jax.Array]  # each [R], of the state at the chunk's end; see `train/probe.py`


class TrainState(struct.PyTreeNode):
    """Everything a run is, on device."""

    learner: PyTree  # [R, ...]; its grad_steps carries no run axis
    env: VecState  # [R, N, ...]; pool [R, P, ...]
    buffer: PyTree  # [R, T, N, ...]
    eval_start: EnvState  # [R, E, ...] initial states of every evaluation
    metrics: TrainMetrics
    alive: jax.Array  # [R] bool, False from the iteration on in which a loss stopped being finite
    seed: jax.Array  # [R] int32
    step: jax.Array  # int32[], vector steps
    ring_start: jax.Array  # int32[], the vector step at which the ring was last empty
    grad_steps: jax.Array  # int32[]

    COUNTERS: ClassVar[tuple[str, ...]] = (
        "step",
        "ring_start",
        "grad_steps",
    )  # leaves without a run axis
    OPTIONAL: ClassVar = ("buffer",)  # parts that checkpoints may lack


class AnyState(Protocol):
    """What the states of all kinds of packs have: `TrainState`, `OfflineState`, `SequenceState`."""

    learner: PyTree
    seed: jax.Array
    COUNTERS: ClassVar[tuple[str, ...]]

    def replace(self, **changes: Any) -> Self: ...


S = TypeVar("S", bound=AnyState)


def strip(learner_state: PyTree) -> PyTree:
    """Drop the counter of a learner state, its only leaf without a run axis."""
    return learner_state.replace(grad_steps=None)


def over_runs(run: Callable[..., S], state: S, *args: PyTree) -> S:
    """Map `run(state, *args)` over the run axis of all of them; the counters of `state` are shared,
    so they stay un-batched.

    One local run is squeezed instead: a batch axis of one costs 10-40 % per update on a CPU (64x64
    nets).
    """

    def body(stripped: tuple[PyTree, ...], counters: tuple[jax.Array, ...]):
        return split(run(join(stripped[0], counters), *stripped[1:]))

    rest, counters = split(state)
    stripped = (rest, *args)
    if state.seed.shape[0] == 1:
        new, counters = body(jax.tree.map(lambda x: x[0], stripped), counters)
        new = jax.tree.map(lambda x: x[None], new)
    else:
        new, counters = jax.vmap(body, in_axes=(0, None), out_axes=(0, None))(stripped, counters)
    return join(new, counters)


def trim(state: S, num_runs: int) -> S:
    """Return the first `num_runs` runs: what is saved, so that padding never outlives a launch."""
    if state.seed.shape[0] == num_runs:
        return state
    rest, counters = split(state)
    leaves, tree = jax.tree.flatten(rest)
    places = tuple(without(x.sharding, "run") for x in leaves)
    return join(jax.tree.unflatten(tree, first_rows(leaves, num_runs, places)), counters)


@partial(jax.jit, static_argnums=(1, 2))
def first_rows(
    leaves: list[jax.Array], count: int, places: tuple[NamedSharding, ...]
) -> list[jax.Array]:
    """Return the first `count` rows of every leaf, on the sharding in `places`."""
    return [
        jax.lax.with_sharding_constraint(x[:count], place)
        for x, place in zip(leaves, places, strict=True)
    ]


def choose(state: S, rows: Sequence[int], template: S) -> S:
    """Return the runs `rows` of `state`, the last one repeated until there are those of `template`,
    on its shardings.
    """
    rest, counters = split(state)
    missing = template.seed.shape[0] - len(rows)
    index = np.array([*rows, *[rows[-1]] * missing], np.int32)
    # Under jit: outside of it no operation moves an array between the processes.
    places = jax.tree.map(lambda x: x.sharding, split(template)[0])
    gather = jax.jit(lambda rest: jax.tree.map(lambda x: x[index], rest), out_shardings=places)
    chosen = join(gather(rest), counters)
    # The learner's own counter stays an array of its own: both are donated to the next chunk.
    own = state.learner.grad_steps
    return chosen.replace(learner=chosen.learner.replace(grad_steps=own))


def split(state: S) -> tuple[S, tuple[jax.Array, ...]]:
    """Take the counters, which carry no run axis, out of a state."""
    counters = {name: getattr(state, name) for name in state.COUNTERS}
    rest = state.replace(learner=strip(state.learner), **dict.fromkeys(counters))
    return rest, tuple(counters.values())


def join(state: S, counters: tuple[jax.Array, ...]) -> S:
    """Put back what `split` took out."""
    named = dict(zip(state.COUNTERS, counters, strict=True))
    return state.replace(learner=state.learner.replace(grad_steps=named["grad_steps"]), **named)


def finite(state: TrainState) -> jax.Array:
    """Say which runs `[R]` have finite losses, gradients and parameters.

    Parameters count too: the last update shows in no metric yet.
    """
    sums = state.metrics.learner.items()
    watched = jnp.stack([value for name, value in sums if name.endswith(MUST_BE_FINITE)])
    alive = jnp.isfinite(watched).all(axis=0)
    for leaf in jax.tree.leaves(state.learner.params):
        alive &= jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1)
    return alive


def example_transition(obs: PyTree, action_spec: Spec) -> Transition:
    """Return zeros of the shapes and dtypes of one transition."""
    flag, obs = jnp.zeros((), bool), jax.tree.map(jnp.zeros_like, obs)
    return Transition(
        obs, jnp.zeros(action_spec.shape, action_spec.dtype), jnp.zeros(()), obs, flag, flag
    )


def metric_names(learner: Learner, example: Transition, hp: PyTree) -> list[str]:
    """Names that `learner.update` reports, found by abstract evaluation."""
    key = jax.random.key(0)
    keys = Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)
    batch = jax.tree.map(lambda x: x[None], example.replace(extras={"discount": jnp.zeros(())}))
    state = jax.eval_shape(learner.init, key, jax.tree.map(lambda x: jnp.float32(0), hp))
    return sorted(jax.eval_shape(learner.update, state, batch, keys)[1])


def count_episodes(metrics: TrainMetrics, ts: TimeStep, shards: int) -> TrainMetrics:
    """Add the episodes that ended at this step to the sums, per logical shard."""

    def per_shard(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32).reshape(shards, -1).sum(1)

    done = ts.episode.done
    return metrics.replace(
        return_=metrics.return_ + per_shard(jnp.where(done, ts.episode.return_, 0.0)),
        length=metrics.length + per_shard(jnp.where(done, ts.episode.length, 0)),
        episodes=metrics.episodes + per_shard(done),
        nan=metrics.nan + per_shard(ts.nan),
    )
