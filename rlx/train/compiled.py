"""Compiling the programs of a pack ahead of time, side by side, with every shape and sharding
known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from rlx.infra import sharding
from rlx.train import online
from rlx.types import PyTree


class Compiled(NamedTuple):
    """Executables, the TrainState's shapes with shardings, and what they cost."""

    init: Callable
    chunk: Callable
    evaluate: Callable
    template: online.TrainState
    seconds: dict[str, float]  # per program, tracing included
    temp_bytes: int  # of the chunk, beyond its arguments


def compile_programs(programs: online.Online, num_runs: int, hp: Iterable[str]) -> Compiled:
    """Compile init, chunk and evaluate side by side: XLA compiles outside Python's lock."""
    seeds = jax.ShapeDtypeStruct((num_runs,), jnp.int32)
    settings = {name: jax.ShapeDtypeStruct((num_runs,), jnp.float32) for name in hp}
    shapes = jax.eval_shape(programs.init, seeds, settings)
    template = with_shardings(shapes, programs)
    count, flag = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.bool_)
    jobs = {
        "chunk": (programs.chunk, (template, count, count, count, flag)),
        "init": (programs.init, (seeds, settings)),
        "evaluate": (programs.evaluate, (template,)),
    }
    seconds: dict[str, float] = {}

    def compile_one(name: str):
        start = time.perf_counter()
        program, shapes = jobs[name]
        compiled = program.lower(*shapes).compile()
        seconds[name] = time.perf_counter() - start
        return compiled

    with ThreadPoolExecutor(len(jobs)) as pool:
        done = dict(zip(jobs, pool.map(compile_one, jobs), strict=True))
    memory = done["chunk"].memory_analysis()
    temp = int(memory.temp_size_in_bytes) if memory else 0
    return Compiled(done["init"], done["chunk"], done["evaluate"], template, seconds, temp)


def with_shardings(shapes: PyTree, programs: Any) -> PyTree:
    """Attach to every leaf the sharding that `programs.specs` gives its part of the state."""
    places = sharding.shardings(programs.mesh, programs.specs)
    return jax.tree.map(
        lambda place, part: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), part
        ),
        places,
        shapes,
        is_leaf=lambda x: isinstance(x, NamedSharding),
    )
