"""Windows over rows against loops in Python: episodes' ends, n steps, chunks, stacked frames."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlx.data.rows import Rows, Windows, window


def rows(lengths=(3, 5, 2), obs_shape=(2,)):
    """Trajectories whose observation is (trajectory, step) and reward 100 * trajectory + step."""
    n = [length + 1 for length in lengths]
    which = np.repeat(np.arange(len(n)), n)
    step = np.concatenate([np.arange(k) for k in n])
    transition = np.concatenate([np.arange(k) < k - 1 for k in n])
    obs = np.stack([which, step], -1).astype(np.float32)
    if len(obs_shape) == 3:
        obs = np.broadcast_to(
            (10 * which + step)[:, None, None, None], (len(which), *obs_shape)
        ).astype(np.uint8)
    action = (which * 10 + step + 0.5)[:, None].astype(np.float32)
    reward = (100 * which + step).astype(np.float32)
    terminated = (which == 1) & (step == 2)
    return Rows(
        *map(
            jnp.asarray,
            (
                obs,
                action,
                reward,
                terminated,
                transition,
                transition,
                step.astype(np.int32),
                np.flatnonzero(transition).astype(np.int32),
            ),
        )
    )


def test_one_step():
    data = rows()
    batch = window(data, data.index, 0.9, Windows())
    assert batch.obs.tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 4],
        [2, 0],
        [2, 1],
    ]
    assert batch.next_obs.tolist() == [
        [0, 1],
        [0, 2],
        [0, 3],
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 4],
        [1, 5],
        [2, 1],
        [2, 2],
    ]
    assert batch.reward.tolist() == [0, 1, 2, 100, 101, 102, 103, 104, 200, 201]
    np.testing.assert_allclose(
        batch.extras["discount"], [0.9, 0.9, 0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.9]
    )
    assert batch.extras["valid"].tolist() == [1.0] * 10
    assert batch.extras["action_valid"].shape == (10, 1)
    assert batch.extras["next_action_valid"].tolist() == [1, 1, 0, 1, 1, 1, 1, 0, 1, 0]
    known = np.asarray(batch.extras["next_action_valid"]) == 1
    np.testing.assert_allclose(batch.extras["next_action"][known], batch.action[known] + 1)


@pytest.mark.parametrize("how", [Windows(n_step=3), Windows(chunk=3), Windows(chunk=2)])
def test_long_windows_equal_loops(how):
    data, discount, h = rows(), 0.9, how.horizon
    batch = window(data, data.index, discount, how)
    for b, start in enumerate(np.asarray(data.index)):
        inside = []
        for j in range(h):
            inside.append(
                start + j < len(data.reward)
                and bool(np.all(data.transition[start : start + j + 1]))
            )
        assert batch.extras["valid"][b] == inside[-1]
        assert batch.extras["action_valid"][b].tolist() == inside[: how.chunk]
        used = [j for j in range(h) if inside[j]]
        assert np.isclose(batch.reward[b], sum(discount**j * data.reward[start + j] for j in used))
        ended = any(data.terminated[start + j] for j in used)
        assert np.isclose(batch.extras["discount"][b], 0.0 if ended else discount**h)
        for j in used[: how.chunk]:
            assert batch.action[b, j] == data.action[start + j, 0]
        if all(inside):
            assert batch.next_obs[b].tolist() == data.obs[start + h].tolist()
        known = all(inside) and all(
            start + h + j < len(data.reward) and bool(data.transition[start + h + j])
            for j in range(how.chunk)
        )
        assert batch.extras["next_action_valid"][b] == known
        if known:
            assert (
                batch.extras["next_action"][b].tolist()
                == data.action[start + h : start + h + how.chunk, 0].tolist()
            )


def test_frames_stack_inside_their_trajectory():
    data = rows(obs_shape=(2, 2, 1))
    batch = window(data, data.index, 0.9, Windows(frame_stack=3))
    assert batch.obs.shape == (10, 2, 2, 3) and batch.obs.dtype == jnp.uint8
    assert batch.obs[:, 0, 0].tolist()[:5] == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [10, 10, 10],
        [10, 10, 11],
    ]
    assert batch.next_obs[:, 0, 0].tolist()[:5] == [
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [10, 10, 11],
        [10, 11, 12],
    ]
