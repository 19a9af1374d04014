"""Supervised learning of sequences: gradient steps of one run, sharded over the mesh axes `data`
and `fsdp` by `jit` and named shardings.

Batch rows are cut over both axes; parameters, optimizer state and averages over `fsdp` where they
are large (`infra.sharding.fsdp_specs`). One call takes as many gradient steps as it was handed
batches. What a run learns depends on neither axis: random rows belong to logical shards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlx.infra.random import key_for, shard_keys
from rlx.infra.sharding import fsdp_specs, shardings
from rlx.train.state import MUST_BE_FINITE, Report
from rlx.types import Keys, Learner, PyTree

ROWS = ("data", "fsdp")  # mesh axes that cut the rows of a batch


class Sums(struct.PyTreeNode):
    """Sums since the last log event, each [1]."""

    learner: dict[str, jax.Array]  # over gradient steps


class SequenceState(struct.PyTreeNode):
    """Everything a run is, on device; the axis [1] of its facts is that of runs."""

    learner: PyTree
    metrics: Sums
    alive: jax.Array  # bool[1], False from the update on whose loss or gradient was not finite
    seed: jax.Array  # int32[1]
    step: jax.Array  # int32[], gradient steps, as is
    grad_steps: jax.Array

    COUNTERS: ClassVar[tuple[str, ...]] = ("step", "grad_steps")
    OPTIONAL: ClassVar = ()  # parts that checkpoints may lack


class Sequence(NamedTuple):
    """Jitted programs over one mesh; `template` has every leaf's shape and sharding."""

    init: Callable[..., SequenceState]  # seed int32[1], hp {name: f32[]}
    learn: Callable[..., tuple[SequenceState, Report]]  # state (donated), batches, n
    validate: Callable[..., jax.Array]  # learner, batch, seed, step -> loss f32[]
    act: Callable[..., tuple[jax.Array, dict]]  # learner, obs, seed, step -> actions, extras
    template: SequenceState
    mesh: Mesh
    shards: int
    traces: dict[str, int]


class Stream(NamedTuple):
    """The batches of one call: batch k holds the rows `order[k]` of `rows`, or `rows[k]`."""

    rows: PyTree  # [N, ...], the same on every device, or [K, B, ...]
    order: jax.Array | None  # int32 [K, B]

    def batch(self, k: jax.Array) -> PyTree:
        """Return batch `k`."""
        if self.order is None:
            return jax.tree.map(lambda x: x[k], self.rows)
        index = self.order[k]
        return jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), self.rows)


def places(mesh: Mesh, resident: bool) -> Stream:
    """Where the parts of a `Stream` lie: `resident` rows are whole on every device."""
    cut: Any = NamedSharding(mesh, P(None, ROWS))  # stands where its array will
    return Stream(NamedSharding(mesh, P()), cut) if resident else Stream(cut, None)


def build(
    learner: Learner, batch: PyTree, *, shards: int, mesh: Mesh, min_bytes: int = 4 << 20
) -> Sequence:
    """Join a learner and a mesh into the programs of a run.

    Args:
      batch: ShapeDtypeStructs of one global batch.
      shards: logical shards of its rows, a multiple of the devices that share them.
      min_bytes: smaller parameters are whole on every device.
    """
    traces = {"init": 0, "learn": 0}
    everywhere = NamedSharding(mesh, P())
    by_rows = NamedSharding(mesh, P(ROWS))

    def keys_for(seed: jax.Array, step: jax.Array, stream: str) -> Keys:
        return shard_keys(key_for(seed[0], step, stream), shards)

    def names(state: PyTree) -> list[str]:
        keys = jax.eval_shape(lambda: keys_for(jnp.zeros(1, jnp.int32), jnp.int32(0), "update"))
        return sorted(jax.eval_shape(learner.update, state, batch, keys)[1])

    def init(seed: jax.Array, hp: dict[str, jax.Array]) -> SequenceState:
        traces["init"] += 1
        state = learner.init(key_for(seed[0], 0, "init"), hp)
        return SequenceState(
            learner=state,
            metrics=Sums({name: jnp.zeros(1) for name in names(state)}),
            alive=jnp.ones(1, bool),
            seed=seed,
            step=jnp.int32(0),
            grad_steps=jnp.int32(0),
        )

    def improve(state: SequenceState, rows: PyTree) -> SequenceState:
        rows = jax.lax.with_sharding_constraint(rows, by_rows)
        keys = keys_for(state.seed, state.grad_steps, "update")
        new, metrics = learner.update(state.learner, rows, keys)
        watched = [value for name, value in metrics.items() if name.endswith(MUST_BE_FINITE)]
        return state.replace(
            learner=new,
            metrics=Sums({k: x + metrics[k] for k, x in state.metrics.learner.items()}),
            alive=state.alive & jnp.isfinite(jnp.stack(watched)).all(),
            step=state.step + 1,
            grad_steps=state.grad_steps + 1,
        )

    def learn(state: SequenceState, stream: Stream, n: jax.Array) -> tuple[SequenceState, Report]:
        traces["learn"] += 1
        state = jax.lax.fori_loop(0, n, lambda k, s: improve(s, stream.batch(k)), state)
        return state, Report(state.metrics, state.alive, {})

    def validate(learned: PyTree, rows: PyTree, seed: jax.Array, step: jax.Array) -> jax.Array:
        return learner.td_loss(learned, rows, keys_for(seed, step, "eval"))

    def act(learned: PyTree, obs: PyTree, seed: jax.Array, step: jax.Array):
        return learner.act(learned, obs, keys_for(seed, step, "eval"), False)

    hp = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in learner.hp}
    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((1,), jnp.int32), hp)
    placed = shardings(mesh, fsdp_specs(shapes, mesh, min_bytes))
    template = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, placed
    )
    return Sequence(
        init=jax.jit(init, out_shardings=placed),
        learn=jax.jit(learn, out_shardings=(placed, everywhere), donate_argnums=0),
        validate=jax.jit(validate, out_shardings=everywhere),
        act=jax.jit(act, out_shardings=everywhere),
        template=template,
        mesh=mesh,
        shards=shards,
        traces=traces,
    )
