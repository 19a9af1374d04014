"""D4RL: HDF5, RLDS and Minari files of the same planted episodes give the same transitions."""

import warnings

import numpy as np
import pytest
import rlds_sets

from rlx.data import d4rl

LENGTHS = (4, 6, 5)  # transitions; the second one ends in a terminal state
MAZE, PEN = "antmaze-umaze-v2", "pen-human-v1"


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def episodes(obs_dim=29):
    """(observations [T+1, O], actions [T, 2], rewards [T]), each reward its own number."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.normal(size=(n + 1, obs_dim)).astype(np.float32),
            rng.uniform(-1, 1, (n, 2)).astype(np.float32),
            (10 * k + np.arange(n)).astype(np.float32),
        )
        for k, n in enumerate(LENGTHS)
    ]


def hdf5(path, *, next_observations=False):
    """As D4RL writes them: a row per action, a timeout in the row with the final observation.

    The terminal episode has no row for its final observation.
    """
    import h5py

    columns = {key: [] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    following = []
    for k, (obs, action, reward) in enumerate(episodes()):
        terminal = k == 1
        rows = len(action) + (not terminal)
        pad = rows - len(action)
        columns["observations"].append(obs[:rows])
        columns["actions"].append(np.concatenate([action, np.zeros((pad, 2), np.float32)]))
        columns["rewards"].append(np.concatenate([reward, np.zeros(pad, np.float32)]))
        columns["terminals"].append(np.arange(rows) == (rows - 1 if terminal else -1))
        columns["timeouts"].append(np.arange(rows) == (-1 if terminal else rows - 1))
        following.append(np.concatenate([obs[1:], obs[-1:]])[:rows])
    if next_observations:
        columns["next_observations"] = following
    with h5py.File(path, "w") as file:
        for key, parts in columns.items():
            file[key] = np.concatenate(parts)
    return path


def check(rows, offset, *, next_of_terminal=True):
    """The transitions of `rows` are those of `episodes()`, in some order of the episodes."""
    observations = np.concatenate([obs[:-1] for obs, _, _ in episodes()])
    following = np.concatenate([obs[1:] for obs, _, _ in episodes()])
    rewards = np.concatenate([reward for _, _, reward in episodes()])
    order = np.argsort(rows.reward[rows.index], kind="stable")
    index = rows.index[order]
    np.testing.assert_allclose(rows.reward[index], rewards + offset)
    np.testing.assert_array_equal(rows.obs[index], observations)
    np.testing.assert_array_equal(
        rows.action[index], np.concatenate([action for _, action, _ in episodes()])
    )
    np.testing.assert_array_equal(np.flatnonzero(rows.terminated[index]), [9])
    read = np.ones(15, bool) if next_of_terminal else np.arange(15) != 9
    np.testing.assert_array_equal(rows.obs[index + 1][read], following[read])


def test_hdf5_of_adroit(tmp_path):
    data = d4rl.load(PEN, hdf5(tmp_path / "pen.hdf5"))
    # D4RL's file lacks the state after a terminal one; its value is not read.
    check(data.train, 0.0, next_of_terminal=False)
    np.testing.assert_array_equal(np.flatnonzero(~data.train.transition), [4, 11, 17])
    assert (data.reward_offset, data.val) == (0.0, None)


def test_hdf5_of_antmaze(tmp_path):
    data = d4rl.load(MAZE, hdf5(tmp_path / "maze.hdf5"))
    check(data.train, -1.0, next_of_terminal=False)
    # The ant walks on after the goal: terminals is no end, only the row after is another episode's
    # first one and thus taken for its successor, as in d4rl's own conversion.
    np.testing.assert_array_equal(np.flatnonzero(~data.train.transition), [4, 16])
    assert data.reward_offset == -1.0


def test_hdf5_with_next_observations(tmp_path):
    rows = d4rl.from_hdf5(hdf5(tmp_path / "pen.hdf5", next_observations=True), PEN)
    assert len(rows.index) == 17  # rows with a timeout are transitions here
    np.testing.assert_array_equal(np.flatnonzero(~rows.transition), [5, 12, 19])


def test_hdf5_equals_the_conversion_in_words(tmp_path):
    """Against a loop over rows, written from the description of d4rl's qlearning_dataset."""
    import h5py

    path = hdf5(tmp_path / "maze.hdf5")
    with h5py.File(path) as file:
        raw = {key: file[key][:] for key in file}
    kept = [i for i in range(len(raw["rewards"]) - 1) if not raw["timeouts"][i]]
    rows = d4rl.from_hdf5(path, MAZE)
    np.testing.assert_array_equal(rows.obs[rows.index], raw["observations"][kept])
    np.testing.assert_array_equal(
        rows.obs[rows.index + 1], raw["observations"][[i + 1 for i in kept]]
    )
    np.testing.assert_array_equal(rows.reward[rows.index], raw["rewards"][kept] - 1)
    np.testing.assert_array_equal(rows.terminated[rows.index], raw["terminals"][kept])


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_rlds(tmp_path, file_format):
    def planted():
        return [rlds_sets.steps(*episode, terminal=k == 1) for k, episode in enumerate(episodes())]

    folder = rlds_sets.write(tmp_path, planted, file_format)
    data = d4rl.load(MAZE, folder)
    check(data.train, -1.0)
    assert not data.train.action_known[~data.train.transition].any()


def buffers(as_dict):
    from minari.data_collector import EpisodeBuffer

    out = []
    for k, (obs, action, reward) in enumerate(episodes()):
        n = len(action)
        observations = (
            {"achieved_goal": obs[:, :2], "desired_goal": 0 * obs[:, :2], "observation": obs[:, 2:]}
            if as_dict
            else obs
        )
        out.append(
            EpisodeBuffer(
                id=k,
                observations=observations,
                actions=action,
                rewards=reward,
                terminations=(np.arange(n) == n - 1) & (k == 1),
                truncations=(np.arange(n) == n - 1) & (k != 1),
                infos={},
            )
        )
    return out


@pytest.mark.parametrize(("name", "as_dict", "offset"), [(MAZE, True, -1.0), (PEN, False, 0.0)])
def test_minari(tmp_path, monkeypatch, name, as_dict, offset):
    import gymnasium
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    box = gymnasium.spaces.Box
    goal, rest = (box(-np.inf, np.inf, (size,), np.float32) for size in (2, 27))
    minari.create_dataset_from_buffers(
        "planted/episodes-v0",
        buffers(as_dict),
        observation_space=gymnasium.spaces.Dict(
            {"achieved_goal": goal, "desired_goal": goal, "observation": rest}
        )
        if as_dict
        else box(-np.inf, np.inf, (29,), np.float32),
        action_space=box(-1, 1, (2,), np.float32),
    )
    data = d4rl.load(name, "minari:planted/episodes-v0")
    check(data.train, offset)
    assert data.train.obs.shape == (18, 29)
    with pytest.raises(FileNotFoundError, match="minari download planted/absent-v0"):
        d4rl.load(name, "minari:planted/absent-v0")


def test_normalized_score():
    assert d4rl.normalized_score("pen-expert-v1", 3076.8331) == pytest.approx(100.0)
    assert d4rl.normalized_score("door-human-v1", -56.5126) == pytest.approx(0.0)
    np.testing.assert_allclose(
        d4rl.normalized_score("hammer-cloned-v1", np.array([-274.8566, 6259.6391])), [0.0, 50.0]
    )
    assert d4rl.normalized_score(MAZE, 0.84) == pytest.approx(84.0)


@pytest.mark.parametrize(
    ("name", "tfds", "minari"),
    [
        ("antmaze-large-diverse-v2", "d4rl_antmaze/large-diverse-v2", "antmaze/large-diverse-v1"),
        ("pen-human-v1", "d4rl_adroit_pen/v1-human", "pen/human-v2"),
    ],
)
def test_a_missing_file_names_the_three_routes(tmp_path, monkeypatch, name, tfds, minari):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as info:
        d4rl.load(name)
    text = str(info.value)
    assert text.startswith(f"there is no {tmp_path}/.d4rl/datasets/{name}.hdf5")
    assert f"TFDS's {tfds}," in text and f"path=minari:D4RL/{minari}" in text
    with pytest.raises(ValueError, match=r"no dataset_info.json. .* is read from \(1\)"):
        d4rl.load(name, tmp_path)


def test_unusable_files_and_names(tmp_path):
    import h5py

    with pytest.raises(ValueError, match="nearest: antmaze-umaze-v2"):
        d4rl.load("antmaze-umaze-v3")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(ValueError, match="is not an HDF5 file"):
        d4rl.load(MAZE, tmp_path / "text.hdf5")
    with h5py.File(tmp_path / "bare.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 2))
        file["actions"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match="lacks rewards, terminals; it has actions, observations"):
        d4rl.load(MAZE, tmp_path / "bare.hdf5")
