"""configs/tuned/offline.py against the published tables, restated (fql.md, section 9)."""

from __future__ import annotations

import pytest

from configs.offline import get_config
from configs.tuned.offline import settings
from rlx import agents
from rlx.data import d4rl, ogbench

FQL = {  # alpha, discount, aggregation, steps
    "antmaze-large-navigate": (10, 0.99, "min", 1_000_000),
    "antmaze-giant-navigate": (10, 0.995, "min", 1_000_000),
    "humanoidmaze-medium-navigate": (30, 0.995, "mean", 1_000_000),
    "humanoidmaze-large-navigate": (30, 0.995, "mean", 1_000_000),
    "antsoccer-arena-navigate": (10, 0.995, "mean", 1_000_000),
    "cube-single-play": (300, 0.99, "mean", 1_000_000),
    "cube-double-play": (300, 0.99, "mean", 1_000_000),
    "scene-play": (300, 0.99, "mean", 1_000_000),
    "puzzle-3x3-play": (1000, 0.99, "mean", 1_000_000),
    "puzzle-4x4-play": (1000, 0.99, "mean", 1_000_000),
    "visual-cube-single-play": (300, 0.99, "mean", 500_000),
    "visual-cube-double-play": (100, 0.99, "mean", 500_000),
    "visual-scene-play": (100, 0.99, "mean", 500_000),
    "visual-puzzle-3x3-play": (300, 0.99, "mean", 500_000),
    "visual-puzzle-4x4-play": (300, 0.99, "mean", 500_000),
    "antmaze-umaze": (10, 0.99, "mean", 500_000),
    "antmaze-medium": (10, 0.99, "mean", 500_000),
    "antmaze-large-play": (3, 0.99, "mean", 500_000),
    "antmaze-large-diverse": (3, 0.99, "mean", 500_000),
    "pen-human": (10_000, 0.99, "min", 500_000),
    "pen-cloned": (10_000, 0.99, "min", 500_000),
    "pen-expert": (3_000, 0.99, "min", 500_000),
    "door": (30_000, 0.99, "min", 500_000),
    "hammer-human": (30_000, 0.99, "min", 500_000),
    "hammer-cloned": (10_000, 0.99, "min", 500_000),
    "hammer-expert": (30_000, 0.99, "min", 500_000),
    "relocate-human": (10_000, 0.99, "min", 500_000),
    "relocate-cloned": (30_000, 0.99, "min", 500_000),
    "relocate-expert": (30_000, 0.99, "min", 500_000),
}
TASKS = (*ogbench.TASKS, *d4rl.TASKS)


def test_fql_on_all_73_tasks():
    assert len(TASKS) == 73
    for task in TASKS:
        want = FQL[max((key for key in FQL if task.startswith(key)), key=len)]
        config = get_config(f"agent=fql,task={task}")
        learner = config.learner
        got = learner.alpha, learner.discount, learner.q_agg, config.train.offline_steps
        assert got == want, task
        visual = task.startswith("visual-")
        assert (learner.encoder, config.data.frame_stack) == (
            ("impala_small", 3) if visual else ("", 1)
        )


ONLINE = [
    ("fql", "humanoidmaze-medium-navigate-singletask-task1-v0", {"alpha": 100.0}),
    ("fql", "antsoccer-arena-navigate-singletask-task4-v0", {"alpha": 30.0, "discount": 0.995}),
    ("fql", "antmaze-large-play-v2", {"alpha": 3.0}),
    ("fql", "pen-cloned-v1", {"alpha": 1000.0, "q_agg": "min"}),
    ("fql", "relocate-cloned-v1", {"alpha": 10_000.0}),
    ("iql", "antsoccer-arena-navigate-singletask-task4-v0", {"alpha": 1.0}),
    ("rebrac", "antsoccer-arena-navigate-singletask-v0", {"alpha_actor": 0.01}),
    ("ifql", "antsoccer-arena-navigate-singletask-v0", {"samples": 64}),
    ("ifql", "door-cloned-v1", {"samples": 128}),
]


@pytest.mark.parametrize("agent, task, want", ONLINE)
def test_offline_to_online(agent, task, want):
    config = get_config(f"online,agent={agent},task={task}")
    assert {name: config.learner[name] for name in want} == want
    if agent == "fql":
        assert config.train.offline_steps == config.train.online_steps == 1_000_000


BASELINES = [
    ("iql", "cube-double-play-singletask-task2-v0", {"alpha": 0.3, "critic_hidden": (256,) * 4}),
    ("iql", "puzzle-4x4-play-singletask-task4-v0", {"alpha": 3.0}),
    ("rebrac", "cube-single-play-singletask-v0", {"alpha_actor": 1.0, "alpha_critic": 0.0}),
    ("rebrac", "puzzle-3x3-play-singletask-v0", {"alpha_actor": 0.3, "alpha_critic": 0.01}),
    ("rebrac", "visual-scene-play-singletask-task1-v0", {"alpha_actor": 0.1}),
    ("fawac", "scene-play-singletask-v0", {"alpha": 0.3}),
    ("fbrac", "puzzle-4x4-play-singletask-v0", {"alpha": 300.0}),
    ("fbrac", "antmaze-umaze-v2", {"alpha": 10.0}),
    ("fbrac", "antmaze-large-play-v2", {"alpha": 1.0}),
    ("idql", "antmaze-giant-navigate-singletask-v0", {"expectile": 0.7, "discount": 0.995}),
    ("rlpd", "humanoidmaze-large-navigate-singletask-v0", {"discount": 0.995, "q_agg": "min"}),
    ("ifql", "humanoidmaze-medium-navigate-singletask-v0", {"samples": 32, "discount": 0.995}),
]


@pytest.mark.parametrize("agent, task, want", BASELINES)
def test_baselines(agent, task, want):
    learner = get_config(f"agent={agent},task={task}").learner
    assert {name: learner[name] for name in want} == want


def test_every_learner_knows_the_length_of_a_task():
    for agent in agents.OFFLINE:
        found = settings(agent, "pen-human-v1")
        assert found["train.offline_steps"] == (3_000_000 if agent == "idql" else 500_000)


SIZES = [  # options, agent -> offline steps, online steps, warm-up
    ("online", "fql", 1_000_000, 1_000_000, 0),
    ("online", "rlpd", 0, 1_000_000, 0),
    ("online,chunk=5", "bfn", 1_000_000, 1_000_000, 5_000),
    ("online,small", "fql", 50_000, 50_000, 0),
    ("online,small", "rlpd", 0, 50_000, 0),
    ("online,demo", "fql", 10_000, 3_000, 0),
    ("online,demo,chunk=5", "rlpd", 0, 3_000, 0),
    ("online,smoke", "rlpd", 0, 100, 50),
    ("small", "rlpd", 50_000, 0, 0),
    ("demo", "fql", 10_000, 0, 0),
    ("smoke", "fql", 300, 0, 0),
]


@pytest.mark.parametrize("options, agent, offline, online, warmup", SIZES)
def test_lengths_of_every_size(options, agent, offline, online, warmup):
    train = get_config(f"{options},agent={agent},task=cube-single-play-singletask-v0").train
    assert (train.offline_steps, train.online_steps, train.warmup) == (offline, online, warmup)
    assert train.balanced_sampling == (agent == "rlpd" and "online" in options)


def test_chunks_bring_the_constants_of_q_chunking():
    assert get_config("agent=bfn,chunk=5").learner.samples == 32
    learner = get_config("agent=rlpd,chunk=5").learner
    assert (learner.bc_alpha, learner.ensemble, learner.q_agg) == (0.01, 10, "mean")
    assert get_config("agent=rlpd").learner.bc_alpha == 0
