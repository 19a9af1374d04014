"""Where a run begins: its own checkpoint, another's state, another's parameters, or scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx.infra.checkpoint import Checkpoints, policy_of, read_params
from rlx.infra.errors import ConfigError
from rlx.infra.sharding import put, without
from rlx.infra.trees import paths, shapes_of
from rlx.train.driver import Progress
from rlx.train.offline_plan import OfflinePlan
from rlx.train.schedule import Schedule
from rlx.train.state import choose, join, split
from rlx.types import PyTree


class Survivors(NamedTuple):
    """The runs of a finished pack that go on in a smaller one."""

    workdir: Path
    num_runs: int  # of that pack
    rows: tuple[int, ...]  # which of them


def begin(
    config: ConfigDict,
    own: Checkpoints,
    compiled: Any,
    plan: Schedule | OfflinePlan,
    num_runs: int,
    seeds: np.ndarray,
    hp: dict[str, np.ndarray],
    survivors: Survivors | None = None,
) -> tuple[PyTree, Progress, bool]:
    """Return (state, progress, resumed), in the order of the lines below.

    Args: compiled: an object of `template` and `init`; seeds i32[R] and hp {name: f32[R]} of the
      padded runs, of which `num_runs` are real.
    """
    found = read(own, compiled.template, num_runs, plan)
    if found is not None:  # 1: a checkpoint in the workdir
        own.set_aside(int(found[0].step))
        return *found, True
    if survivors is not None:  # the best runs of an earlier rung, as they were
        other = survivors.workdir, compiled, plan, survivors.num_runs, survivors.rows
        state, progress = read_other(*other)
        progress.dead.clear()  # the names of that pack's runs; `state.alive` tells of these
        return state, progress, False
    if config.resume_from:  # 2: another run's state, with these seeds and settings
        state, progress = read_other(config.resume_from, compiled, plan, num_runs)
        seed, settings = jax.tree.map(
            lambda value, old: put(value, old.sharding), (seeds, hp), (state.seed, state.learner.hp)
        )
        return state.replace(seed=seed, learner=state.learner.replace(hp=settings)), progress, False
    state = compiled.init(seeds, hp)
    if config.init_from:  # 3: parameters only
        state = state.replace(learner=with_params(config.init_from, state.learner))
    return state, Progress(), False  # 4: from scratch


def read_other(
    workdir: str | Path,
    compiled: Any,
    plan: Schedule | OfflinePlan,
    num_runs: int,
    rows: Sequence[int] | None = None,
) -> tuple[PyTree, Progress]:
    """Return the newest checkpoint of another workdir with `num_runs` runs, or `rows` of them."""
    other = Checkpoints(workdir, create=False)
    found = read(other, compiled.template, num_runs, plan, rows)
    other.close()
    if found is None:
        raise ConfigError(f"'{workdir}' holds no checkpoint to go on from")
    return found


def read(
    checkpoints: Checkpoints,
    template: PyTree,
    num_runs: int,
    plan: Schedule | OfflinePlan,
    rows: Sequence[int] | None = None,
) -> tuple[PyTree, Progress] | None:
    """Return the newest checkpoint, `rows` of its `num_runs` runs (default all); where its ring was
    left out, an empty one to refill first.
    """
    saved = unpadded(template, num_runs)
    found = checkpoints.restore(*without_parts(saved))
    if found is None:
        return None
    state, progress = found[0], Progress(**found[1])
    step = int(state.step)
    missing = [name for name in saved.OPTIONAL if getattr(state, name) is None]
    missing = [name for name in missing if getattr(saved, name) is not None]
    if "playing" in missing:  # learned from data alone so far: nothing was collected yet
        state = state.replace(**{name: zeros(getattr(saved, name)) for name in missing})
    elif missing:
        if progress.idle:  # stopped while refilling: that window ended here
            progress.idle[-1][1] = min(progress.idle[-1][1], step)
        prefill = cast(Schedule, plan).prefill  # only online runs leave out their rings
        progress.idle.append([max(step, prefill), step + prefill])
        state = state.replace(
            buffer=zeros(saved.buffer),
            ring_start=put(np.int32(step), template.step.sharding),
        )
    if saved is not template or rows is not None:
        rows = range(num_runs) if rows is None else rows
        state, progress = choose(state, rows, template), progress.of(rows)
    return state, progress


def without_parts(saved: PyTree) -> list[PyTree]:
    """Return `saved` and what checkpoints of it may lack: the ring, or all of the online phase."""
    parts = dict.fromkeys(saved.OPTIONAL)
    return [saved, saved.replace(**parts)] if parts else [saved]


def with_params(workdir: str, learner: PyTree) -> PyTree:
    """Return the learner state with the policy export of the newest checkpoint of `workdir`."""
    saved = read_params(workdir)
    fresh = policy_of(learner)
    mismatch = shapes_of(saved).items() ^ shapes_of(fresh).items()
    if mismatch:
        lines = "; ".join(f"{path} {shape}" for path, shape in sorted(mismatch)[:8])
        raise ConfigError(f"init_from = '{workdir}' has other parameters than this config: {lines}")
    flat = dict(paths(saved))
    placed = [put(flat[path], leaf.sharding) for path, leaf in paths(fresh)]
    return learner.replace(**jax.tree.unflatten(jax.tree.structure(fresh), placed))


def unpadded(template: PyTree, num_runs: int) -> PyTree:
    """Return the shapes of the first `num_runs` runs, on every device of the run axis."""
    if template.seed.shape[0] == num_runs:
        return template
    rest, counters = split(template)

    def first(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        place = without(x.sharding, "run")
        return jax.ShapeDtypeStruct((num_runs, *x.shape[1:]), x.dtype, sharding=place)

    return join(jax.tree.map(first, rest), counters)


def zeros(template: PyTree) -> PyTree:
    """Return zeros of the template's shapes, made on its shardings."""
    return zeros_program(template)()


def zeros_program(template: PyTree) -> Callable[[], PyTree]:
    """Return a function that makes zeros of the template's shapes where its shardings say."""
    places = jax.tree.map(lambda x: x.sharding, template)
    make = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), template)  # noqa: E731
    return jax.jit(make, out_shardings=places)
