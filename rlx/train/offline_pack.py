"""One pack of runs from data: check, compile, resume, learn, play, evaluate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from rlx.data.trajectories import Dataset
from rlx.envs.host import Pool
from rlx.infra import sharding
from rlx.infra.logging import Run
from rlx.train import offline, offline_measures, resume, sweep
from rlx.train.compiled import with_shardings
from rlx.train.driver import Programs
from rlx.train.host_evaluate import evaluate
from rlx.train.host_play import Player
from rlx.train.offline_checks import ring_rows
from rlx.train.offline_plan import OfflinePlan
from rlx.train.offline_spec import check_environment, learner_spec, one_spec, windows
from rlx.train.offline_state import HostSteps, OfflineState, Online, Report
from rlx.train.pack import MakeLearner, drive
from rlx.types import EnvSpec, Keys, PyTree


class Session:
    """Compiled programs, the data on device and the environments of one pack; a context manager."""

    def __init__(
        self,
        config: ConfigDict,
        dataset: Dataset,
        make_learner: MakeLearner,
        plan: OfflinePlan,
        num_runs: int,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray],
        act: Callable[[PyTree, jax.Array, Keys], jax.Array] | None = None,
    ):
        """Place the data, start the environments, compile.

        Args: score: returns, successes [R, E] -> the score of published tables.   act: of
        evaluation in place of the learner's, see `offline.build`.
        """
        start = time.perf_counter()
        self.config, self.dataset, self.plan, self.score = config, dataset, plan, score
        how, own = windows(config), one_spec(dataset.train)
        seen = learner_spec(own, how)
        mesh = config.mesh
        shards = mesh.shards
        self.mesh = sharding.lay_out(mesh.run, mesh.data, mesh.fsdp, num_runs, shards)
        self.padded = -(-num_runs // self.mesh.shape["run"]) * self.mesh.shape["run"]
        self.hp = make_learner(config.learner, seen, None).hp
        self.pool = self.open_pool(self.padded)
        if self.pool is not None:
            check_environment(dataset, self.pool.spec, how)
        online = None
        if plan.online_steps:
            online = Online(
                ring_rows(config),
                cast(Pool, self.pool).episode_length,
                config.train.balanced_sampling,
            )
        self.programs = offline.build(
            lambda axis: make_learner(config.learner, seen, axis),
            own,
            how,
            batch_size=config.learner.batch_size,
            shards=shards,
            mesh=self.mesh,
            crop=config.data.crop,
            online=online,
            act=act,
        )
        everywhere = NamedSharding(self.mesh, P())
        self.data = jax.device_put(dataset.train, everywhere)
        self.val = None if dataset.val is None else jax.device_put(dataset.val, everywhere)
        self.compiled = self.compile(online is not None, seen)
        self.playing = False  # are the lanes where the runs stand?
        self.fresh = resume.zeros_program(self.compiled.template.metrics)
        self.compile_s = time.perf_counter() - start

    def open_pool(self, runs: int) -> Pool | None:
        """Start the environments that evaluation and the online phase step."""
        settings, online = self.config.eval, self.plan.online_steps > 0
        if not settings.episodes and not online:
            return None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        workers = cores or 1 if settings.workers is None else settings.workers
        lanes = settings.lanes or max(8 * max(1, workers), runs)
        lanes = max(min(lanes, runs * max(1, settings.episodes)), runs if online else 1)
        workers = min(workers, lanes)
        stack = self.config.data.frame_stack
        return Pool(self.dataset.env, lanes, workers, frame_stack=stack)

    def compile(self, online: bool, seen: EnvSpec) -> SimpleNamespace:
        """Compile every program ahead of time, side by side; returns them with the state's shapes.

        `template` and `init` are what `resume.begin` wants of compiled programs.
        """
        seeds = jax.ShapeDtypeStruct((self.padded,), jnp.int32)
        hp = {name: jax.ShapeDtypeStruct((self.padded,), jnp.float32) for name in self.hp}
        shapes = jax.eval_shape(self.programs.init, seeds, hp)
        template = with_shardings(shapes, self.programs)
        data = jax.tree.map(shape_of, self.data)
        count = jax.ShapeDtypeStruct((), jnp.int32)
        jobs = {
            "init": (self.programs.init, (seeds, hp)),
            "learn": (self.programs.learn, (template, data, count)),
        }
        if online:
            obs = jax.ShapeDtypeStruct((self.padded, *seen.obs.shape), seen.obs.dtype)
            jobs["explore"] = (self.programs.explore, (template, obs))
            steps = self.steps_shape()
            jobs["record"] = (self.programs.record, (template, data, steps, count))

        def compile_one(name: str) -> Any:
            program, shapes = jobs[name]
            return program.lower(*shapes).compile()

        with ThreadPoolExecutor(len(jobs)) as pool:
            done = dict(zip(jobs, pool.map(compile_one, jobs), strict=True))
        return SimpleNamespace(template=template, **done)

    def steps_shape(self) -> HostSteps:
        """Shapes of what the host hands over after one environment step."""
        frame = one_spec(self.dataset.train).obs

        def some(dtype: Any, *shape: int) -> Any:
            return jax.ShapeDtypeStruct((self.padded, *shape), dtype)

        obs, flag, number = some(frame.dtype, *frame.shape), some(bool), some(jnp.float32)
        return HostSteps(obs, number, obs, flag, flag, number)

    def run(
        self,
        config: ConfigDict,
        plan: OfflinePlan,
        runs: Sequence[Run],
        workdir: str | Path,
        stop: list[str],
    ) -> dict[str, Any]:
        """Train `runs` to the end of `plan` or until `stop` is filled; return the facts.

        Keys: status, offline_steps, online_steps, grad_steps, wall_s, compile_s, updates_per_s
        (summed over the runs), evals, dead.
        """
        compiled = self.compiled
        seeds, hp = sweep.arrays(runs, self.hp, self.padded)
        player: Any = None
        if plan.online_steps:
            programs = self.programs._replace(explore=compiled.explore, record=compiled.record)
            channels = one_spec(self.dataset.train).obs.shape[-1]
            player = Player(programs, self.data, cast(Pool, self.pool), plan, channels, self.reward)

        def begin(own: Any) -> tuple[PyTree, Any, bool]:
            found = resume.begin(config, own, compiled, plan, len(runs), seeds, hp)
            self.playing = False  # the lanes are brought to where the runs stand when they play
            return found

        def chunk(state: OfflineState, n: np.int32, online: bool) -> tuple[OfflineState, Report]:
            if not online:
                return compiled.learn(state, self.data, n)
            if not self.playing:
                player.restore(state)
                self.playing = True
            return player.play(state, int(n))

        def look(state: OfflineState) -> tuple[dict[str, np.ndarray]]:
            found = self.evaluate(state)
            self.playing = False  # evaluation used the lanes
            return (found,)

        status, state, progress, _ = drive(
            config,
            plan,
            runs,
            workdir,
            stop,
            begin,
            Programs(chunk, look, lambda state: state.replace(metrics=self.fresh())),
            measures=offline_measures,
        )
        grad_steps, seconds = int(state.grad_steps), max(progress.wall_s, 1e-9)
        return {
            "status": status,
            "offline_steps": plan.offline_steps,
            "online_steps": plan.online_steps,
            "grad_steps": grad_steps,
            "wall_s": progress.wall_s,
            "compile_s": self.compile_s,
            "updates_per_s": grad_steps * len(runs) / seconds,
            "evals": progress.evals,
            "dead": progress.dead,
        }

    def evaluate(self, state: OfflineState) -> dict[str, np.ndarray]:
        """Play the fixed episodes with every run's policy, and take its validation loss."""
        found, settings = {}, self.config.eval
        if settings.episodes:

            def act(obs: np.ndarray, t: np.ndarray) -> np.ndarray:
                return np.asarray(self.programs.policy(state.learner, state.seed, obs, t))

            chunk = self.config.data.chunk
            pool = cast(Pool, self.pool)
            played = evaluate(act, pool, self.padded, settings.episodes, settings.seed, chunk)
            found = {
                "success": played.success,
                "return": played.return_,
                "length": played.length,
                "score": self.score(played.return_, played.success),
            }
        if self.val is not None:
            found["val/loss"] = np.asarray(self.programs.validate(state, self.val))
        return found

    def reward(self, reward: np.ndarray) -> np.ndarray:
        """The data set's version of an environment's rewards."""
        if self.dataset.sparse:
            reward = np.where(reward != 0, -1.0, 0.0)
        return reward + self.dataset.reward_offset

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.close()


def shape_of(x: jax.Array) -> jax.ShapeDtypeStruct:
    """The shape, dtype and place of an array."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
