"""Memory of learning from images: every frame is held once on device, stacks and successors are
drawn from it.
"""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks.measure import Line, Part
from rlx import agents
from rlx.data import trajectories
from rlx.data.rows import Rows, Windows
from rlx.infra import runtime
from rlx.train.offline_spec import learner_spec, one_spec

FRAME, ACTION, STACK = (64, 64, 3), 5, 3
TRAJECTORY = 200  # transitions


def frames(count: int) -> Rows:
    """Return trajectories of `count` random frames, compact: no second copy of any."""
    rng = np.random.default_rng(0)
    last = np.arange(1, count + 1) % (TRAJECTORY + 1) == 0
    last[-1] = True
    return trajectories.from_arrays(
        dict(
            observations=rng.integers(0, 256, (count, *FRAME), np.uint8),
            actions=rng.uniform(-0.9, 0.9, (count, ACTION)).astype(np.float32),
            rewards=-rng.integers(0, 2, count).astype(np.float32),
            masks=(rng.random(count) > 0.01).astype(np.float32),
            valids=1.0 - last,
        )
    )


def resident() -> int:
    """Bytes of this process in memory, or of the device where that is another's."""
    if not runtime.on_cpu():
        return runtime.used_bytes() or 0
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def memory(count: int, updates: int = 5) -> dict[str, Any]:
    """Train FQL on stacked frames of `count` images; return bytes held beyond those before.

    growth: resident after training, all compiled before;  peak: the most of it, sampled;  live: of
    all arrays on device but the learner;  temporary: what the program itself takes.
    """
    how, one = Windows(frame_stack=STACK), frames(2)
    learner = ours.config(ours.Setting(batch_size=8, hidden=(32, 32)))
    learner.encoder = "impala_debug"
    programs = ours.build(learner, one, how=how)
    place = NamedSharding(programs.mesh, PartitionSpec())
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype, sharding=place), one
    )
    transitions = count - -(-count // (TRAJECTORY + 1))
    shapes = shapes.replace(index=jax.ShapeDtypeStruct((transitions,), np.int32, sharding=place))
    numbers = agents.make(learner, learner_spec(one_spec(one), how)).hp
    hp = {k: np.full(1, v, np.float32) for k, v in numbers.items()}
    state = programs.init(np.zeros(1, np.int32), hp)
    learn = programs.learn.lower(state, shapes, np.int32(1)).compile()
    gc.collect()
    before, own, peak, over = resident(), live(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, resident())
            time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    data = jax.block_until_ready(jax.device_put(frames(count), place))
    state, report = jax.block_until_ready(learn(state, data, np.int32(updates)))
    over.set()
    watching.join()
    gc.collect()
    return {
        "frames": count,
        "frame_bytes": data.obs.nbytes,
        "growth": resident() - before,
        "peak": peak - before,
        "live": live() - own,
        "temporary": learn.memory_analysis().temp_size_in_bytes,
        "finite": bool(np.asarray(report.alive).all()),
    }


def live() -> int:
    """Bytes of all arrays on device."""
    return sum(x.nbytes for x in jax.live_arrays() if x.dtype != jax.dtypes.prng_key)


def pixels(quick: bool) -> Part:
    """Measure 20 000 frames (quick: 4000); bytes are shares of the frames' own."""
    found = memory(4000 if quick else 20_000)
    parts = ("growth", "peak", "live", "temporary")
    shares = {name: found[name] / found["frame_bytes"] for name in parts}
    targets = {"growth": "<= 1.5", "live": "<= 1.05"}
    label = f"{found['frames']} frames of 64x64x3, stacks of {STACK}"
    lines = [
        Line(f"{label}: {k} / frames' bytes", v, targets.get(k, "")) for k, v in shares.items()
    ]
    return Part({**found, "shares": shares}, lines)
