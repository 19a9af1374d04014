"""The card of a data set: its numbers, its table, its command line."""

import warnings

import numpy as np
import pytest

from rlx.data import card, ogbench
from rlx.data.trajectories import from_arrays

CUBE = "cube-single-play-v0"


def fields(text):
    """The table's lines as key -> value."""
    return dict(line.strip().split("  ", 1) for line in text.splitlines())


def test_summary():
    data = {
        "observations": np.arange(14, dtype=np.float32).reshape(7, 2),
        "actions": np.linspace(-0.5, 0.5, 7, dtype=np.float32)[:, None],
        "rewards": np.array([-1, 0, -1, -1, -2, -1, 0.0]),
        "masks": np.array([1, 0, 1, 1, 1, 1, 1.0]),
        "valids": np.array([1, 1, 0, 1, 1, 1, 0.0]),
    }
    facts = card.summary(from_arrays(data))
    assert (facts.rows, facts.transitions, facts.trajectories) == (7, 5, 2)
    assert facts.lengths == (2, 2.5, 3)
    assert facts.rewards == {"-2": 1, "-1": 3, "0": 1}
    assert facts.terminated == 1
    assert (facts.obs_shape, facts.obs_dtype) == ((2,), "float32")
    np.testing.assert_array_equal(facts.obs_range, [[0, 1], [12, 13]])
    np.testing.assert_allclose(facts.action_range, [[-0.5], [1 / 3]], rtol=1e-6)
    assert facts.megabytes == pytest.approx((14 + 7) * 4 / 1e6)


def test_many_rewards_are_binned():
    counts = card._histogram(np.arange(100.0))
    assert list(counts.values()) == [10] * 10
    assert next(iter(counts)) == "0 to 9.9"


def test_images_have_one_range():
    frames = np.full((4, 2, 2, 3), 7, np.uint8)
    frames[1, 0, 0, 0] = 200
    data = {"observations": frames, "actions": np.zeros((4, 1)), "valids": np.array([1, 1, 1, 0])}
    facts = card.summary(from_arrays(data, rewarded=False))
    np.testing.assert_array_equal(facts.obs_range, [[7], [200]])
    assert facts.obs_shape == (2, 2, 3)


def test_card_of_a_path_counts_completed_states(ogbench_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = card.card(str(ogbench_folder / f"{CUBE}.npz"))
    table = {key: value.strip() for key, value in fields(text).items()}
    assert (table["name"], table["rows"], table["transitions"]) == (CUBE, "63", "60")
    assert table["trajectories"] == "3"
    assert table["lengths"] == "20 to 20, mean 20.0"
    assert table["8 to 27"].count(" to ") == 1  # dimensions that have no line of their own
    assert "rewards" not in table and "masks 0" not in table  # the name has no task
    expected = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in ogbench.single_tasks(ogbench.parse(CUBE)):
            rows = ogbench.load(task.name, ogbench_folder).train
            expected[task.name] = f"{rows.terminated.sum()}"
    assert {name: table[name] for name in expected} == expected
    assert expected["cube-single-play-singletask-task2-v0"] == "15"
    column = 2 + max(len(line.rstrip()) for line in map(first_column, text.splitlines()))
    assert all(line[column - 1] == " " != line[column] for line in text.splitlines())


def first_column(line):
    """A line of the table without its value."""
    return line[: len(line) - len(line.strip().split("  ", 1)[1].strip())]


def test_card_of_a_d4rl_file(tmp_path):
    import h5py

    path = tmp_path / "pen-human-v1.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.arange(12.0).reshape(6, 2)
        file["actions"] = np.zeros((6, 1))
        file["rewards"] = np.arange(6.0)
        file["terminals"] = np.zeros(6, bool)
        file["timeouts"] = np.array([0, 0, 1, 0, 0, 1], bool)
    with pytest.warns(UserWarning, match="no completed state"):
        text = card.card(str(path))
    with pytest.warns(UserWarning, match="no completed state"):
        assert card.card("pen-human-v1", folder=str(tmp_path)) == text
    table = {key: value.strip() for key, value in fields(text).items()}
    assert (table["name"], table["transitions"]) == ("pen-human-v1", "4")
    assert (table["rows"], table["trajectories"], table["masks 0"]) == ("6", "2", "0")
    assert "completed" not in table


def test_command_line(tmp_path, capsys, run_python):
    card.main(["--list"])
    listed = capsys.readouterr().out.split()
    assert len(listed) == 630 + 18
    with pytest.raises(SystemExit):
        card.main([])
    assert "give either a name" in capsys.readouterr().err
    done = run_python(["-m", "rlx.data.card", CUBE, f"--folder={tmp_path}"], check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: there is no file {tmp_path}/{CUBE}.npz. Download http")
    assert len(done.stderr.splitlines()) == 1
