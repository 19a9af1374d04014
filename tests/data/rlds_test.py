"""RLDS: what was written in each file format comes back, without TensorFlow."""

import sys

import numpy as np
import pytest
import rlds_sets

from rlx.data import rlds

LENGTHS = (3, 5, 4)


def episodes():
    rng = np.random.default_rng(0)
    return [
        rlds_sets.steps(
            rng.normal(size=(n + 1, 3)), rng.uniform(-1, 1, (n, 2)), np.arange(n), terminal=n == 5
        )
        for n in LENGTHS
    ]


@pytest.mark.parametrize("file_format", ["array_record", "parquet", "tfrecord"])
def test_what_was_written_comes_back(tmp_path, file_format):
    folder = rlds_sets.write(tmp_path, episodes, file_format)
    assert len(list(folder.glob(f"*{file_format}*"))) == 1
    read = list(rlds.episodes(folder))
    found = sorted(len(episode["steps"]["action"]) - 1 for episode in read)
    assert found == sorted(LENGTHS)  # TFDS shuffles the episodes of a split
    written = {len(steps): steps for steps in episodes()}
    for episode in read:
        steps = written[len(episode["steps"]["is_last"])]
        assert set(episode["steps"]) == set(steps[0])
        for key, values in episode["steps"].items():
            np.testing.assert_array_equal(values, np.stack([step[key] for step in steps]))
    assert "tensorflow" not in sys.modules


def test_nested_observations_are_stacked(tmp_path):
    steps = [{"observation": {"a": np.full(2, i), "b": i}, "action": i} for i in range(4)]
    stacked = rlds._stacked(iter(steps))
    assert stacked["observation"]["a"].shape == (4, 2)
    np.testing.assert_array_equal(stacked["observation"]["b"], np.arange(4))
    assert rlds._stacked({"action": np.arange(3)})["action"].shape == (3,)


def test_unusable_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no dataset_info.json and features.json"):
        next(rlds.episodes(tmp_path))
    folder = rlds_sets.write(tmp_path, episodes, "tfrecord")
    with pytest.raises(ValueError, match="no split 'val'; it has train"):
        next(rlds.episodes(folder, "val"))
    path = next(folder.glob("*tfrecord*"))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="ends in mid-record"):
        list(rlds.episodes(folder))
