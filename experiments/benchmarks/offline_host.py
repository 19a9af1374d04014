"""Host environments: evaluating a policy and making OGBench's data, by number of processes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import offline_ours as ours
from experiments.benchmarks.measure import Line, Part
from rlx import agents
from rlx.data.synth.shards import Plan, Shards
from rlx.envs.host import Pool
from rlx.train.host_evaluate import evaluate
from rlx.train.offline_spec import one_spec

TASK = "cube-single-play-singletask-task1-v0"
ENV, TYPE, ROWS = "cube-single", "play", 1001


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluation(quick: bool) -> Part:
    """Time 50 episodes (quick: 10) of an untrained FQL on cube-single by lanes and processes."""
    setting, episodes = ours.Setting(rows=2000), 10 if quick else 50
    data = ours.rows(setting)
    programs = ours.build(ours.config(setting), data)
    numbers = agents.make(ours.config(setting), one_spec(data)).hp
    state = programs.init(
        np.zeros(1, np.int32), {k: np.full(1, v, "f4") for k, v in numbers.items()}
    )

    def act(obs: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.asarray(programs.policy(state.learner, state.seed, obs, t))

    act(np.zeros((1, episodes, setting.obs), np.float32), np.zeros((1, episodes), np.int32))
    figures: dict[str, Any] = {"task": TASK, "episodes": episodes, "cores": cores()}
    lines, results = [], []
    for lanes, workers in ((1, 0), (8, 0), (8 * cores(), cores())):
        with Pool(TASK, lanes, workers) as pool:
            start = time.perf_counter()
            results.append(evaluate(act, pool, 1, episodes, 0))
            wall_s = time.perf_counter() - start
        label, steps = f"{lanes} lanes, {workers} processes", int(results[-1].length.sum())
        figures[label] = {"wall_s": wall_s, "steps": steps, "steps_per_s": steps / wall_s}
        lines.append(Line(f"{episodes} episodes, {label}: seconds", wall_s))
        lines.append(Line(f"{label}: steps/s", steps / wall_s))
    figures["same_results"] = all(
        np.array_equal(one.return_, results[0].return_) for one in results
    )
    return Part(figures, [*lines, Line("same results (1 = yes)", float(figures["same_results"]))])


def data(quick: bool) -> Part:
    """Time rows of cube-single-play made by one process and by one per core, start included."""
    episodes = 2 if quick else 9  # and one in ten for validation
    figures: dict[str, Any] = {"env": ENV, "type": TYPE, "cores": cores()}
    lines = []
    for workers in sorted({1, cores()}):
        plan = Plan(ENV, TYPE, episodes, ROWS, 0, "")
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            Shards(plan, Path(folder)).make(workers, None, [], lambda made: None)
            wall_s = time.perf_counter() - start
        rows = plan.total * ROWS
        figures[f"{workers} processes"] = {"rows": rows, "wall_s": wall_s, "per_s": rows / wall_s}
        lines.append(Line(f"{ENV}-{TYPE}, {workers} processes: rows/s", rows / wall_s))
    return Part(figures, lines)
