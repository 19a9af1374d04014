"""RLDS: what was written in each file format comes back, without TensorFlow."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import rlds_sets

from rlx.data import features, rlds

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


def test_every_kind_of_feature_is_what_tfds_itself_reads(tmp_path):
    import tensorflow_datasets as tfds

    rng, F = np.random.default_rng(0), tfds.features
    step = {
        "observation": {
            "state": F.Tensor(shape=(7,), dtype=np.float32),
            "double": F.Tensor(shape=(2, 3), dtype=np.float64),
            "zlib": F.Tensor(shape=(2,), dtype=np.float32, encoding="zlib"),
            "raw": F.Tensor(shape=(2,), dtype=np.int32, encoding="bytes"),
            "small": F.Tensor(shape=(2, 2), dtype=np.uint8),
        },
        "action_dict": {"x": F.Scalar(np.float32)},
        "language_instruction": F.Text(),
        "is_first": F.Scalar(np.bool_),
        "number": np.int64,
        "label": F.ClassLabel(num_classes=3),
    }
    tree = F.FeaturesDict(
        {"steps": F.Dataset(step), "meta": {"path": F.Text(), "many": F.Sequence(np.int64)}}
    )

    def values(t):
        return {
            "observation": {
                "state": rng.normal(size=7).astype(np.float32),
                "double": rng.normal(size=(2, 3)),
                "zlib": rng.normal(size=2).astype(np.float32),
                "raw": rng.integers(-9, 9, 2).astype(np.int32),
                "small": rng.integers(0, 256, (2, 2)).astype(np.uint8),
            },
            "action_dict": {"x": np.float32(t)},
            "language_instruction": f"do {t} ü",
            "is_first": t == 0,
            "number": -5 if t else 10**12,
            "label": t % 3,
        }

    made = [
        {"steps": [values(t) for t in range(3 + i)], "meta": {"path": "a", "many": np.arange(i)}}
        for i in range(3)
    ]
    folder = rlds_sets.build(tmp_path, tree, made, "array_record")
    ours = rlds.Split(folder)
    theirs = tfds.builder_from_directory(str(folder)).as_data_source(split="train")
    assert len(ours) == len(theirs) == 3
    for number in range(3):
        want = rlds._stacked(theirs[number]["steps"])
        assert_same(ours[number]["steps"], want)
        assert ours[number]["meta"]["path"] == theirs[number]["meta"]["path"].decode()
        np.testing.assert_array_equal(ours[number]["meta"]["many"], theirs[number]["meta"]["many"])


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        if isinstance(value, dict):
            assert_same(ours[key], value)
        else:
            assert ours[key].dtype == value.dtype, key
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


def robot_episodes():
    rng = np.random.default_rng(1)
    return [
        {
            "steps": {
                "observation": {
                    "image": rng.integers(0, 256, (n, 5, 6, 3), np.uint8),
                    "state": rng.normal(size=(n, 4)).astype(np.float32),
                },
                "action": rng.normal(size=(n, 2)).astype(np.float32),
                "language_instruction": [f"task {n}"] * n,
            },
            "episode_metadata": {"file_path": f"/{n}"},
        }
        for n in LENGTHS
    ]


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    return rlds_sets.write_robot(tmp_path_factory.mktemp("rlds") / "1.0.0", robot_episodes())


def test_images_and_texts_come_back_exactly_and_at_random(robot):
    split = rlds.Split(robot)
    assert len(split) == 3
    for number in (2, 0, 1):
        read, wrote = split[number], robot_episodes()[number]
        images = read["steps"]["observation"]["image"]
        np.testing.assert_array_equal(np.asarray(images), wrote["steps"]["observation"]["image"])
        np.testing.assert_array_equal(images[1], wrote["steps"]["observation"]["image"][1])
        np.testing.assert_array_equal(read["steps"]["action"], wrote["steps"]["action"])
        assert list(read["steps"]["language_instruction"]) == [f"task {LENGTHS[number]}"] * len(
            images
        )
        assert read["episode_metadata"] == wrote["episode_metadata"]
    with pytest.raises(IndexError, match="episode 3 of 3"):
        split[3]
    assert "tensorflow" not in sys.modules


def test_tfds_reads_what_our_writer_wrote(robot):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import example_parser

    from rlx.data import tfrecord

    builder = tfds.builder_from_directory(str(robot))
    parser = example_parser.ExampleParserNp(builder.info.features.get_serialized_info())
    path = sorted(robot.glob("*tfrecord*"))[0]
    records = [tfrecord.read(path, place) for place in tfrecord.places(path)]
    first = parser.parse_example(records[0])
    np.testing.assert_array_equal(first["steps"]["action"], robot_episodes()[0]["steps"]["action"])
    assert first["steps"]["observation"]["image"][2] == rlds_sets.png(
        robot_episodes()[0]["steps"]["observation"]["image"][2]
    )


def test_the_index_is_kept_beside_the_data_and_made_anew_when_they_change(tmp_path):
    folder = rlds_sets.write_robot(tmp_path / "1.0.0", robot_episodes())
    made = []

    def make():
        made.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        np.testing.assert_array_equal(rlds.Split(folder).cached("t", make)["x"], [0, 1, 2])
    assert len(made) == 1
    assert (folder / "rlx-index-train.npz").is_file()
    shard = sorted(folder.glob("*tfrecord*"))[1]
    os.utime(shard, ns=(0, 0))
    rlds.Split(folder).cached("t", make)
    assert len(made) == 2
    assert not list(folder.glob("*.part"))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    folder = rlds_sets.write_robot(tmp_path / "1.0.0", robot_episodes())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rlds.os, "replace", full)
    with pytest.warns(UserWarning, match=r"rlx-index-train.npz cannot be written .*No space"):
        assert len(rlds.Split(folder)) == 3
    assert not list(folder.glob("rlx-*"))


def test_damaged_and_incomplete_sets_name_the_file(tmp_path):
    folder = rlds_sets.write_robot(tmp_path / "1.0.0", robot_episodes())
    split = rlds.Split(folder)
    first, second = sorted(folder.glob("*tfrecord-*"))
    whole = first.read_bytes()
    first.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(ValueError, match=r"tfrecord-00000-of-00002: the contents .* at byte 0 "):
        split[0]
    first.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"tfrecord-00000-of-00002 ends in mid-record"):
        rlds.Split(folder)
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match="has 1 records, expected 2"):
        rlds.Split(folder)
    first.unlink()
    with pytest.raises(ValueError, match="split 'train' has 2 files, found 1"):
        rlds.Split(folder)


def test_nested_observations_are_stacked():
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


def tensor(*shape, **more):
    return {
        "tensor": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": "float32", **more}
    }


def nested(children):
    return {"featuresDict": {"features": children}}


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"pythonClassName": "audio.Audio", "audio": {}}, "feature root is a audio.Audio"),
        (
            nested({"steps": {"sequence": {"feature": nested({"x": tensor(-1, 2)})}}}),
            "feature steps/x is ragged",
        ),
    ],
)
def test_features_that_are_not_read_are_named(tree, says):
    with pytest.raises(ValueError, match=says):
        features.leaves(tree)


def test_records_that_do_not_fit_their_features_are_named(robot):
    tree = json.loads((robot / "features.json").read_text())
    leaves = features.leaves(tree)
    from rlx.data import example

    with pytest.raises(ValueError, match=r"no feature .*; it has a"):
        features.decode(example.serialize({"a": np.zeros(2, np.float32)}), leaves)
    leaf = {"a": features.Leaf("tensor", (3,), "float32", "none", 1)}
    with pytest.raises(ValueError, match=r"feature a of a record: cannot reshape"):
        features.decode(example.serialize({"a": np.zeros(4, np.float32)}), leaf)
