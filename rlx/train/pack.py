"""One pack of online runs from config to finished workdir: check, build, compile, resume, drive,
report.

Every online experiment calls `check`, `Session` and `Session.run`; only the learner and the
environment differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from rlx.data.buffer import make_buffer
from rlx.envs.core import vectorize
from rlx.infra import checkpoint, distributed, sharding
from rlx.infra import config as configs
from rlx.infra.fields import parse_ratio
from rlx.infra.logging import Logger, Run
from rlx.infra.tracking import start_wandb
from rlx.infra.workdir import claim_workdir
from rlx.train import online, resume, sweep
from rlx.train.checks import Sizes
from rlx.train.clock import Clock
from rlx.train.compiled import compile_programs
from rlx.train.driver import Driver, Programs, Progress
from rlx.train.offline_plan import OfflinePlan
from rlx.train.schedule import Schedule
from rlx.types import Env, EnvSpec, Learner, PyTree

MakeLearner = Callable[[ConfigDict, EnvSpec, str | None], Learner]  # an agent's `make`
Plan = TypeVar("Plan", Schedule, OfflinePlan)


def static_key(config: ConfigDict, hp: Iterable[str], sizes: Sizes, num_runs: int) -> str:
    """Name the compiled programs a config needs: two configs with one key share them (UTD, lr,
    steps, ...).
    """
    learner = {name: value for name, value in config.learner.to_dict().items() if name not in hp}
    parts = (
        learner,
        config.env.to_dict(),
        config.data.n_step,
        config.eval.episodes,
        config.mesh.to_dict(),
    )
    return repr((parts, sizes.capacity, sizes.shards, num_runs))


def claim(
    config: ConfigDict,
    runs: Sequence[Run],
    workdir: str | Path,
    *,
    overwrite: bool,
    retry_failed: bool,
) -> dict[str, Any] | None:
    """Take `workdir` for these runs, before any compile; return its result if it is finished
    already.

    Process 0 does it, all of them get its answer. Raises WorkdirError when it belongs to another
    config, or holds a failed run (see `claim_workdir`).
    """
    axes = {name: [run.hp[name] for run in runs] for name in runs[0].hp}
    devices = [str(device) for device in jax.devices()]  # of all processes, hence outside `take`

    def take() -> dict[str, Any] | None:
        claim_workdir(
            workdir,
            config,
            sweep={"seed": [run.seed for run in runs], **axes},
            overwrite=overwrite,
            retry_failed=retry_failed,
            devices=devices,
        )
        result = Path(workdir) / "result.json"
        return json.loads(result.read_text(encoding="utf-8")) if result.exists() else None

    return distributed.on_main(take, f"claim {workdir}")


def drive(
    config: ConfigDict,
    plan: Plan,
    runs: Sequence[Run],
    workdir: str | Path,
    stop: list[str],
    begin: Callable[[checkpoint.Checkpoints], tuple[PyTree, Progress, bool]],
    programs: Programs,
    assets: dict[str, Any] | None = None,
    **driver: Any,
) -> tuple[str, PyTree, Progress, Plan]:
    """Open the files of a pack, begin or resume, drive it to its end or until `stop` is filled.

    Args:
      begin: checkpoints of `workdir` -> state, progress, whether it goes on from one of them.
      assets: JSON for the checkpoints, see `Checkpoints`.
      driver: further fields of `Driver`.
    Returns: status ("done", "preempted", "interrupted"), last state, progress, the plan as resumed.
    """
    settings = config.checkpoint
    checkpoints = checkpoint.Checkpoints(workdir, settings.keep, settings.keep_every, assets=assets)
    state, progress, resumed = begin(checkpoints)
    plan = plan.resumed(progress.idle)
    main = distributed.is_main()
    tracker = start_wandb(config.log.wandb, workdir, configs.flatten(config)) if main else None
    sha = configs.sha(config)
    logger = Logger(
        workdir, runs, total=plan.total, counter=plan.counter, config_sha=sha, tracker=tracker
    )
    logger.rewind(int(state.step) if resumed else -1)
    every_steps = settings.every_steps or 0
    loop = Driver(
        programs=programs,
        schedule=plan,
        runs=runs,
        logger=logger,
        checkpoints=checkpoints,
        clock=Clock(config.train.chunk_seconds, settings.every_seconds, every_steps),
        progress=progress,
        stop=stop,
        **driver,
    )
    try:
        status, state = loop.run(state)
    finally:
        logger.close()
        checkpoints.close()
    return status, state, progress, plan


class Session:
    """Compiled programs for packs of one shape; `run` trains one pack in one workdir.

    Keep the object over the entries of a sweep: every UTD, learning rate and length reuses its
    programs.
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
        mesh = config.mesh
        self.mesh = sharding.lay_out(mesh.run, mesh.data, mesh.fsdp, num_runs, sizes.shards)
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
        self.fresh = resume.zeros_program(self.compiled.template.metrics)
        self.compile_s = self.compiled.seconds | {"wall": time.perf_counter() - start}

    def run(
        self,
        config: ConfigDict,
        plan: Schedule,
        runs: Sequence[Run],
        workdir: str | Path,
        stop: list[str],
        survivors: resume.Survivors | None = None,
    ) -> dict[str, Any]:
        """Train `runs` to the end of `plan` or until `stop` is filled; return the facts.

        Resumes when `workdir` (claimed, see `claim`) holds a checkpoint; else begins with the
        `survivors` of another pack, where given. Keys: status ("done",
        "preempted", "interrupted"), utd, utd_achieved, env_steps, grad_steps, wall_s (training
        alone), compile_s, env_steps_per_s and updates_per_s (summed over the runs, all
        launches), evals, dead.
        """
        settings = config.checkpoint
        save_ring = settings.buffer and self.ring_gb <= settings.buffer_limit_gb
        if not save_ring:
            print(
                f"checkpoints leave out the replay ring ({self.ring_gb:.1f} GB; "
                f"checkpoint.buffer = {settings.buffer}, "
                f"checkpoint.buffer_limit_gb = {settings.buffer_limit_gb}): "
                "a resume refills it first, and is not exact"
            )
        seeds, hp = sweep.arrays(runs, self.learner_for(config).hp, self.padded)
        programs = Programs(self.compiled.chunk, self.compiled.evaluate, self.fresh_metrics)
        status, state, progress, plan = drive(
            config,
            plan,
            runs,
            workdir,
            stop,
            lambda own: resume.begin(
                config, own, self.compiled, plan, len(runs), seeds, hp, survivors
            ),
            programs,
            action_repeat=config.env.action_repeat,
            save_ring=save_ring,
        )
        step, grad_steps = int(state.step), int(state.grad_steps)
        seconds = max(progress.wall_s, 1e-9)
        return {
            "status": status,
            "utd": float(parse_ratio(config.train.utd)),
            "utd_achieved": plan.achieved_utd(step, grad_steps),
            "env_steps": step * plan.num_envs,
            "prefill": plan.silent(step) * plan.num_envs,
            "grad_steps": grad_steps,
            "wall_s": progress.wall_s,
            "compile_s": self.compile_s,
            "env_steps_per_s": step * plan.num_envs * len(runs) / seconds,
            "updates_per_s": grad_steps * len(runs) / seconds,
            "evals": progress.evals,
            "dead": progress.dead,
        }

    @property
    def ring_gb(self) -> float:
        """Size of all replay rings."""
        leaves = jax.tree.leaves(self.compiled.template.buffer)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / 1e9

    def fresh_metrics(self, state: online.TrainState) -> online.TrainState:
        """Return `state` with its sums at zero."""
        return state.replace(metrics=self.fresh())
