"""One sequence run from config to finished workdir: compile, resume, learn, evaluate.

Every experiment that learns sequences calls `Session` and `Session.run`; learner, batches and
evaluation differ.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx.infra import sharding
from rlx.infra.checkpoint import Checkpoints, read_assets
from rlx.infra.errors import ConfigError
from rlx.infra.files import plain
from rlx.infra.logging import Run
from rlx.train import resume, sequence, sequence_measures
from rlx.train.driver import Programs
from rlx.train.offline_plan import OfflinePlan
from rlx.train.pack import drive
from rlx.train.sequence import SequenceState, Stream
from rlx.train.state import Report
from rlx.types import Learner, PyTree

AHEAD = 2  # calls whose batches wait on the devices


class Feed(Protocol):
    """Where batches come from: the batch of gradient step s is a function of s alone."""

    batch: PyTree  # ShapeDtypeStructs of one batch, over all processes
    rows: PyTree | None  # [N, ...] NumPy, where all of the data is handed over once
    per_call: int  # batches handed over at once, at most

    def take(self, step: int, count: int) -> Any:
        """Return the batches of steps `step ... step + count`, padded to `per_call`: the numbers of
        their rows int32 [K, B], or, without `rows`, this process's part of them [K, b, ...].
        """

    def close(self) -> None:
        """End what prepares batches."""


class Eyes:
    """What an evaluation sees of a run: its policy and its loss; the same draws every time."""

    def __init__(self, programs: sequence.Sequence, state: SequenceState):
        """Look at `state`, which stays as it is."""
        self.programs, self.state = programs, state
        self.step = int(state.step)

    def loss(self, batch: PyTree) -> float:
        """The learner's loss on a held-out batch; shards divide its rows."""
        seed = self.state.seed
        return float(self.programs.validate(self.state.learner, batch, seed, jnp.int32(0)))

    def act(self, obs: PyTree, draw: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Actions for `obs [N, ...]`; shards divide N; `draw` tells calls apart."""
        args = self.state.learner, obs, self.state.seed, jnp.int32(draw)
        return jax.device_get(self.programs.act(*args))


Look = Callable[[Eyes], dict[str, float]]


class Session:
    """Compiled programs for runs of one shape; `run` trains one in one workdir."""

    def __init__(
        self,
        config: ConfigDict,
        learner: Learner,
        feed: Feed,
        look: Look,
        assets: dict[str, Any],
        pretrained: Callable[[PyTree], PyTree] | None = None,
    ):
        """Lay out the mesh and compile.

        Args:
          look: what every evaluation measures, by name.
          assets: JSON that goes into every checkpoint: what a policy needs beside its parameters.
          pretrained: a fresh learner state -> the one to begin with.
        """
        start = time.perf_counter()
        self.learner, self.feed, self.look, self.assets = learner, feed, look, assets
        self.pretrained = pretrained
        mesh = sharding.make_mesh(1, config.mesh.data, config.mesh.fsdp)
        self.programs = sequence.build(
            learner,
            feed.batch,
            shards=config.mesh.shards,
            mesh=mesh,
            min_bytes=config.mesh.min_bytes,
        )
        self.places = sequence.places(mesh, feed.rows is not None)
        self.rows = None
        if feed.rows is not None:
            self.rows = jax.tree.map(lambda x: sharding.put(x, self.places.rows), feed.rows)
        count = jax.ShapeDtypeStruct((), jnp.int32)
        seed = jax.ShapeDtypeStruct((1,), jnp.int32)
        hp = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in learner.hp}
        first = self.stream(0, 1)
        template = self.programs.template
        self.compiled = SimpleNamespace(
            template=template,
            init=self.programs.init.lower(seed, hp).compile(),
            learn=self.programs.learn.lower(template, first, count).compile(),
        )
        self.fresh = resume.zeros_program(template.metrics)
        self.compile_s = time.perf_counter() - start

    def stream(self, step: int, count: int) -> Stream:
        """Hand the batches of `count` steps from `step` on to the devices."""
        taken = self.feed.take(step, count)
        if self.rows is not None:
            return Stream(self.rows, sharding.put(taken, cast(Any, self.places.order)))
        place = self.places.rows
        put = lambda x: jax.make_array_from_process_local_data(place, x)  # noqa: E731
        return Stream(jax.tree.map(put, taken), None)

    def chunk(self, state: SequenceState, n: np.int32) -> tuple[SequenceState, Report]:
        """Take n gradient steps, as many calls as the batches handed over at once make them.

        Calls do not wait for each other: batches go to the devices while earlier ones are learned
        from, but only `AHEAD` calls ahead, or a fast loader would fill the memory.
        """
        left, reports = int(n), []
        while left:
            count = min(left, self.feed.per_call)
            if len(reports) > AHEAD:
                jax.block_until_ready(reports.pop(0).alive)
            stream = self.stream(self.step, count)
            state, report = self.compiled.learn(state, stream, np.int32(count))
            reports.append(report)
            self.step, left = self.step + count, left - count
        return state, report

    def begin(self, config: ConfigDict, own: Checkpoints, plan: OfflinePlan, *init: Any) -> tuple:
        """Where a run begins; pretrained weights count where it begins from scratch."""
        state, progress, resumed = resume.begin(config, own, self.compiled, plan, 1, *init)
        if resumed or config.resume_from:
            same_assets(own.folder.parent if resumed else config.resume_from, self.assets)
        elif config.init_from:
            near_assets(config.init_from, self.assets)
        self.step = int(state.step)  # counted on the host from here on: the device is not asked
        fresh = not (resumed or config.resume_from or config.init_from)
        if fresh and self.pretrained is not None:
            learner = self.pretrained(state.learner)
            place = self.programs.template.learner
            learner = jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), learner, place)
            state = state.replace(learner=learner)
        return state, progress, resumed

    def run(
        self,
        config: ConfigDict,
        plan: OfflinePlan,
        runs: Sequence[Run],
        workdir: str | Path,
        stop: list[str],
    ) -> dict[str, Any]:
        """Train to the end of `plan` or until `stop` is filled; return the facts.

        Keys: status, grad_steps, wall_s, compile_s, updates_per_s, evals, dead.
        """
        seed = np.array([runs[0].seed], np.int32)
        hp = {name: np.float32(value) for name, value in self.learner.hp.items()}
        status, state, progress, _ = drive(
            config,
            plan,
            runs,
            workdir,
            stop,
            lambda own: self.begin(config, own, plan, seed, hp),
            Programs(
                lambda state, n, online: self.chunk(state, n),
                lambda state: (self.look(Eyes(self.programs, state)),),
                lambda state: state.replace(metrics=self.fresh()),
            ),
            measures=sequence_measures,
            assets=self.assets,
        )
        grad_steps = int(state.grad_steps)
        return {
            "status": status,
            "grad_steps": grad_steps,
            "wall_s": progress.wall_s,
            "compile_s": self.compile_s,
            "updates_per_s": grad_steps / max(progress.wall_s, 1e-9),
            "evals": progress.evals,
            "dead": progress.dead,
        }

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.close()


def differing(workdir: str | Path, assets: dict[str, Any]) -> list[str]:
    """Names of the assets that the newest checkpoint of `workdir` has otherwise."""
    there, here = read_assets(workdir), plain(assets)
    return sorted(name for name in {*there, *here} if there.get(name) != here.get(name))


def same_assets(workdir: str | Path, assets: dict[str, Any]) -> None:
    """Raise ConfigError where a run would go on with other tokens or other statistics."""
    if names := differing(workdir, assets):
        raise ConfigError(
            f"{workdir} was trained with other {', '.join(names)} than this run has: "
            "the data is not what it was"
        )


def near_assets(workdir: str | Path, assets: dict[str, Any]) -> None:
    """Warn where parameters meet other tokens or statistics; refuse another normalisation."""
    names = [name for name in differing(workdir, assets) if name != "learner"]
    if "norm_mode" in names:
        raise ConfigError(
            f"init_from = '{workdir}' was trained on actions normalised by "
            f"{read_assets(workdir)['norm_mode']}, this run has {assets['norm_mode']}"
        )
    if names:
        print(
            f"warning: init_from = '{workdir}' was trained with other {', '.join(names)}: "
            "tokens and numbers mean something else here",
            file=sys.stderr,
        )
