"""The host side of a run: dispatch chunks, log, evaluate, save, stop; the device never waits for
it.

While chunk c runs, the metrics of chunk c - 1 are fetched and written. What ends up in a row
depends on counters only; the clock decides nothing but the length of a chunk and when a checkpoint
is due.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from rlx.infra.checkpoint import Checkpoints, policy_of
from rlx.infra.errors import NaNError
from rlx.infra.logging import Logger, Run
from rlx.train import measures
from rlx.train.clock import Clock
from rlx.train.offline_plan import OfflinePlan
from rlx.train.schedule import Schedule
from rlx.train.state import Report, TrainState, trim


class Programs(NamedTuple):
    """Compiled programs of a pack; see `rlx.train.online.build`."""

    chunk: Callable
    evaluate: Callable
    fresh_metrics: Callable[[TrainState], TrainState]


@dataclass
class Progress:
    """Where a run stands on the host; saved with every checkpoint."""

    window: tuple[int, int] = (0, 0)  # vector step and gradient step of the last log event
    wall_s: float = 0.0  # of earlier launches, then of all
    evals: list[dict[str, Any]] = field(default_factory=list)  # counters, `measures.CURVES` [R]
    dead: dict[str, list[int]] = field(default_factory=dict)  # run id -> env_steps range of its NaN
    idle: list[list[int]] = field(default_factory=list)  # vector steps that refilled a lost ring

    def of(self, rows: Sequence[int]) -> Progress:
        """Return the progress of these runs alone."""
        evals = [
            {k: [v[i] for i in rows] if isinstance(v, list) else v for k, v in point.items()}
            for point in self.evals
        ]
        return replace(self, evals=evals)


class Pending(NamedTuple):
    """A dispatched chunk whose numbers were not read yet."""

    before: int  # vector step before it
    step: int
    grad_steps: int
    iterations: int
    logged: bool  # ends on a log event
    report: Report
    evaluation: tuple[jax.Array, ...] | None


@dataclass
class Driver:
    """Runs one pack to its end; `run()` returns "done", "preempted" or "interrupted"."""

    programs: Programs
    schedule: Schedule | OfflinePlan
    runs: Sequence[Run]
    logger: Logger
    checkpoints: Checkpoints | None
    clock: Clock
    progress: Progress
    stop: list[str]  # filled by signals, see `rlx.infra.signals`
    action_repeat: int = 1
    save_ring: bool = True
    measures: ModuleType = measures  # what the rows hold: `measures` or `offline_measures`

    def run(self, state: TrainState) -> tuple[str, TrainState]:
        """Drive `state` to the end of the schedule, or until SIGTERM or SIGINT asks to stop."""
        plan, pending = self.schedule, None
        step, grad_steps = int(state.step), int(state.grad_steps)
        self.clock.start()
        self.started = self.clock.last_read - self.progress.wall_s
        self.timing = (self.clock.last_read, step, grad_steps)
        reason = None
        while not plan.done(step):
            reason, limit, overdue = self.clock.decide(self.stop, step)
            if reason:
                break
            before, (n, args, step, grad_steps) = step, plan.next_chunk(step, grad_steps, limit)
            state, report = self.programs.chunk(state, *args)
            logged = plan.done(step) or plan.crossed(plan.log_every, before, step)
            if logged:
                state = self.programs.fresh_metrics(state)
            evaluated = plan.done(step) or plan.crossed(plan.eval_every, before, step)
            self.read(pending)  # of the chunk before, while this one runs
            evaluation = self.programs.evaluate(state) if evaluated else None
            pending = Pending(before, step, grad_steps, n, logged, report, evaluation)
            every = self.clock.save_every
            due = overdue or (every and plan.crossed(every, before, step))
            if due and not plan.done(step):
                self.read(pending)
                pending = None
                self.save(state)
        self.read(pending)
        self.save(state)
        return reason or "done", state

    def save(self, state: TrainState) -> None:
        """Write a checkpoint; the rows up to its step are written already."""
        self.clock.saved()
        if self.checkpoints is None:
            return
        self.progress.wall_s = self.wall_s()
        saved = trim(state, len(self.runs))
        policy = policy_of(saved.learner)
        if not self.save_ring:
            saved = saved.replace(buffer=None)
        self.checkpoints.save(int(state.step), saved, vars(self.progress), policy)

    def wall_s(self) -> float:
        """Seconds of this run, earlier launches included."""
        return time.perf_counter() - self.started

    def read(self, pending: Pending | None) -> None:
        """Fetch a chunk's numbers, stop at NaN, and write its rows if it ends on an event."""
        if pending is None:
            return
        report, evaluation = jax.device_get((pending.report, pending.evaluation))
        self.clock.adapt(pending.iterations, evaluation is not None)
        self.check_alive(pending, report)
        env_steps = self.schedule.env_steps(pending.step)
        head = {
            "step": pending.step,
            "env_steps": env_steps,
            "grad_steps": pending.grad_steps,
            "wall_s": self.wall_s(),
        }
        rows: list[dict[str, Any]] = [{} for _ in self.runs]
        if pending.logged:
            now, (then, step0, grad0) = time.perf_counter(), self.timing
            seconds = max(now - then, 1e-9)
            self.timing = (now, pending.step, pending.grad_steps)
            transitions = env_steps - self.schedule.env_steps(step0)
            utd = self.schedule.achieved_utd(pending.step, pending.grad_steps)
            speed = measures.speed(transitions, pending.grad_steps - grad0, seconds, utd)
            updates = pending.grad_steps - self.progress.window[1]
            for index, row in enumerate(rows):
                found = self.measures.training(report.metrics, index, updates, seconds)
                row.update(found | speed)
            self.progress.window = (pending.step, pending.grad_steps)
        if not pending.logged and evaluation is None:
            return
        for index, row in enumerate(rows):
            row.update(self.measures.probed(report.probe, index))
            if evaluation is not None:
                row.update(self.measures.evaluation(*evaluation, index))
        if evaluation is not None:
            self.progress.evals.append(head | self.measures.curves(rows))
        head["env_frames"] = env_steps * self.action_repeat
        for index, (run, row) in enumerate(zip(self.runs, rows, strict=True)):
            if run.id not in self.progress.dead:
                self.logger.log(index, head | row)
        self.logger.show()

    def check_alive(self, pending: Pending, report: Report) -> None:
        """Report runs whose losses stopped being finite; raise NaNError when none is left."""
        for index, run in enumerate(self.runs):
            if report.alive[index] or run.id in self.progress.dead:
                continue
            span = [self.schedule.counted(pending.before), self.schedule.counted(pending.step)]
            self.progress.dead[run.id] = span
            sums = report.metrics.learner.items()
            bad = [name for name, values in sums if not np.isfinite(values[index])]
            last = self.checkpoints.latest() if self.checkpoints else None
            text = (
                f"run {run.id}: {', '.join(f'train/{name}' for name in bad)} not finite "
                f"between {self.schedule.counter} {span[0]} and {span[1]}; "
                f"last good checkpoint: {last or 'none yet'}"
            )
            if all(run.id in self.progress.dead for run in self.runs):
                raise NaNError(text)
            print(f"warning: {text}; it is frozen, the others go on", file=sys.stderr)
