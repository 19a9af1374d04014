"""Binning: every bin by hand, centres without bias, OpenVLA's edges and its model ids."""

from __future__ import annotations

import numpy as np
import pytest
from action_data import smooth

from rlx.ops.action_tokens import Slots
from rlx.tokenizers.bins import BinningTokenizer, OpenVLATokenizer

RAW = BinningTokenizer(256)


def test_bins_by_hand():
    x = np.array([[-1.0, -0.9999, 0.0, 0.9999, 1.0, 5.0, -5.0]]).T
    assert RAW.encode(x) == [[0, 0, 128, 255, 255, 255, 0]]
    y, valid, _ = RAW.decode([[0, 128, 255]], horizon=3, action_dim=1)
    assert valid.all()
    np.testing.assert_allclose(y[0, :, 0], [-1 + 1 / 256, 1 / 256, 1 - 1 / 256])


def test_order_is_step_by_step():
    x = np.linspace(-0.9, 0.9, 6).reshape(1, 3, 2)
    (ids,) = BinningTokenizer(10).encode(x)
    assert ids == [0, 2, 4, 5, 7, 9]


def test_centres_are_unbiased_and_within_half_a_bin():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 5000, 2))
    y, valid, _ = RAW.decode(RAW.encode(x), horizon=5000, action_dim=2)
    assert valid.all() and np.abs(y - x).max() <= 1 / 256 + 1e-6
    assert abs((y - x).mean()) < 1e-4
    np.testing.assert_allclose(np.sqrt(np.mean((y - x) ** 2)), 1 / (128 * np.sqrt(12)), rtol=0.02)


def test_data_units_and_files_follow_the_statistics():
    data = smooth(50, 6, 3, 0) * [1, 10, 100]
    t = BinningTokenizer.fit(data)
    y, _, _ = t.decode(t.encode(data))
    inside = np.abs(t.stats.normalize(data)) <= 1
    width = (t.stats.q99 - t.stats.q01) / 256
    assert (np.abs(y - data) <= width / 2 * 1.01)[inside].sum() == inside.sum()
    np.testing.assert_allclose(t.clip_fraction(data), (~inside).mean())
    assert not inside.all()


def test_openvla_as_published():
    """256 edges, digits 1..256, centres of 255 bins, model id = vocabulary size - digit."""
    t = OpenVLATokenizer(256)
    edges = np.linspace(-1.0, 1.0, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 300, 7))
    x[0, 0, :3] = [-1, 1, edges[17]]
    digit = np.digitize(np.clip(x, -1, 1), edges)
    assert digit.min() == 1 and digit.max() == 256
    (ids,) = t.encode(x)
    slots = Slots(first=32_000 - 1, step=-1, count=256, end=2, eos=2, pad=0)
    model = slots.to_model(np.array(ids))
    np.testing.assert_array_equal(model, 32_000 - digit.reshape(-1))
    want = centres[np.clip(32_000 - model - 1, 0, 254)]
    y, valid, _ = t.decode([ids], horizon=300, action_dim=7)
    assert valid.all()
    np.testing.assert_allclose(y.reshape(-1), want, atol=1e-7)


@pytest.mark.parametrize("extra", [-1, 1])
def test_any_other_number_of_ids_is_not_valid(extra):
    t = BinningTokenizer.fit(smooth(50, 6, 3, 0))
    _, valid, info = t.decode([[5] * (18 + extra), [5] * 18])
    assert valid.tolist() == [False, True]
    assert (info["overflow"] - info["padded"])[0] == extra
