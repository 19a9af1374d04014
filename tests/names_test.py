"""The nearest names to a mistyped one."""

from __future__ import annotations

from rlx import envs, names


def test_nearest_prefers_the_likest_and_reads_the_last_part():
    known = ["train.utd", "train.env_steps", "learner.lr", "learner.critic_lr", "seed"]
    assert names.nearest("train.ut", known)[0] == "train.utd"
    assert names.nearest("lr", known)[0] == "learner.lr"
    assert names.nearest("LEARNER.LR", known)[0] == "learner.lr"
    assert len(names.nearest("x", known)) == 3
    assert names.nearest("x", []) == []


def test_nearest_ignores_case_and_separators():
    assert names.nearest("walker_walk", envs.names.ALL, 1) == ["WalkerWalk"]
    assert names.nearest("cheetah-run", envs.names.ALL, 1) == ["CheetahRun"]
