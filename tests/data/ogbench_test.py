"""OGBench: names, and our Rows against the arrays that the ogbench package itself returns."""

import tracemalloc
import warnings
from urllib.error import URLError

import numpy as np
import pytest

from rlx.data import d4rl, ogbench
from rlx.data.trajectories import ACTION_LIMIT

MAZE = "pointmaze-medium-navigate-singletask-v0"
CUBE = "cube-single-play-singletask-v0"


def quietly(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **kwargs)


def test_names():
    every = ogbench.names()
    assert len(ogbench.TASKS) == 55
    assert len(ogbench.TASKS) + len(d4rl.TASKS) == 73
    assert set(ogbench.TASKS) <= set(every)
    assert (
        len(every) == len(set(every)) == 7 * 90
    )  # no task, the default one and five on each of 90 files
    import gymnasium
    import ogbench as package  # noqa: F401  registers the environments

    tasks = [ogbench.parse(name) for name in every]
    assert {t.env for t in tasks} | {t.state_env for t in tasks} <= set(gymnasium.registry)


@pytest.mark.parametrize(
    ("name", "env", "data", "task"),
    [
        (
            "antmaze-large-navigate-singletask-task3-v0",
            "antmaze-large-singletask-task3-v0",
            "antmaze-large-navigate-v0",
            3,
        ),
        (
            "visual-scene-play-singletask-v0",
            "visual-scene-singletask-v0",
            "visual-scene-play-v0",
            2,
        ),
        ("puzzle-4x6-noisy-v0", "puzzle-4x6-v0", "puzzle-4x6-noisy-v0", None),
    ],
)
def test_parse(name, env, data, task):
    parsed = ogbench.parse(name)
    assert (parsed.env, parsed.data, parsed.task) == (env, data, task)
    assert parsed.visual == name.startswith("visual-")
    assert parsed.state_env == env.removeprefix("visual-")


@pytest.mark.parametrize(
    ("data", "number"),
    [
        ("pointmaze-medium-navigate", 1),
        ("antsoccer-arena-navigate", 4),
        ("cube-single-play", 2),
        ("scene-play", 2),
        ("puzzle-3x3-play", 4),
        ("puzzle-4x5-play", 2),
    ],
)
def test_default_tasks_are_the_packages_own(data, number):
    task = ogbench.parse(f"{data}-singletask-v0")
    env = quietly(ogbench._state_env, task)
    quietly(env.reset)
    assert env.unwrapped.cur_task_id == task.task == number


@pytest.mark.parametrize(
    "name", [MAZE, CUBE, CUBE.replace("-v0", "-task1-v0"), "cube-single-play-v0"]
)
def test_rows_equal_the_packages_arrays(ogbench_folder, name):
    import ogbench as package

    ours = quietly(ogbench.load, name, ogbench_folder)
    path = ogbench_folder / f"{ogbench.parse(name).data}.npz"
    env, *theirs = quietly(package.make_env_and_datasets, name, dataset_path=str(path))
    assert env.spec.id == ours.env
    for rows, arrays, trajectories in zip((ours.train, ours.val), theirs, (3, 1)):
        index = rows.index
        assert len(index) == 20 * trajectories and len(rows.obs) == 21 * trajectories
        assert rows.obs.dtype == rows.action.dtype == rows.reward.dtype == np.float32
        np.testing.assert_array_equal(rows.obs[index], arrays["observations"])
        np.testing.assert_array_equal(rows.obs[index + 1], arrays["next_observations"])
        clipped = np.clip(arrays["actions"], -ACTION_LIMIT, ACTION_LIMIT)
        assert np.abs(arrays["actions"]).max() == 1.0
        np.testing.assert_array_equal(rows.action[index], clipped)
        if "singletask" in name:
            np.testing.assert_array_equal(rows.reward[index], arrays["rewards"])
            np.testing.assert_array_equal(rows.terminated[index], arrays["masks"] == 0)
        else:
            assert not rows.reward.any() and not rows.terminated.any()
        ends = np.flatnonzero(arrays["terminals"])
        np.testing.assert_array_equal(np.flatnonzero(~rows.transition[index + 1]), ends)
        assert rows.action_known.all()


def test_final_rows_keep_the_action_of_the_file(ogbench_folder):
    rows = quietly(ogbench.load, CUBE, ogbench_folder).train
    with np.load(ogbench_folder / "cube-single-play-v0.npz") as file:
        finals = file["actions"][20::21]
    np.testing.assert_array_equal(rows.action[20::21], np.clip(finals, -ACTION_LIMIT, ACTION_LIMIT))


def test_completed_states_and_sparse_rewards(ogbench_folder):
    cube = quietly(ogbench.load, CUBE, ogbench_folder)
    assert cube.train.terminated.sum() == 15  # rows 5 to 9 of three trajectories
    assert quietly(ogbench.load, MAZE, ogbench_folder).train.terminated.sum() > 0
    sparse = quietly(ogbench.load, CUBE, ogbench_folder, sparse=True)
    assert sparse.sparse
    np.testing.assert_array_equal(sparse.train.reward, cube.train.reward)  # one subtask: the same
    for name in (MAZE, "cube-single-play-v0"):
        with pytest.raises(ValueError, match="sparse=True changes nothing"):
            ogbench.load(name, ogbench_folder, sparse=True)


def scene_file(folder, rows=42):
    """A scene file whose buttons change once; cube, drawer and window stay where they are."""
    qpos = np.zeros((rows, 14 + 7 + 2 + 2), np.float32)
    states = np.zeros((rows, 2), np.int64)
    states[: rows // 2] = 1
    terminals = np.arange(rows) % 21 == 20
    np.savez(
        folder / "scene-play-v0.npz",
        observations=np.zeros((rows, 40), np.float32),
        actions=np.zeros((rows, 5), np.float32),
        terminals=terminals,
        qpos=qpos,
        button_states=states,
    )


def test_sparse_rewards_of_a_scene(tmp_path):
    scene_file(tmp_path)
    name = "scene-play-singletask-task1-v0"
    dense = quietly(ogbench.load, name, tmp_path)
    sparse = quietly(ogbench.load, name, tmp_path, sparse=True)
    assert dense.val is None
    values = dense.train.reward[dense.train.index]
    assert values.min() < -1 and len(np.unique(values)) == 2
    np.testing.assert_array_equal(
        sparse.train.reward[sparse.train.index], np.where(values != 0, -1.0, 0.0)
    )


def visual_file(folder, rows):
    frames = np.random.default_rng(0).integers(0, 256, (rows, 64, 64, 3), dtype=np.uint8)
    np.savez(
        folder / "visual-cube-single-play-v0.npz",
        observations=frames,
        actions=np.zeros((rows, 5), np.float32),
        terminals=np.arange(rows) % 101 == 100,
        qpos=np.zeros((rows, 21), np.float32),
    )
    return frames


def test_images_are_held_once(tmp_path, monkeypatch):
    """25 MB of frames; the peak leaves no room for a second copy. Rewards need no renderer."""
    frames = visual_file(tmp_path, 2020)
    name = "visual-cube-single-play-singletask-task1-v0"
    env = quietly(ogbench._state_env, ogbench.parse(name))
    monkeypatch.setattr(ogbench, "_state_env", lambda _: env)  # its own memory is not counted
    quietly(env.reset)
    tracemalloc.start()
    data = quietly(ogbench.load, name, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.train.obs.dtype == np.uint8 and len(data.train.index) == 2000
    np.testing.assert_array_equal(data.train.obs, frames)
    assert peak < 1.2 * frames.nbytes


def test_a_missing_file_names_url_folder_and_command(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        ogbench.load("antmaze-large-navigate-singletask-task1-v0", tmp_path)
    text = str(info.value)
    assert f"{ogbench.URL}/antmaze-large-navigate-v0.npz" in text
    assert str(tmp_path / "antmaze-large-navigate-v0.npz") in text
    assert "--config.data.download=true" in text
    command = "python -m experiments.make_data --env=antmaze-large --type=navigate --episodes=1000"
    assert f"{command} --out={tmp_path}" in text


def test_download_only_where_asked_for(tmp_path, monkeypatch):
    asked = []

    def fails(stems, folder):
        asked.append((stems, folder))
        raise URLError("no route to host")

    monkeypatch.setattr("ogbench.download_datasets", fails)
    with pytest.raises(FileNotFoundError):
        ogbench.load(CUBE, tmp_path)
    assert asked == []
    with pytest.raises(FileNotFoundError, match="no route to host"):
        ogbench.load(CUBE, tmp_path, download=True)
    assert asked == [(["cube-single-play-v0"], str(tmp_path))]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cube-singel-play-singletask-v0", "nearest: cube-single-play-singletask-v0"),
        ("cube-single-play-singletask-task6-v0", "nearest: cube-single-play-singletask-task"),
        ("puzzle-4x6-play-100m-v0", "100M-transition sets"),
    ],
)
def test_unknown_names(name, says):
    with pytest.raises(ValueError, match=says):
        ogbench.parse(name)


def test_unusable_files(ogbench_folder, tmp_path):
    with pytest.raises(ValueError, match="leave folder and download out"):
        ogbench.load(CUBE, tmp_path, ogbench_folder / "cube-single-play-v0.npz")
    with pytest.raises(ValueError, match="is a folder"):
        ogbench.load(CUBE, path=tmp_path)
    np.savez(tmp_path / "bare.npz", observations=np.zeros((3, 2)), actions=np.zeros((3, 5)))
    with pytest.raises(ValueError, match="lacks terminals, qpos; it has observations, actions"):
        ogbench.load(CUBE, path=tmp_path / "bare.npz")
    with pytest.raises(ValueError, match=r"float32 \(63, 28\), expected uint8 images"):
        ogbench.load(
            "visual-cube-single-play-singletask-v0",
            path=ogbench_folder / "cube-single-play-v0.npz",
        )
