"""Data made here: loads as OGBench's own, and depends on the seed alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlx.data.synth import expert, manipulation, maze, ogbench
from rlx.data.synth.shards import Plan, Shards


def made(folder: Path, env: str, kind: str, episodes: int, rows: int) -> Shards:
    shards = Shards(Plan(env, kind, episodes, rows, seed=3, expert=""), folder)
    assert shards.make(1, None, [], lambda made: None)
    shards.finish()
    return shards


@pytest.mark.parametrize(
    ("env", "kind", "task", "episodes", "rows", "obs", "action", "qpos"),
    [
        ("pointmaze-medium", "navigate", "task1", 2, 51, 2, 2, 2),
        ("cube-single", "play", "task2", 1, 101, 28, 5, 21),
    ],
)
def test_ogbench_loads_the_files(tmp_path, env, kind, task, episodes, rows, obs, action, qpos):
    import ogbench as package

    shards = made(tmp_path, env, kind, episodes, rows)
    with np.load(shards.train) as file:
        arrays = dict(file)
    n = episodes * rows
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items() if k != "qvel"} == {
        "observations": ((n, obs), "float32"),
        "actions": ((n, action), "float32"),
        "terminals": ((n,), "bool"),
        "qpos": ((n, qpos), "float32"),
    }
    np.testing.assert_array_equal(
        np.flatnonzero(arrays["terminals"]), np.arange(1, n // rows + 1) * rows - 1
    )
    assert np.abs(arrays["actions"]).max() <= 1
    _, train, val = package.make_env_and_datasets(
        f"{env}-{kind}-singletask-{task}-v0", dataset_path=str(shards.train)
    )
    steps = episodes * (rows - 1)
    assert train["observations"].shape == train["next_observations"].shape == (steps, obs)
    assert val["actions"].shape == (rows - 1, action)
    np.testing.assert_array_equal(
        train["observations"][1 : rows - 1], train["next_observations"][: rows - 2]
    )
    complete = train["rewards"] == 0
    np.testing.assert_array_equal(train["masks"], 1.0 - complete)
    assert set(np.unique(train["rewards"])) <= {-1.0, 0.0}
    assert not np.array_equal(train["observations"][:50], val["observations"][:50])


@pytest.mark.parametrize(
    ("env", "kind", "rows"),
    [("scene", "play", 60), ("puzzle-3x3", "noisy", 40), ("pointmaze-teleport", "navigate", 60)],
)
def test_an_episode_is_a_function_of_its_seed(env, kind, rows):
    """Whatever the environment did before, and whatever else drew from the global generator."""
    generator = ogbench.Generator(env, kind, rows)
    generator.episode(1)
    np.random.seed(0)  # noqa: NPY002
    used, other = generator.episode(2), generator.episode(3)
    drawn = np.random.uniform()  # noqa: NPY002
    generator.close()
    fresh = ogbench.generate_episode(env, kind, 2, rows)
    assert used.keys() == fresh.keys()
    for name in used:
        np.testing.assert_array_equal(used[name], fresh[name])
    assert not np.array_equal(used["actions"], other["actions"])
    assert drawn == np.random.RandomState(0).uniform()
    if env != "pointmaze-teleport":
        assert fresh["button_states"].dtype == np.int64


def test_rows_hold_the_state_before_the_action():
    """A point moves by 0.2 of its action, when no wall is near, and sees its own position."""
    episode = ogbench.generate_episode("pointmaze-medium", "path", 0, 30)
    np.testing.assert_array_equal(episode["observations"], episode["qpos"])
    moved = np.diff(episode["observations"], axis=0)
    free = np.abs(moved - 0.2 * episode["actions"][:-1]).max(axis=1) < 1e-5
    assert free.mean() > 0.7


def test_navigate_reaches_goals_and_sets_new_ones():
    """The point is at cells far apart within one episode."""
    episode = ogbench.generate_episode("pointmaze-medium", "navigate", 0, 400)
    cells = np.unique(np.round(episode["observations"] / 4), axis=0)
    assert len(cells) > 10


def test_goals_are_no_straight_hallways_and_stitches_are_four_cells_long():
    walls = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [1] * 5])
    assert maze._junctions(walls) == [(1, 1), (1, 2), (1, 3), (3, 2)]
    generator = ogbench.Generator("pointmaze-medium", "stitch", 10)
    assert set(maze._around(generator._env.unwrapped, (1, 1))) == {(3, 3), (4, 2)}
    generator.close()


def test_noise_of_an_episode_has_the_published_scale():
    np.random.seed(0)  # noqa: NPY002
    noise = manipulation._noise(p_random=0.1)
    drawn = np.array([noise(np.full(5, 100.0)) for _ in range(4000)])
    random = (np.abs(drawn) <= 1).all(axis=1)
    assert random.mean() == pytest.approx(0.1, abs=0.02)
    std = drawn[~random].std(axis=0)
    np.testing.assert_allclose(std / std[0], [1, 1, 1, 3, 10], rtol=0.06)
    assert 0 < std[0] < 0.1


def test_broken_scenes_are_thrown_away(monkeypatch):
    seeds = []
    collect, verdicts = manipulation.collect, iter([False, False, True])
    monkeypatch.setattr(manipulation, "_healthy", lambda env, rows: next(verdicts))
    monkeypatch.setattr(
        manipulation,
        "collect",
        lambda env, kind, seed, p: (seeds.append(seed), collect(env, kind, seed, p))[1],
    )
    episode = ogbench.generate_episode("scene", "play", 5, 5)
    assert len(episode["actions"]) == 5
    assert seeds[0] == 5 and len(set(seeds)) == 3


@pytest.mark.parametrize(
    ("y", "z", "good"),
    [(0.0, 0.02, True), (0.29, 0.02, False), (-0.3, 0.02, False), (-0.3, 0.07, True)],
)
def test_where_the_cube_of_a_scene_may_be(y, z, good):
    model = SimpleNamespace(joint=lambda name: SimpleNamespace(qposadr=[1]))
    env = SimpleNamespace(unwrapped=SimpleNamespace(model=model))
    rows = [{"qpos": np.array([9, 0.4, 0, 0.02])}, {"qpos": np.array([9, 0.4, y, z])}]
    assert manipulation._healthy(env, rows) == good


def test_a_walker_follows_its_policy(tmp_path):
    """Only the expert's file is needed; what does not fit the body is refused."""
    layers = [(np.zeros((29, 4)), np.ones(4)), (np.full((4, 8), 0.5), np.zeros(8))]
    expert.save(str(tmp_path), layers)
    policy = expert.load(str(tmp_path))
    action = np.tanh(4 * 0.5 * 0.841192)  # GELU(1) = 0.841192
    np.testing.assert_allclose(policy(np.zeros(27), np.zeros(2)), action, rtol=1e-5)
    episode = ogbench.generate_episode("antmaze-medium", "navigate", 0, 20, policy)
    assert episode["observations"].shape == (20, 29) and episode["actions"].shape == (20, 8)
    assert episode["actions"].mean() == pytest.approx(action, abs=0.1)
    with pytest.raises(ValueError, match="needs a policy"):
        ogbench.Generator("antmaze-medium", "navigate", 20)
    with pytest.raises(ValueError, match=r"does not take 67 numbers and 2"):
        ogbench.Generator("humanoidmaze-medium", "navigate", 20, policy)


@pytest.mark.parametrize(
    ("env", "kind", "text"),
    [
        ("cube-singel", "play", "nearest: cube-single,"),
        ("antsoccer-arena", "navigate", "no data can be made"),
        ("cube-single", "plai", "try 'play'"),
    ],
)
def test_unknown_names_give_the_nearest(env, kind, text):
    with pytest.raises(ValueError, match=text):
        ogbench.check(env, kind)


@pytest.mark.parametrize(
    ("env", "kind", "size"),
    [
        ("cube-single", "play", (1000, 1001)),
        ("puzzle-4x6", "noisy", (5000, 1001)),
        ("visual-cube-triple", "play", (3000, 1001)),
        ("antmaze-giant", "navigate", (500, 2001)),
        ("humanoidmaze-giant", "navigate", (500, 4001)),
        ("pointmaze-large", "stitch", (5000, 201)),
        ("antmaze-large", "explore", (10000, 501)),
    ],
)
def test_published_sizes(env, kind, size):
    assert ogbench.size(env, kind) == size
