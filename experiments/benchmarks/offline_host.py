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
from rlx.train.host_evaluate import Act, evaluate
from rlx.train.offline_spec import one_spec

CUBE = "cube-single-play-singletask-task1-v0"
MAZE = "pointmaze-medium-navigate-singletask-task1-v0"
TASKS = {CUBE: ours.Setting(rows=2000), MAZE: ours.Setting(obs=2, action=2, rows=2000)}
ENV, TYPE, ROWS = "cube-single", "play", 1001


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluation(quick: bool) -> Part:
    """Time 50 episodes (quick: 10) of an untrained FQL by lanes and processes."""
    figures: dict[str, Any] = {"episodes": 10 if quick else 50, "cores": cores()}
    lines = []
    for task, setting in TASKS.items():
        figures[task], own = lanes_and_processes(task, setting, figures["episodes"])
        lines += own
    return Part(figures, lines)


def lanes_and_processes(
    task: str, setting: ours.Setting, episodes: int
) -> tuple[dict[str, Any], list[Line]]:
    """Time the same episodes one after another, in lanes of one process, and in processes."""
    act = policy(setting, episodes)
    figures, lines, results = {}, [], []
    many = min(episodes, 8 * cores())
    for lanes, workers in ((1, 0), (many, 0), (many, cores())):
        with Pool(task, lanes, workers) as pool:
            start = time.perf_counter()
            results.append(evaluate(act, pool, 1, episodes, 0))
            wall_s = time.perf_counter() - start
        label, steps = f"{lanes} lanes, {workers} processes", int(results[-1].length.sum())
        figures[label] = {"wall_s": wall_s, "steps": steps, "steps_per_s": steps / wall_s}
        lines.append(Line(f"{task}, {episodes} episodes, {label}: steps/s", steps / wall_s))
    same = all(np.array_equal(one.return_, results[0].return_) for one in results)
    seconds = [pool["wall_s"] for pool in figures.values()]
    gain = seconds[0] / min(seconds[1:])
    lines.append(Line(f"{task}: fastest / one after another", gain, ">= 4" * (cores() >= 4)))
    lines.append(Line("same results (1 = yes)", float(same), ">= 1"))
    return figures | {"gain": gain, "same_results": same}, lines


def policy(setting: ours.Setting, episodes: int) -> Act:
    """An untrained FQL's compiled policy, called once."""
    data = ours.rows(setting)
    programs = ours.build(ours.config(setting), data)
    numbers = agents.make(ours.config(setting), one_spec(data)).hp
    state = programs.init(
        np.zeros(1, np.int32), {k: np.full(1, v, "f4") for k, v in numbers.items()}
    )

    def act(obs: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.asarray(programs.policy(state.learner, state.seed, obs, t))

    act(np.zeros((1, episodes, setting.obs), np.float32), np.zeros((1, episodes), np.int32))
    return act


def data(quick: bool) -> Part:
    """Time rows of cube-single-play made by one process and by one per core, start included."""
    episodes = 2 if quick else 27  # and one in ten for validation
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
    if cores() > 1:
        one, all_ = (figures[f"{workers} processes"]["per_s"] for workers in (1, cores()))
        figures["gain"] = all_ / one
        lines.append(Line(f"gain of {cores()} processes", all_ / one, f">= {0.9 * cores():g}"))
    return Part(figures, lines)
