"""Statistics of actions: published formulas, degenerate numbers, files of openpi, deltas."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlx.tokenizers import stats as st
from rlx.tokenizers.stats import NormStats, absolute, delta, read_openpi, write_openpi

RNG = np.random.default_rng(0)
VALUES = RNG.normal([1.0, -5.0, 0.0], [0.1, 3.0, 1.0], (50, 20, 3))


def test_quantile_formula():
    s = NormStats.fit(VALUES)
    rows = VALUES.reshape(-1, 3)
    q01, q99 = np.quantile(rows, 0.01, axis=0), np.quantile(rows, 0.99, axis=0)
    np.testing.assert_allclose(
        s.normalize(VALUES), 2 * (VALUES - q01) / (q99 - q01 + 1e-6) - 1, atol=1e-9
    )
    np.testing.assert_allclose(s.unnormalize(s.normalize(VALUES)), VALUES, atol=1e-9)
    x = np.array([[-1.0, 0.0, 1.0]])
    np.testing.assert_allclose(s.unnormalize(x), (x + 1) / 2 * (q99 - q01 + 1e-6) + q01, atol=1e-9)


def test_zscore_formula():
    s = NormStats.fit(VALUES, "zscore")
    mean, std = VALUES.reshape(-1, 3).mean(0), VALUES.reshape(-1, 3).std(0)
    np.testing.assert_allclose(s.normalize(VALUES), (VALUES - mean) / (std + 1e-6), atol=1e-9)
    np.testing.assert_allclose(s.unnormalize(s.normalize(VALUES)), VALUES, atol=1e-9)


def test_float32_stays_float32_and_close_for_a_narrow_number_far_from_zero():
    values = (1.5686 + 0.01 * RNG.random((100, 1))).astype(np.float32)
    s = NormStats.fit(values)
    x = s.normalize(values)
    assert x.dtype == np.float32 and s.unnormalize(x).dtype == np.float32
    np.testing.assert_allclose(x, s.normalize(values.astype(np.float64)), atol=1e-4)


def test_degenerate_numbers_are_named_in_one_warning():
    """A constant, a gripper that closes in 0.5 % of the steps, and a healthy number."""
    values = np.stack([np.full(1000, 0.3), np.arange(1000) >= 995, RNG.random(1000)], 1)
    with pytest.warns(UserWarning) as caught:
        s = NormStats.fit(values)
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "dims [0] are constant" in said and "dims [1] move in under 1 %" in said
    x = s.normalize(values)
    assert (x[:, 0] == 0).all()
    np.testing.assert_allclose([x[:, 1].min(), x[:, 1].max()], [-1, 1], atol=1e-5)
    np.testing.assert_allclose(s.unnormalize(np.ones((1, 3)))[0, 0], 0.3)


def test_the_example_that_exploded():
    """openpi#814: q01 1.5686, q99 1.5696 and a value 0 gave -3 200."""
    saved = dict(mean=[1.569], std=[0.001], q01=[1.5686], q99=[1.5696])
    raw = 2 * (0 - 1.5686) / (1.5696 - 1.5686 + 1e-6) - 1
    assert raw < -3000
    with pytest.warns(UserWarning, match=r"dims \[0\] are constant"):
        s = NormStats.from_json(saved)
    assert s.normalize(np.zeros((1, 1)))[0, 0] == 0
    np.testing.assert_allclose(s.unnormalize(np.zeros((1, 1))), 1.569)


def test_large_sets_use_a_fixed_sample(monkeypatch):
    monkeypatch.setattr(st, "EXACT", 1000)
    monkeypatch.setattr(st, "SAMPLE", 600)
    a, b = NormStats.fit(VALUES), NormStats.fit(VALUES)
    np.testing.assert_array_equal(a.q01, b.q01)
    exact = np.quantile(VALUES.reshape(-1, 3), 0.01, axis=0)
    assert (a.q01 != exact).any()
    np.testing.assert_allclose(a.q01, exact, atol=0.6)
    np.testing.assert_allclose(a.mean, VALUES.reshape(-1, 3).mean(0))  # of all rows


def test_openpi_files_round_trip(tmp_path):
    s, state = NormStats.fit(VALUES), NormStats.fit(VALUES[..., :2])
    write_openpi(tmp_path / "droid", actions=s, state=state)
    saved = json.loads((tmp_path / "droid" / "norm_stats.json").read_text())
    assert sorted(saved["norm_stats"]) == ["actions", "state"]
    assert sorted(saved["norm_stats"]["actions"]) == ["mean", "q01", "q99", "std"]
    back = read_openpi(tmp_path / "droid")
    for name in st.FIELDS:
        np.testing.assert_array_equal(getattr(back, name), getattr(s, name))
    assert read_openpi(tmp_path / "droid", "state", "zscore").mode == "zscore"
    with pytest.raises(ValueError, match=r"has statistics of .*actions.*, none of 'base'"):
        read_openpi(tmp_path / "droid", "base")


def test_own_json_keeps_mode_and_constants():
    with pytest.warns(UserWarning, match="constant"):
        s = NormStats.fit(np.stack([np.ones(50), RNG.random(50)], 1))
    back = NormStats.from_json(json.loads(json.dumps(s.to_json())))
    np.testing.assert_array_equal(back.constant, [True, False])
    zscore = NormStats.fit(VALUES, "zscore")
    assert NormStats.from_json(zscore.to_json()).mode == "zscore"


def test_delta_is_relative_to_the_first_state_and_is_undone():
    actions, state = RNG.normal(size=(4, 5, 7)), RNG.normal(size=(4, 7))
    mask = [True] * 6 + [False]
    d = delta(actions, state, mask)
    want = actions.copy()
    for t in range(5):
        want[:, t, :6] -= state[:, :6]
    np.testing.assert_allclose(d, want)
    np.testing.assert_allclose(absolute(d, state, mask), actions)
    np.testing.assert_allclose(delta(actions[0], state[0], mask), want[0])  # one chunk
    np.testing.assert_array_equal(
        delta(actions, state[:, :3], [True] * 3)[..., 3:], actions[..., 3:]
    )


BAD = [
    (lambda: NormStats.fit(np.zeros((0, 3))), r"need rows, got values of shape \(0, 3\)"),
    (lambda: NormStats.fit(np.array([[0, 1], [np.nan, 2]])), "row 1, dim 0 is nan"),
    (lambda: NormStats.fit(VALUES, "minmax"), "one of quantile, zscore, got 'minmax'"),
    (lambda: NormStats.from_json({"mean": [0], "std": [1]}), "lack q01, q99; found mean, std"),
    (
        lambda: NormStats.from_json(dict(mean=[0, 1], std=[1], q01=[0], q99=[1])),
        "lists of one length",
    ),
    (lambda: delta(np.zeros((2, 3)), np.zeros(3), [True] * 4), "mask has 4 entries"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
