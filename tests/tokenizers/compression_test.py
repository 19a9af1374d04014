"""The parts of `experiments.fast_compression`: the motion, fewer steps, the table; and that FSQ is
trained by its learner.
"""

from __future__ import annotations

import numpy as np

from experiments import fast_compression as fc
from experiments.fast_compression_data import trajectories
from experiments.fast_compression_fsq import train
from experiments.fast_compression_naive import subsampled
from experiments.fast_compression_plot import draw, table
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.measure import measure


def test_the_same_trajectories_at_every_frequency():
    fast, slow = trajectories(40, 14, 50, 0), trajectories(40, 14, 5, 0)
    np.testing.assert_allclose(fast[:, ::10], slow, atol=1e-6)
    np.testing.assert_array_equal(trajectories(40, 14, 5, 0), slow)
    gripper = fast[..., [6, 13]]
    assert set(np.unique(gripper)) == {-1.0, 1.0}
    jumps = (np.diff(gripper, axis=1) != 0).sum(1)
    assert jumps.max() == 1 and 0.3 < jumps.mean() < 0.7
    assert np.abs(np.diff(fast[..., :6], axis=1)).max() < 0.5
    assert np.unique(trajectories(5, 7, 5, 0, grippers=False)[..., 6]).size == 25


def test_fewer_steps_by_hand():
    """Steps 0 and 2 of 4 are kept; 1 lies between them, 3 is held."""
    x = np.array([[[0.0], [0.6], [0.5], [0.9]]])
    got = subsampled(x, 2)
    a, b = 1 / 256, 0.5 + 1 / 256  # centres of the bins
    error = np.array([a, (a + b) / 2 - 0.6, b - 0.5, b - 0.9])
    np.testing.assert_allclose(got["rmse"], np.sqrt(np.mean(error**2)), rtol=1e-5)
    assert got["mean_tokens"] == 2 and got["ratio"] == 2 and got["failures"] == 0
    assert subsampled(x, 1)["rmse"] <= 1 / 256


def test_rows_table_and_figure(tmp_path, monkeypatch):
    """FSQ's place is taken by a tokenizer that needs no training; below it is trained."""
    monkeypatch.setattr(fc, "train", lambda fit, *rest: BinningTokenizer())
    monkeypatch.setattr(fc, "SCALES", (2, 10))
    task = fc.TASKS[0]
    rows = fc.rows_of(task, full=False, seed=0)
    assert [r["method"] for r in rows] == ["FAST"] * 2 + ["binning"] * 3 + ["FSQ, 300 steps"]
    assert rows[0]["mean_tokens"] < rows[1]["mean_tokens"] < task.paper_naive
    assert rows[0]["rmse"] > rows[1]["rmse"]
    text = table(rows, [task])
    assert f"{rows[1]['mean_tokens']:.1f}" in text and " 35    20    1.8" in text
    draw(rows, tmp_path / "a" / "b.png")
    assert (tmp_path / "a" / "b.png").stat().st_size > 5000


def test_fsq_is_trained_by_its_learner():
    data = trajectories(200, 7, 5, 0)
    tokenizer = train(data, 4, steps=150, seed=0)
    assert measure(tokenizer, data)["rmse"] < 0.7 * data.std()
    assert tokenizer.tokens == 4 and (tokenizer.horizon, tokenizer.action_dim) == (5, 7)
