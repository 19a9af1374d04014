"""Chunks played open loop and ensembles of them, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.serve.client import ChunkBroker, Client


class Asked:
    """A policy whose chunk number k says 100 k + t at step t of the chunk."""

    def __init__(self, length=4):
        self.observations, self.length = [], length

    def __call__(self, observation):
        k = len(self.observations)
        self.observations.append(observation["step"])
        t = np.arange(self.length)[:, None]
        return {"actions": np.hstack([100 * k + t, -t]).astype(np.float32)}


def play(broker, steps):
    return np.stack([broker.act({"step": step}) for step in range(steps)])


def test_a_chunk_is_played_before_the_policy_is_asked_again():
    policy = Asked(length=4)
    actions = play(ChunkBroker(policy, action_horizon=3), 8)
    assert policy.observations == [0, 3, 6]
    np.testing.assert_array_equal(actions[:, 0], [0, 1, 2, 100, 101, 102, 200, 201])
    np.testing.assert_array_equal(actions[:, 1], [0, -1, -2, 0, -1, -2, 0, -1])


@pytest.mark.parametrize("horizon", [1, 2])
def test_an_ensemble_is_the_weighted_mean_of_all_live_chunks(horizon):
    m, length = 0.5, 4
    actions = play(ChunkBroker(Asked(length), horizon, ensemble=m), 9)
    for step in range(9):
        live = [k for k in range(9) if 0 <= step - k * horizon < length]
        said = [100 * k + step - k * horizon for k in live]
        weights = [np.exp(-m * i) for i in range(len(live))]  # the oldest has the largest
        want = sum(w * s for w, s in zip(weights, said)) / sum(weights)
        np.testing.assert_allclose(actions[step, 0], want, rtol=1e-5)
    assert actions.dtype == np.float32


def test_reset_forgets():
    policy = Asked()
    broker = ChunkBroker(policy, 3, ensemble=0.1)
    play(broker, 2)
    broker.reset()
    np.testing.assert_array_equal(broker.act({"step": 9}), [100, 0])
    assert policy.observations == [0, 9]


def test_bad_input():
    with pytest.raises(ValueError, match="action_horizon is a whole number >= 1, got 0"):
        ChunkBroker(Asked(), 0)
    with pytest.raises(ValueError, match=r"T >= action_horizon = 5, got \[4, 2\]"):
        ChunkBroker(Asked(), 5).act({"step": 0})
    with pytest.raises(ValueError, match=r"got \[4\]"):
        ChunkBroker(lambda _: {"actions": np.zeros(4)}, 2).act({})
    with pytest.raises(ConnectionRefusedError):
        Client(port=1)
