"""Evaluation on the host: fixed episodes, whatever the number of lanes and processes."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_env import NAME

from rlx.envs.host import Pool
from rlx.train.host_evaluate import evaluate

MAZE = "pointmaze-medium-navigate-singletask-v0"


def steady(obs: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Depends on observation, step and run; [R, E, 1]."""
    run = np.arange(len(obs))[:, None, None]
    return np.tanh(2 * obs[..., :1] + 0.1 * t[..., None] + 0.2 * run)


@pytest.mark.parametrize(("lanes", "workers"), [(3, 0), (4, 2), (9, 1)])
def test_the_result_does_not_depend_on_lanes_and_processes(lanes, workers):
    with Pool(NAME, 1) as pool:
        expected = evaluate(steady, pool, runs=2, episodes=3, seed=7)
    with Pool(NAME, lanes, workers) as pool:
        found = evaluate(steady, pool, runs=2, episodes=3, seed=7)
    for one, other in zip(expected, found):
        assert one.shape == (2, 3)
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(expected.return_)) == 6 and expected.length.max() > expected.length.min()


def test_a_maze_by_hand():
    """Two episodes of 6 steps away from the goal: -1 each, and seeds are seed + episode."""
    seen = []

    def act(obs, t):
        seen.append((obs.copy(), t.copy()))
        return np.full((1, 2, 2), -1.0)

    with Pool(MAZE, 2, max_episode_steps=6) as pool:
        found = evaluate(act, pool, runs=1, episodes=2, seed=40)
        starts = pool.reset([0, 1], [40, 41])
    np.testing.assert_array_equal(found.return_, [[-6, -6]])
    np.testing.assert_array_equal(found.length, [[6, 6]])
    np.testing.assert_array_equal(found.success, [[0, 0]])
    np.testing.assert_array_equal(seen[0][0][0], starts)
    assert [int(t[0, 0]) for _, t in seen] == list(range(6))


def test_success_is_that_of_the_last_step():
    with Pool(NAME, 2) as pool:
        up = evaluate(lambda obs, t: np.ones((1, 2, 1)), pool, 1, 2, seed=0)
        down = evaluate(lambda obs, t: -np.ones((1, 2, 1)), pool, 1, 2, seed=0)
    np.testing.assert_array_equal(up.success, [[1, 1]])
    np.testing.assert_array_equal(down.success, [[0, 0]])


@pytest.mark.parametrize("lanes", [1, 2])
def test_chunks_are_open_loop_and_dropped_at_the_end(lanes):
    """Chunks of 3 within 7 steps: looks at t = 0, 3, 6, and at 0 again in the next episode."""
    looks = []

    def act(obs, t):
        looks.append(t[0].tolist())
        assert not obs[t == 0][:, 1].any()  # the second number of an observation is its time
        return np.tile([0.1, -0.1, 0.2], (1, 2, 1))

    with Pool(NAME, lanes, max_episode_steps=7) as pool:
        found = evaluate(act, pool, 1, 2, seed=3, action_chunk=3)
        pool.reset([0], [4])
        taken = [0.1, -0.1, 0.2, 0.1, -0.1, 0.2, 0.1]
        rewards = [pool.step([0], np.array([[a]])).reward[0] for a in taken]
    np.testing.assert_array_equal(found.length, [[7, 7]])
    assert found.return_[0, 1] == pytest.approx(sum(rewards), abs=1e-12)
    each = [0, 3, 6]
    expected = (
        [[t, t] for t in each] if lanes == 2 else [[t, 0] for t in each] + [[0, t] for t in each]
    )
    assert looks == expected
