"""Isotonic regression against scipy, crossings against brute force, intervals, the reset filter,
run logs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import optimize

from rlx.scaling import ScalingError, crossings, isotonic, load_runs, stats
from rlx.scaling.curves import reset_filter


@pytest.mark.parametrize("length", [1, 2, 7, 60])
def test_isotonic_equals_scipy_on_random_curves(length):
    rng = np.random.default_rng(length)
    for _ in range(20):
        y = rng.normal(size=length).round(1)  # rounding makes ties
        np.testing.assert_allclose(isotonic(y), optimize.isotonic_regression(y).x, atol=1e-12)


def test_isotonic_on_a_hand_computed_case_and_on_a_stack():
    np.testing.assert_allclose(isotonic([1, 3, 2, 2, 5]), [1, 7 / 3, 7 / 3, 7 / 3, 5])
    stack = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(isotonic(stack), [[2, 2, 2], [1, 2, 3]])


def _brute(steps, mean, level, interpolate):
    """First logged step where scipy's isotonic fit reaches the level, straight from the
    definition."""
    fit = optimize.isotonic_regression(mean).x
    reached = np.flatnonzero(fit >= level)
    if not len(reached):
        return np.nan
    i = reached[0]
    if i == 0 or not interpolate:
        return steps[i]
    return steps[i - 1] + (level - fit[i - 1]) / (fit[i] - fit[i - 1]) * (steps[i] - steps[i - 1])


@pytest.mark.parametrize("interpolate", [False, True])
def test_crossings_equal_brute_force(interpolate):
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.integers(1, 50, size=60)).astype(float)
    levels = np.array([-5.0, 10.0, 33.3, 60.0, 99.0, 1e6])
    for _ in range(20):
        returns = np.linspace(0, 100, 60)[:, None] + 30 * rng.normal(size=(60, 3))
        got = crossings(steps, returns, levels, bootstrap=5, interpolate=interpolate)
        want = [_brute(steps, returns.mean(axis=1), level, interpolate) for level in levels]
        np.testing.assert_allclose(got.point, want, rtol=1e-9)
        assert got.samples.shape == (5, 6)


def test_a_level_that_is_met_exactly_counts_as_reached():
    got = crossings(
        np.array([10.0, 20.0, 30.0]), np.array([[1.0], [5.0], [5.0]]), np.array([5.0, 5.0001])
    )
    assert got.point[0] == 20.0
    assert np.isnan(got.point[1])


def test_bootstrap_is_repeatable_and_its_spread_is_that_of_the_seeds():
    rng = np.random.default_rng(0)
    steps = np.arange(1.0, 401.0)
    shift = 20 * rng.normal(size=40)  # each seed is a ramp that starts `shift` later: D = J + shift
    returns = steps[:, None] - shift[None]
    a = crossings(steps, returns, np.array([200.0]), bootstrap=4000, seed=7, interpolate=True)
    b = crossings(steps, returns, np.array([200.0]), bootstrap=4000, seed=7, interpolate=True)
    np.testing.assert_array_equal(a.samples, b.samples)
    np.testing.assert_allclose(a.std, np.std(shift) / np.sqrt(40), rtol=0.05)
    np.testing.assert_allclose(a.point, 200 + shift.mean(), rtol=1e-9)
    assert a.nan_fraction[0] == 0.0


def test_one_seed_has_a_point_but_no_interval():
    got = crossings(np.arange(1.0, 11.0), np.arange(10.0)[:, None], np.array([4.0]))
    assert got.point[0] == 5.0
    assert np.isnan(got.interval()).all() and np.isnan(got.std).all()
    assert got.nan_fraction[0] == 0.0


def test_share_of_bootstraps_that_miss_a_level():
    steps = np.arange(1.0, 4.0)
    returns = np.array(
        [[0.0, 0.0], [0.0, 0.0], [10.0, 0.0]]
    )  # reached unless both draws are seed 1
    got = crossings(steps, returns, np.array([1.0]), bootstrap=8000, seed=1)
    np.testing.assert_allclose(got.nan_fraction, 0.25, atol=0.02)


def test_intervals_of_a_mean_of_eight_have_student_t_width():
    rng = np.random.default_rng(0)
    hits = {"plain": 0, "stretched": 0}
    for trial in range(400):
        data = rng.normal(size=(1, 8))
        pair = stats.resampled_means(data, 800, np.random.default_rng(trial))
        for name, samples in zip(hits, pair):
            low, high = stats.interval(samples[:, 0])
            hits[name] += low <= 0 <= high
    # The plain percentile interval is known to be too narrow at n = 8 (about 90 %); the stretch
    # repairs it.
    assert hits["plain"] / 400 < 0.925
    assert 0.93 <= hits["stretched"] / 400 <= 0.98


def test_interval_is_unavailable_when_too_many_replicates_failed():
    samples = np.arange(100.0)
    np.testing.assert_allclose(stats.interval(samples), [2.475, 96.525])
    samples[:30] = np.nan
    assert np.isnan(stats.interval(samples)).all()


def test_iqm_is_the_mean_of_the_middle_half():
    assert stats.iqm(np.array([0.0, 1, 2, 3, 4, 5, 6, 1000])) == 3.5
    scores = [np.random.default_rng(i).normal(10 * i, 1, size=30) for i in range(4)]
    point, (low, high) = stats.iqm_interval(scores)
    assert low < point < high < low + 1.5
    assert np.isnan(stats.iqm_interval([np.ones(1), np.ones(4)])[1]).all()


def test_reset_filter_drops_the_relearning_stretch_only():
    steps = np.arange(10.0, 101.0, 10.0)
    mean = np.array([1.0, 2, 3, 4, 1, 2, 5, 6, 7, 8])
    keep = reset_filter(steps, mean, utd=1.0, reset_grad_steps=45, name="x")
    np.testing.assert_array_equal(steps[~keep], [50.0, 60.0])  # back at 4 or more from step 70 on
    assert reset_filter(steps, mean, utd=1.0, reset_grad_steps=1000, name="x").all()


def test_reset_filter_drops_a_segment_that_never_recovers_and_keeps_the_larger_drop():
    steps = np.arange(10.0, 81.0, 10.0)
    mean = np.array([1.0, 5, 2, 3, 4, 1, 6, 7])
    # Resets at 25, 50, 75.  Segment 30-40 never reaches 5 again.  Step 50 itself: read as before
    # the reset it is dropped with its segment; the next segment then starts at 60 and must reach 4.
    keep = reset_filter(steps, mean, utd=1.0, reset_grad_steps=25, name="x")
    np.testing.assert_array_equal(steps[~keep], [30.0, 40.0, 50.0, 60.0])


def test_reset_period_below_one_step_is_an_error():
    with pytest.raises(ScalingError, match="reset_grad_steps"):
        reset_filter(np.arange(1.0, 4.0), np.zeros(3), utd=100.0, reset_grad_steps=5, name="x")


def test_load_runs_merges_the_header_and_skips_a_cut_line(tmp_path):
    run = tmp_path / "run_a"
    run.mkdir()
    header = {
        "schema": 1,
        "config_sha": "ab",
        "hp": {"utd": 2.0, "task": "pendulum", "nested": {"x": 1}},
    }
    rows = [
        {"step": 0, "env_steps": 10, "seed": 0, "eval/return": 1.5},
        {"step": 1, "env_steps": 20, "seed": 0, "eval/return": None, "nan": ["eval/return"]},
    ]
    text = "\n".join(json.dumps(r) for r in [header, *rows]) + '\n{"step": 2, "env_'
    (run / "metrics.jsonl").write_text(text)
    with pytest.warns(UserWarning, match="truncated last line"):
        columns = load_runs(str(tmp_path / "run_*"))
    np.testing.assert_array_equal(columns["env_steps"], [10.0, 20.0])
    np.testing.assert_array_equal(columns["eval/return"], [1.5, np.nan])
    assert columns["task"].tolist() == ["pendulum", "pendulum"]
    assert columns["utd"].dtype == np.float64 and "nested" not in columns
    with pytest.raises(ScalingError, match="no run matches"):
        load_runs(str(tmp_path / "other_*"))
