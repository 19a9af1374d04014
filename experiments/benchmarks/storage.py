"""What replay costs: inserts before and after the ring is full, and checkpoints that hold it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import peers
from experiments.benchmarks.measure import Block, Line, Part, alternate, ratio, spread, summary
from rlx.data.buffer import make_buffer
from rlx.infra.checkpoint import Checkpoints
from rlx.types import Transition

CAPACITY, ROWS = 262_144, 128  # transitions of 60 floats; rows of one insert
OBS, ACTION = 28, 3  # 28 + 3 + 1 + 28 = 60 floats
SAVED = 1_000_000  # transitions of 32 floats


def inserts(quick: bool) -> Part:
    """Time inserts in a compiled loop on a donated state, as trainers do, before and after full."""
    blocks = {**ring_blocks(2000), **queue_blocks(2000, 20)}
    samples = alternate(blocks, 3 if quick else 9)
    figures: dict[str, Any] = {label: summary(values) for label, values in samples.items()}
    lines = []
    for who in ("rlx", "brax"):
        over = ratio(samples[f"{who} full"], samples[f"{who} filling"])
        figures[f"{who} full_over_filling"] = over
        target = "<= 1.2" if who == "rlx" else ""
        lines.append(Line(f"insert, full / filling: {who}", over["wall_s"]["median"], target))
    lines += [Line(f"insert us: {label}", 1e6 / figures[label]["per_s"]) for label in samples]
    return Part(figures, lines)


def example(obs: int, action: int) -> Transition:
    """Return one transition of ones."""
    flag = jnp.zeros((), bool)
    return Transition(jnp.ones(obs), jnp.ones(action), jnp.float32(1), jnp.ones(obs), flag, flag)


def ring_blocks(count: int) -> dict[str, Block]:
    """Return blocks of our inserts into a ring that is filling and one that is full."""
    buffer, one = make_buffer(CAPACITY, ROWS), example(OBS, ACTION)
    rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (ROWS, *x.shape)), one)
    slots = CAPACITY // ROWS

    def many(data: Transition, first: jax.Array) -> Transition:
        return jax.lax.fori_loop(0, count, lambda i, data: buffer.add(data, first + i, rows), data)

    insert = jax.jit(many, donate_argnums=0)
    firsts = {"rlx filling": 0, "rlx full": slots}
    return {
        label: block_of(insert, buffer.init(one, ROWS), jnp.int32(first), count)
        for label, first in firsts.items()
    }


def queue_blocks(filling: int, full: int) -> dict[str, Block]:
    """Return blocks of brax's inserts; a full queue rolls all its rows at every insert."""
    state, insert = peers.make_queue(CAPACITY, 2 * OBS + ACTION + 1)
    rows = jnp.ones((ROWS, 2 * OBS + ACTION + 1))

    def program(count: int) -> Callable[..., Any]:
        def many(state: Any, position: jax.Array) -> Any:
            state = state.replace(insert_position=position)
            return jax.lax.fori_loop(0, count, lambda _, state: insert(state, rows), state)

        return jax.jit(many, donate_argnums=0)

    copy = jax.tree.map(jnp.copy, state)
    return {
        "brax filling": block_of(program(filling), state, jnp.int32(0), filling),
        "brax full": block_of(program(full), copy, jnp.int32(CAPACITY), full),
    }


def block_of(program: Callable[..., Any], state: Any, position: jax.Array, count: int) -> Block:
    """Return a block of `count` inserts: `program(state, position)` on its own donated state."""

    def block() -> int:
        nonlocal state
        state = jax.block_until_ready(program(state, position))
        return count

    return block


def checkpoints(quick: bool) -> Part:
    """Time saving and restoring a ring of 1e6 transitions x 32 floats (and two flags)."""
    transitions = SAVED // 10 if quick else SAVED
    buffer = make_buffer(transitions, 8)
    state = {"buffer": buffer.init(example(14, 3), 8), "params": jnp.ones(1000)}
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)
    times: dict[str, list[float]] = {"save_s": [], "restore_s": []}
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            saving = Checkpoints(folder)
            start = time.perf_counter()
            saving.save(1, state, {}, {"params": state["params"]})
            saving.close()
            times["save_s"].append(time.perf_counter() - start)
            restoring = Checkpoints(folder)
            start = time.perf_counter()
            jax.block_until_ready(restoring.restore(template))
            times["restore_s"].append(time.perf_counter() - start)
            restoring.close()
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    figures = {
        "transitions": transitions,
        "bytes": size,
        **{key: spread(x) for key, x in times.items()},
    }
    label = f"checkpoint of {size / 1e6:.0f} MB"
    return Part(figures, [Line(f"{label}: {key}", figures[key]["median"]) for key in times])
