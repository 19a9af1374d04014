"""Robot data sets: planted files laid out like the published ones, through each adapter."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rlds_sets

from rlx.data import oxe

T = 6


def rng(seed=0):
    return np.random.default_rng(seed)


def images(seed, n=T):
    return rng(seed).integers(0, 256, (n, 4, 4, 3), np.uint8)


def floats(seed, *shape):
    return rng(seed).normal(size=(T, *shape)).astype(np.float32)


def bridge(seed):
    action = floats(seed, 7)
    action[:, 6] = np.arange(T) % 2
    return {
        "observation": {"image_0": images(seed), "image_1": images(9), "state": floats(1, 7)},
        "action": action,
        "language_instruction": [f"bridge {seed}"] * T,
        "is_first": np.arange(T) == 0,
    }


def droid(seed):
    velocity = floats(seed, 7)
    velocity[2] = 5e-4  # at rest
    return {
        "observation": {
            "exterior_image_1_left": images(seed),
            "exterior_image_2_left": images(seed + 100),
            "wrist_image_left": images(seed + 200),
            "joint_position": floats(3, 7),
            "gripper_position": floats(4, 1),
        },
        "action_dict": {
            "joint_velocity": velocity,
            "joint_position": floats(5, 7),
            "gripper_position": floats(6, 1),
        },
        "language_instruction": [f"droid {seed}"] * T,
        "language_instruction_2": [""] * T,
        "language_instruction_3": [f"the same {seed}"] * T,
    }


def libero(seed):
    action = floats(seed, 7)
    action[:, 6] = np.where(np.arange(T) < 3, -1, 1)
    return {
        "observation": {
            "image": images(seed),
            "wrist_image": images(seed + 1),
            "state": floats(1, 8),
        },
        "action": action,
        "language_instruction": [f"libero {seed}"] * T,
    }


def fractal(seed):
    change = np.array([0, 0, 1, 0, -1, 0], np.float32)
    return {
        "observation": {
            "image": images(seed),
            "base_pose_tool_reached": floats(1, 7),
            "gripper_closed": floats(2, 1),
            "natural_language_instruction": [f"fractal {seed}"] * T,
        },
        "action": {
            "world_vector": floats(3, 3),
            "rotation_delta": floats(4, 3),
            "gripper_closedness_action": change[:, None],
        },
    }


def store(tmp_path, make, name, paths=("success", "success", "success")):
    made = [
        {"steps": make(seed), "episode_metadata": {"file_path": f"/data/{path}/{seed}"}}
        for seed, path in enumerate(paths)
    ]
    folder = rlds_sets.write_robot(tmp_path / name, made)
    return folder, oxe.Store(folder, name)


def test_bridge(tmp_path):
    _, episodes = store(tmp_path, bridge, "bridge")
    episode, wrote = episodes[2], bridge(2)
    assert episodes.lengths.tolist() == [T] * 3
    assert episodes.kept is None
    np.testing.assert_array_equal(episode.actions[:, :6], wrote["action"][:, :6])
    np.testing.assert_array_equal(episode.actions[:, 6], [1, 0, 1, 0, 1, 0])  # 1 = closed
    np.testing.assert_array_equal(episode.state, wrote["observation"]["state"])
    assert [list(column) for column in episode.prompts] == [["bridge 2"] * T]
    assert set(episode.images) == {"base"}
    np.testing.assert_array_equal(
        np.stack(list(episode.images["base"])), wrote["observation"]["image_0"]
    )
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("name", "key"), [("droid", "joint_velocity"), ("droid_position", "joint_position")]
)
def test_droid(tmp_path, name, key):
    folder, episodes = store(tmp_path, droid, name, ("success", "failure", "success"))
    moving = [True, True, False, True, True, True]
    assert [kept.tolist() for kept in episodes.kept] == [moving, [False] * T, moving]
    episode, wrote = episodes[2], droid(2)
    np.testing.assert_array_equal(
        episode.actions,
        np.hstack([wrote["action_dict"][key], wrote["action_dict"]["gripper_position"]]),
    )
    np.testing.assert_array_equal(episode.state[:, 7:], wrote["observation"]["gripper_position"])
    both = [wrote["observation"][f"exterior_image_{i}_left"] for i in (1, 2)]
    used = {
        next(i for i in (0, 1) if (episode.images["base"][t] == both[i][t]).all()) for t in range(T)
    }
    assert used == {0, 1}
    np.testing.assert_array_equal(
        episode.images["wrist"][3], wrote["observation"]["wrist_image_left"][3]
    )
    source = oxe.chunks(folder, name, image_size=(8, 8))
    batch = source.batch(np.arange(len(source)))
    assert list(zip(batch["episode"], batch["step"])) == [
        (e, t) for e in (0, 2) for t in (0, 1, 3, 4, 5)
    ]
    assert batch["actions"].shape == (10, 15, 8)  # one second at 15 Hz
    assert oxe.chunks(folder, name, 4).batch(np.arange(1))["actions"].shape == (1, 4, 8)
    last = batch["actions"][-1]
    np.testing.assert_array_equal(last[1:, 7], [last[0, 7]] * 14)  # the gripper stays
    still = np.zeros(7) if name == "droid" else last[0, :7]
    np.testing.assert_array_equal(last[1:, :7], [still] * 14)
    assert set(batch["prompt"][5:]) == {"droid 2", "the same 2"}
    assert batch["images"]["wrist"].shape == (10, 8, 8, 3)


def test_libero(tmp_path):
    _, episodes = store(tmp_path, libero, "libero")
    np.testing.assert_array_equal(episodes[0].actions[:, 6], [0, 0, 0, 1, 1, 1])
    assert set(episodes[0].images) == {"base", "wrist"}


def test_fractal(tmp_path):
    _, episodes = store(tmp_path, fractal, "fractal")
    episode, wrote = episodes[1], fractal(1)
    np.testing.assert_array_equal(episode.actions[:, :3], wrote["action"]["world_vector"])
    np.testing.assert_array_equal(episode.actions[:, 3:6], wrote["action"]["rotation_delta"])
    np.testing.assert_array_equal(episode.actions[:, 6], [0, 0, 1, 1, 0, 0])
    assert episode.state.shape == (T, 8)
    assert episode.prompts[0][3] == "fractal 1"


@pytest.mark.parametrize(
    ("changes", "closed"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, -1, 0], [1, 0, 0]),  # what opens first was closed
        ([1, 0, 0], [1, 1, 1]),
        ([0.2, 1, -0.3], [0, 1, 1]),
    ],
)
def test_gripper_commands_that_say_changes(changes, closed):
    np.testing.assert_array_equal(oxe.from_changes(np.array(changes, np.float32)), closed)


def test_the_scan_is_kept_beside_the_data(tmp_path, monkeypatch):
    folder, _ = store(tmp_path, droid, "droid")
    monkeypatch.setattr(oxe.Store, "_scan", None)  # would fail if it were called
    assert len(oxe.Store(folder, "droid").kept) == 3
    assert (folder / "rlx-droid-train.npz").is_file()


def test_adapters_agree_with_themselves():
    for adapter in oxe.ADAPTERS.values():
        assert adapter.still[-1] is False  # the gripper
        assert adapter.weight > 0 and adapter.hz > 0


def test_bad_input(tmp_path):
    folder, _ = store(tmp_path, bridge, "bridge")
    with pytest.raises(ValueError, match="unknown robot data set 'brigde'; nearest: bridge"):
        oxe.Store(folder, "brigde")
    with pytest.raises(ValueError, match="steps have no action_dict/joint_velocity: at 'action_d"):
        oxe.Store(folder, "droid")
