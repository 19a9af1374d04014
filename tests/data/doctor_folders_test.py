"""The tokenizer doctor on recorded data sets: the chunks that it sees, and what it finds there."""

from __future__ import annotations

import json

import lerobot_sets
import numpy as np
import pytest
import rlds_sets

from rlx.data.recorded import action_chunks
from rlx.tokenizers.doctor.__main__ import main

HZ, T = 4, 30


def motion(seed, dims=3):
    """Smooth paths of unit size, f32 [T, dims]."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, T)[:, None]
    turns, phase = rng.uniform(0.3, 1.5, dims), rng.uniform(0, 6, dims)
    return np.float32(np.sin(2 * np.pi * turns * t + phase))


def lerobot(folder, actions, write=lerobot_sets.write_v3):
    black = np.zeros((T, 8, 8, 3), np.uint8)
    episodes = [lerobot_sets.Recorded(a[:, :2] * 0.5, a, black, black, ["go"] * T) for a in actions]
    return write(folder, episodes, HZ)


def windows(actions, horizon=HZ):
    """Every chunk, the last action repeated beyond the end."""
    index = np.minimum(np.arange(T)[:, None] + np.arange(horizon), T - 1)
    return np.concatenate([a[index] for a in actions])


def diagnosed(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv):
    """What the command says, in its one line."""
    assert main([*map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(argv[0]) in line
    return line


@pytest.mark.parametrize("write", [lerobot_sets.write_v2, lerobot_sets.write_v3])
def test_a_lerobot_set_is_read_as_the_chunks_of_a_second(tmp_path, capsys, write):
    actions = [motion(seed) for seed in range(4)]
    folder = lerobot(tmp_path / "set", actions, write)
    np.testing.assert_array_equal(action_chunks(folder), windows(actions))
    np.save(tmp_path / "same.npy", windows(actions))
    found = diagnosed(capsys, folder)
    assert found == diagnosed(capsys, tmp_path / "same.npy")
    assert found["constant_dims"] == found["outliers"] == []
    assert found["round_trip_failures"]["ours"] == 0
    assert diagnosed(capsys, folder, "--horizon=6")["shape"] == [4 * T, 6, 3]


def test_differences_are_taken_to_the_state(tmp_path, capsys):
    actions = [motion(seed) for seed in range(4)]
    folder = lerobot(tmp_path / "set", actions)
    chunks = windows(actions)
    chunks[..., :2] -= chunks[:, :1, :2] * np.float32(0.5)
    np.save(tmp_path / "same.npy", chunks)
    found = diagnosed(capsys, folder, "--delta=1,1,0")
    same = diagnosed(capsys, tmp_path / "same.npy")
    assert found["scales"] == same["scales"] != diagnosed(capsys, folder)["scales"]


def test_planted_faults_are_found(tmp_path, capsys):
    still = [motion(seed) for seed in range(4)]
    for action in still:
        action[:, 1] = 0.25
    assert diagnosed(capsys, lerobot(tmp_path / "still", still))["constant_dims"] == [1]
    spiked = [motion(seed) for seed in range(4)]
    spiked[2][7, 0] = 40  # beyond the quantiles that normalise
    folder = lerobot(tmp_path / "spiked", spiked)
    (outlier,) = diagnosed(capsys, folder)["outliers"]
    low, high = np.quantile(windows(spiked)[..., 0], [0.01, 0.99])
    assert outlier["dim"] == 0
    assert outlier["largest"] == pytest.approx((80 - low - high) / (high - low), rel=0.1)
    assert main([str(folder)]) == 0
    assert "outliers: dim 0 goes to " in capsys.readouterr().out


def test_rlds_is_read_by_the_robots_adapter(tmp_path, capsys):
    actions = [motion(seed, 7) for seed in range(3)]
    for action in actions:
        action[:, 6] = np.arange(T) % 7 < 3  # 1 = open there, closed here
    steps = [
        {
            "observation": {"image_0": np.zeros((T, 4, 4, 3), np.uint8), "state": a},
            "action": a,
            "language_instruction": ["go"] * T,
        }
        for a in actions
    ]
    folder = rlds_sets.write_robot(tmp_path / "bridge", [{"steps": one} for one in steps])
    chunks = action_chunks(folder, "bridge")
    assert chunks.shape == (3 * T, 5, 7)
    np.testing.assert_array_equal(chunks[:T, 0, 6], 1 - actions[0][:, 6])
    assert diagnosed(capsys, folder, "--format=bridge")["shape"] == [3 * T, 5, 7]
    assert "is RLDS: say with --format which robot's, of bridge" in refused(capsys, folder)
    other = refused(capsys, folder, "--format=fractal")
    assert "steps have no action/world_vector" in other


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "has neither meta/info.json (LeRobot) nor dataset_info.json and features.json (RLDS"),
        (["--format=lerobot"], "has no meta/info.json: it is no LeRobot data set"),
        (["--format=brige"], "unknown robot data set 'brige'; nearest: bridge"),
        (["--key=actions"], "is a folder: --key is for .npz files"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, capsys, flags, says):
    assert says in refused(capsys, tmp_path, *flags)


def test_folders_that_are_damaged(tmp_path, capsys):
    folder = lerobot(tmp_path / "set", [motion(seed) for seed in range(4)])
    meta = folder / "meta/info.json"
    whole = json.loads(meta.read_text())
    meta.write_text(json.dumps({key: whole[key] for key in whole if key != "fps"}))
    assert refused(capsys, folder).endswith(f"{meta} lacks fps")
    meta.write_text("{")
    assert "Expecting property name" in refused(capsys, folder)
    broken = [motion(seed) for seed in range(4)]
    broken[2][7, 1] = np.nan
    said = refused(capsys, lerobot(tmp_path / "nan", broken))
    assert "an action within 4 steps of step 4 of episode 2 is not finite" in said


def test_options_of_folders_and_of_arrays(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((10, 4, 2)))
    assert "--delta is for folders" in refused(capsys, tmp_path / "a.npy", "--delta=1,0")
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), "--delta=1,yes"])
    assert end.value.code == 2
    assert "a 0 or 1 for each action, like 1,1,0, not '1,yes'" in capsys.readouterr().err
