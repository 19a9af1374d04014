"""One pack of online runs from config to finished workdir: check, build, compile, resume, drive, report.

Every online experiment calls `check`, `Session` and `Session.run`; only the learner and the environment differ.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rlx.data.buffer import buffer_bytes, make_buffer
from rlx.envs.core import vectorize
from rlx.infra import checkpoint, runtime, sharding
from rlx.infra import config as configs
from rlx.infra.errors import ConfigError
from rlx.infra.fields import parse_ratio
from rlx.infra.logging import Logger, Run
from rlx.infra.tracking import start_wandb
from rlx.infra.workdir import claim_workdir
from rlx.train import online, sweep
from rlx.train.compiled import compile_programs
from rlx.train.driver import Clock, Driver, Programs, Progress
from rlx.train.schedule import Schedule, utd_schedule
from rlx.types import Env, EnvSpec, Learner

MEMORY_SHARE = 0.8  # of a device, for replay; the rest is for programs, parameters and physics


MakeLearner = Callable[[ConfigDict, EnvSpec, str | None], Learner]  # an agent's `make`


class Sizes(NamedTuple):
    """What the defaults of a config come to for one environment."""

    capacity: int
    learning_starts: int  # transitions
    shards: int
    log_every: int
    eval_every: int


def check(config: ConfigDict, env: Env, num_runs: int = 1) -> tuple[Sizes, Schedule]:
    """Resolve the defaults and refuse what cannot run, before any compile; errors name field and value."""
    train, num_envs, batch = config.train, config.env.num_envs, config.learner.batch_size
    for name in ("env.num_envs", "env.action_repeat", "learner.batch_size", "train.env_steps", "eval.episodes"):
        value = configs.flatten(config)[name]
        if value < 1:
            raise ConfigError(f"{name} is a whole number >= 1, got {value}")
    starts = max(1000, batch) if train.learning_starts is None else train.learning_starts
    if starts < batch:
        raise ConfigError(f"train.learning_starts = {starts} is less than learner.batch_size = {batch}")
    if train.env_steps <= starts:
        raise ConfigError(
            f"train.env_steps = {train.env_steps} leaves nothing after the {starts} random transitions of "
            f"train.learning_starts; give more than {starts}"
        )
    if config.mesh.shards is not None and config.mesh.shards < 1:
        raise ConfigError(f"mesh.shards is a whole number >= 1, got {config.mesh.shards}")
    shards = config.mesh.shards or sharding.default_shards(num_envs, batch)
    data = 1 if config.mesh.data < 1 else config.mesh.data
    sharding.check_shards(shards, data, **{"env.num_envs": num_envs, "learner.batch_size": batch})
    capacity = config.data.capacity or min(1_000_000, train.env_steps)
    check_memory(capacity, env, num_runs)
    H, G = utd_schedule(parse_ratio(train.utd), num_envs)
    sizes = Sizes(
        capacity=capacity,
        learning_starts=starts,
        shards=shards,
        log_every=train.log_every or max(1, math.ceil(train.env_steps / 100)),
        eval_every=train.eval_every or max(1, math.ceil(train.env_steps / 40)),
    )
    plan = Schedule(num_envs, train.env_steps, -(-starts // num_envs), H, G, sizes.log_every, sizes.eval_every)
    return sizes, plan


def check_memory(capacity: int, env: Env, num_runs: int) -> None:
    """Refuse a replay ring that takes more than its share of a device, naming the capacity that fits."""
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    row = buffer_bytes(1, obs, action) * -(-num_runs // jax.local_device_count())
    limit = int(MEMORY_SHARE * runtime.device_bytes())
    if capacity * row > limit:
        raise ConfigError(
            f"data.capacity = {capacity} transitions x {num_runs} runs take {capacity * row / 1e9:.1f} GB per "
            f"device, more than {limit / 1e9:.1f} GB ({MEMORY_SHARE:.0%} of its memory); "
            f"the capacity that fits: {limit // row}"
        )


def static_key(config: ConfigDict, hp: Iterable[str], sizes: Sizes, num_runs: int) -> str:
    """Name the compiled programs a config needs: two configs with one key share them (UTD, lr, steps, ...)."""
    learner = {name: value for name, value in config.learner.to_dict().items() if name not in hp}
    parts = (learner, config.env.to_dict(), config.data.n_step, config.eval.episodes, config.mesh.to_dict())
    return repr((parts, sizes.capacity, sizes.shards, num_runs))


def claim(
    config: ConfigDict, runs: Sequence[Run], workdir: str | Path, *, overwrite: bool, retry_failed: bool
) -> dict[str, Any] | None:
    """Take `workdir` for these runs, before any compile; return its result if it is finished already.

    Raises WorkdirError when it belongs to another config, or holds a failed run (see `claim_workdir`).
    """
    axes = {name: [run.hp[name] for run in runs] for name in runs[0].hp}
    claim_workdir(
        workdir,
        config,
        sweep={"seed": [run.seed for run in runs], **axes},
        overwrite=overwrite,
        retry_failed=retry_failed,
        devices=[str(device) for device in jax.devices()],
    )
    result = Path(workdir) / "result.json"
    return json.loads(result.read_text(encoding="utf-8")) if result.exists() else None


class Session:
    """Compiled programs for packs of one shape; `run` trains one pack in one workdir.

    Keep the object over the entries of a sweep: every UTD, learning rate and length reuses its programs.
    """

    def __init__(
        self,
        config: ConfigDict,
        env: Env,
        make_learner: MakeLearner,
        num_runs: int,
        sizes: Sizes,
    ):
        """Build and compile for `num_runs` runs of `config`; `sizes` from `check`."""
        start = time.perf_counter()
        self.learner_for = lambda config: make_learner(config.learner, env.spec, None)
        self.mesh = make_pack_mesh(config, num_runs, sizes.shards)
        self.padded = -(-num_runs // self.mesh.shape["run"]) * self.mesh.shape["run"]
        env_config = config.env
        vec = vectorize(
            env,
            env_config.num_envs,
            env_config.episode_length,
            env_config.action_repeat,
            env_config.reset,
            env_config.pool_size,
        )
        if config.eval.episodes % self.mesh.shape["data"]:
            raise ConfigError(
                f"eval.episodes = {config.eval.episodes} is not divisible by the "
                f"{self.mesh.shape['data']} devices on the data axis"
            )
        buffer = make_buffer(sizes.capacity, env_config.num_envs, config.data.n_step)
        self.online = online.build(
            lambda axis_name: make_learner(config.learner, env.spec, axis_name),
            vec,
            buffer,
            batch_size=config.learner.batch_size,
            shards=sizes.shards,
            eval_episodes=config.eval.episodes,
            mesh=self.mesh,
        )
        self.compiled = compile_programs(self.online, self.padded, self.learner_for(config).hp)
        self.compile_s = self.compiled.seconds | {"wall": time.perf_counter() - start}

    def run(
        self, config: ConfigDict, plan: Schedule, runs: Sequence[Run], workdir: str | Path
    ) -> dict[str, Any]:
        """Train `runs` to the end of `plan` or to a stop signal; return the facts of the pack.

        Resumes when `workdir` (claimed, see `claim`) holds a checkpoint. Keys: status ("done", "preempted",
        "interrupted"), utd, utd_achieved, env_steps, grad_steps, wall_s (training alone), compile_s,
        env_steps_per_s and updates_per_s (summed over the runs, of this launch), evals, dead.
        """
        hp = self.learner_for(config).hp
        settings = config.checkpoint
        checkpoints = checkpoint.Checkpoints(workdir, settings.keep, settings.keep_every)
        restored = checkpoints.restore(self.compiled.template)
        if restored is None:
            seeds, hp = sweep.arrays(runs, hp, self.padded)
            state, progress = self.compiled.init(seeds, hp), Progress()
        else:
            state, host = restored
            progress = Progress(tuple(host["window"]), host["wall_s"], host["evals"], host["dead"])
            checkpoints.drop_after(int(state.step))
        tracker = start_wandb(config.log.wandb, workdir, configs.flatten(config))
        logger = Logger(workdir, runs, total=plan.total, config_sha=configs.sha(config), tracker=tracker)
        logger.rewind(int(state.step) if restored else -1)
        driver = Driver(
            programs=Programs(self.compiled.chunk, self.compiled.evaluate, self.fresh_metrics),
            schedule=plan,
            runs=runs,
            logger=logger,
            checkpoints=checkpoints,
            clock=Clock(config.train.chunk_seconds, settings.every_seconds, settings.every_steps or 0),
            progress=progress,
            action_repeat=config.env.action_repeat,
        )
        begun = (int(state.step), int(state.grad_steps), progress.wall_s)
        try:
            status, state = driver.run(state)
        finally:
            logger.close()
            checkpoints.close()
        step, grad_steps = int(state.step), int(state.grad_steps)
        seconds = max(driver.wall_s() - begun[2], 1e-9)
        return {
            "status": status,
            "utd": float(parse_ratio(config.train.utd)),
            "utd_achieved": plan.achieved_utd(step, grad_steps),
            "env_steps": step * plan.num_envs,
            "prefill": plan.prefill * plan.num_envs,
            "grad_steps": grad_steps,
            "wall_s": driver.wall_s(),
            "compile_s": self.compile_s,
            "env_steps_per_s": (step - begun[0]) * plan.num_envs * len(runs) / seconds,
            "updates_per_s": (grad_steps - begun[1]) * len(runs) / seconds,
            "evals": progress.evals,
            "dead": progress.dead,
        }

    def fresh_metrics(self, state: online.TrainState) -> online.TrainState:
        """Return `state` with its sums at zero."""
        zeros = jax.tree.map(
            lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), self.compiled.template.metrics
        )
        return state.replace(metrics=zeros)


def make_pack_mesh(config: ConfigDict, num_runs: int, shards: int) -> Mesh:
    """Lay out the mesh; `mesh.run = 0` splits runs over as many devices as divide the devices and fit the runs."""
    run, data = config.mesh.run, config.mesh.data
    if run == 0:
        run = sharding.largest_divisor(jax.device_count(), num_runs)
    if data == -1:
        data = sharding.largest_divisor(shards, max(1, jax.device_count() // run))
    sharding.check_shards(shards, data)
    return sharding.make_mesh(run, data, config.mesh.fsdp)
