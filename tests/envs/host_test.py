"""Host environments: names, lanes in processes, and episodes that only their seed makes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_env import NAME

from rlx.envs import host, host_names
from rlx.envs.host import Pool
from rlx.envs.workers import WorkerError

ROOT = Path(__file__).resolve().parents[2]
MAZE = "pointmaze-medium-navigate-singletask-v0"


@pytest.fixture(scope="module")
def remote() -> Iterator[Pool]:
    with Pool(NAME, 4, workers=2) as pool:
        yield pool


def actions(count: int, steps: int = 5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, count, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("cube-single-play-singletask-task2-v0", "cube-single-singletask-task2-v0"),
        ("cube-single-noisy-v0", "cube-single-v0"),
        ("antmaze-large-explore-singletask-v0", "antmaze-large-singletask-v0"),
        ("puzzle-4x4-play-singletask-v0", "puzzle-4x4-singletask-v0"),
        ("Pendulum-v1", "Pendulum-v1"),
        (NAME, NAME),
    ],
)
def test_names_of_data_sets_and_of_gymnasium(name, env_id):
    assert host.environment_id(name) == env_id


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match=r"cube-single-play-singletask-task2-v0"):
        host.make("cube-singel-play-singletask-task2-v0")
    with pytest.raises(ValueError, match="unknown environment 'cube-single-navigate-v0'"):
        Pool("cube-single-navigate-v0", 2)


def test_images_without_a_renderer_are_an_error(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(host_names.sys, "platform", "linux")
    with pytest.raises(ValueError, match="MUJOCO_GL is not set; set MUJOCO_GL=egl"):
        host.make("visual-cube-single-play-singletask-v0")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(ValueError, match="MUJOCO_GL is disable"):
        host.make("visual-cube-single-play-singletask-v0")


def test_discrete_actions_are_an_error():
    with pytest.raises(ValueError, match="both must be a Box"):
        host.make("CartPole-v1")


def test_spec_and_length_of_a_maze():
    env = host.make(MAZE, max_episode_steps=7)
    made = host.spec(env)
    assert (made.obs.shape, made.obs.dtype) == ((2,), np.float32)
    assert tuple(made.action) == ((2,), np.float32, -1.0, 1.0)
    assert host.episode_length(env) == 7


def test_a_pool_of_processes_equals_one_lane(remote):
    """Each lane alone, against four lanes in two processes that step in between each other."""
    taken = actions(4)
    first = remote.reset([2, 0, 3, 1], [12, 10, 13, 11])
    steps = [remote.step([2, 0, 3, 1], row) for row in taken]
    with Pool(NAME, 1) as pool:
        for i, seed in enumerate([12, 10, 13, 11]):
            np.testing.assert_array_equal(pool.reset([0], [seed])[0], first[i])
            for row, step in zip(taken, steps):
                alone = pool.step([0], row[i : i + 1])
                for one, all_ in zip(alone, step):
                    np.testing.assert_array_equal(one[0], all_[i])
    assert first.dtype == np.float32 and steps[0].reward.dtype == np.float64


def test_lanes_of_one_process_do_not_disturb_the_caller_or_each_other():
    taken = actions(1)
    with Pool(NAME, 2) as pool:
        pool.reset([0], [5])
        alone = [pool.step([0], row).obs for row in taken]
        pool.reset([0, 1], [5, 6])
        np.random.seed(3)  # noqa: NPY002
        expected = np.random.RandomState(3).uniform(size=5)
        drawn = []
        for row, obs in zip(taken, alone):
            pool.step([1], row)
            drawn.append(np.random.uniform())  # noqa: NPY002
            np.testing.assert_array_equal(pool.step([0], row).obs, obs)
    np.testing.assert_array_equal(drawn, expected)


def test_replay_goes_on_where_the_actions_lead(remote):
    taken = actions(1, 6)
    remote.reset([1], [9])
    for row in taken:
        last = remote.step([1], row).obs[0]
    after = remote.step([1], taken[0])
    np.testing.assert_array_equal(remote.replay(3, 9, taken[:, 0]), last)
    again = remote.step([3], taken[0])
    for one, other in zip(after, again):
        np.testing.assert_array_equal(one, other)


def test_an_error_in_a_process_comes_with_its_traceback_and_the_pool_lives_on(remote):
    remote.reset([0, 1], [0, 1])
    with pytest.raises(WorkerError, match=r"(?s)tiny_env\.py.*ArithmeticError: half an action"):
        remote.step([0, 1], np.array([[0.5], [0.1]]))
    assert remote.reset([0, 1], [0, 1]).shape == (2, 2)


def test_a_dead_process_is_an_error():
    with Pool(NAME, 2, workers=2) as pool:
        pool.reset([0, 1], [0, 1])
        with pytest.raises(WorkerError, match="is gone, exit code 7"):
            pool.step([0, 1], np.array([[0.25], [0.1]]))
        with pytest.raises(WorkerError, match="is gone, exit code 7"):
            pool.reset([0], [0])


def test_processes_leave_signals_to_their_parent(remote):
    for worker in remote._workers:
        os.kill(worker._process.pid, signal.SIGTERM)
        os.kill(worker._process.pid, signal.SIGINT)
    assert remote.reset([0, 1, 2, 3], [0, 1, 2, 3]).shape == (4, 2)


def test_a_pool_that_nobody_closes_ends_with_the_program(run_python):
    code = f"""
from rlx.envs.host import Pool
if __name__ == "__main__":
    pool = Pool({NAME!r}, 2, workers=2)
    print([worker._process.pid for worker in pool._workers])
"""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    for pid in json.loads(run_python(code, env={"PYTHONPATH": path}, timeout=60).stdout):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_frames_are_stacked_and_the_first_is_repeated():
    with Pool(NAME, 1, frame_stack=3, image=True) as pool:
        assert pool.spec.obs.shape == (2, 2, 9) and pool.spec.obs.dtype == np.uint8
        frames = [pool.reset([0], [0])] + [pool.step([0], row).obs for row in actions(1, 3)]
    times = [frame[0, 0, 0, ::3].tolist() for frame in frames]
    assert times == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_truncation_and_true_last_observation():
    with Pool(NAME, 1, max_episode_steps=3) as pool:
        assert pool.episode_length == 3
        pool.reset([0], [0])
        steps = [pool.step([0], np.zeros((1, 1))) for _ in range(3)]
    assert [bool(s.truncated[0]) for s in steps] == [False, False, True]
    assert steps[-1].obs[0, 1] == 3 and not steps[-1].terminated[0]


@pytest.mark.parametrize("lanes", [[0, 0], [4, 1], [-1, 1], [0, 1, 2], []])
def test_lanes_that_a_pool_does_not_have(remote, lanes):
    with pytest.raises(ValueError, match="in a pool of 4"):
        remote.reset(lanes, [0, 1])
    with pytest.raises(ValueError, match="in a pool of 4"):
        remote.replay(4, 0, np.zeros((0, 1)))


@pytest.mark.parametrize("name", ["scene-play-singletask-v0", "antsoccer-arena-navigate-v0"])
def test_episodes_of_ogbench_are_a_function_of_the_seed(name):
    """A used environment equals a fresh one, from the start and 20 steps on."""
    lane, fresh = (host.Lane(name, 1, {}) for _ in range(2))
    taken = np.random.default_rng(1).uniform(-1, 1, (20, *lane.env.action_space.shape))
    lane.reset(2)
    for action in taken[:5]:
        lane.step(action)
    np.testing.assert_array_equal(lane.reset(1), fresh.reset(1))
    for action in taken:
        np.testing.assert_array_equal(lane.step(action)[0], fresh.step(action)[0])
