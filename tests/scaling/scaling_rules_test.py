"""Best hyper-parameters on hand-made grids, the shared-slope regression, the published rules."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.scaling import ScalingError, best_hparams, fit_rule, published, published_rule, tabulate
from rlx.scaling.rules import tabulated_batch, tabulated_rate


def _grid(table, K=2):
    """{(B, eta): D} -> entries with K equal bootstraps."""
    return [("t", 1.0, float(b), eta, np.full(K, d)) for (b, eta), d in table.items()]


def test_the_estimate_is_the_double_average_not_the_joint_best():
    best = best_hparams(
        _grid({(64, 1e-4): 10.0, (64, 1e-3): 40.0, (128, 1e-4): 20.0, (128, 1e-3): 30.0})
    )
    # per eta the best B is 64 then 128; per B the best eta is 1e-4 and 1e-4
    np.testing.assert_allclose(best.batch_size, [96.0])
    np.testing.assert_allclose(best.learning_rate, [1e-4])
    geometric = best_hparams(
        _grid({(64, 1e-4): 10.0, (64, 1e-3): 40.0, (128, 1e-4): 20.0, (128, 1e-3): 30.0}),
        mean="geometric",
    )
    np.testing.assert_allclose(geometric.batch_size, [np.sqrt(64 * 128)])


def test_a_column_that_never_reaches_j_does_not_vote():
    nan = np.nan
    best = best_hparams(
        _grid({(64, 1e-4): 30.0, (64, 1e-3): nan, (256, 1e-4): 20.0, (256, 1e-3): nan})
    )
    np.testing.assert_allclose(
        best.batch_size, [256.0]
    )  # an argmin over infinities would have averaged in 64
    nothing = best_hparams(_grid({(64, 1e-4): nan, (256, 1e-4): nan}))
    assert np.isnan(nothing.batch_size[0])


def test_ties_share_the_vote():
    best = best_hparams(_grid({(64, 1e-4): 20.0, (256, 1e-4): 20.0, (512, 1e-4): 30.0}))
    np.testing.assert_allclose(best.batch_size, [160.0])


def test_shared_slope_equals_least_squares_with_task_dummies():
    rng = np.random.default_rng(0)
    sigma = np.tile([1.0, 2.0, 4.0, 8.0], 3)
    task = np.repeat(["a", "b", "c"], 4)
    y = np.repeat([100.0, 300.0, 50.0], 4) * sigma**-0.4 * np.exp(0.1 * rng.normal(size=12))
    rule = fit_rule(sigma, y, task)
    design = np.column_stack([np.log10(sigma), *[(task == t).astype(float) for t in "abc"]])
    want = np.linalg.lstsq(design, np.log10(y), rcond=None)[0]
    np.testing.assert_allclose(rule.slope, want[0])
    np.testing.assert_allclose([rule.value_at_1[t] for t in "abc"], 10.0 ** want[1:])
    assert np.isnan(rule.slope_ci()).all()  # no bootstrap samples, no interval


def test_shared_slope_recovers_an_exact_rule_and_drops_missing_cells():
    sigma = np.array([1.0, 2.0, 4.0, 8.0] * 2)
    y = np.repeat([500.0, 120.0], 4) * sigma**-0.5
    y[2] = np.nan
    rule = fit_rule(sigma, y, np.repeat(["a", "b"], 4), np.stack([y, 2 * y, 3 * y]))
    np.testing.assert_allclose(
        [rule.slope, rule.value_at_1["a"], rule.value_at_1["b"]], [-0.5, 500, 120]
    )
    np.testing.assert_allclose(rule.r2, 1.0)
    np.testing.assert_allclose(rule.slope_samples, -0.5)
    np.testing.assert_allclose(rule.pooled_samples(), [310, 620, 930])
    assert rule.pooled() == pytest.approx(310)


def test_two_utds_are_refused():
    with pytest.raises(ScalingError, match="needs >= 3 UTDs, got 2: 1, 2"):
        fit_rule([1.0, 2.0], [3.0, 4.0], ["a", "a"])


def test_tabulation_rounds_as_published():
    # truncation first (40.9 -> 40), then the nearest multiple of 16 (40 / 16 = 2.5 -> 3), at least
    # 16
    assert [tabulated_batch(v) for v in (3.0, 23.9, 40.9, 527.8)] == [16, 16, 48, 528]
    assert tabulated_rate(0.00077902816) == 7.79e-4


@pytest.mark.parametrize(
    "benchmark, task, at_1, slope",
    [("dmc", "dog-stand", 125.99154, -0.4879301), ("gym", "Ant-v4", 415.83822, -0.30960947)],
)
def test_published_rule_of_a_task(benchmark, task, at_1, slope):
    rule = published_rule(benchmark, task)
    assert (rule.batch_at_1, rule.batch_slope) == (at_1, slope)
    for utd in (0.25, 1, 2, 16):
        batch = rule.batch_size(utd)
        assert batch % 16 == 0 and batch >= 16
        assert abs(batch - at_1 * utd**slope) <= 9
    assert task in rule.source


def test_published_rule_pooled_over_tasks():
    rule = published_rule("dmc")
    sizes = [527.83335, 584.43349, 125.99154, 602.70686, 442.39187, 536.39944, 294.81679]
    rates = [
        0.00077902816,
        0.00068783489,
        0.00053168559,
        0.00094352321,
        0.00047596265,
        0.00089497692,
        0.0010239328,
    ]
    assert rule.batch_at_1 == pytest.approx(np.mean(sizes))
    assert rule.rate_at_1 == pytest.approx(np.exp(np.mean(np.log(rates))))
    assert rule.learning_rate(1.0) == float(f"{rule.rate_at_1:.2e}")
    assert rule.batch_size(1000.0) == 16


def test_published_rule_errors_name_the_nearest():
    with pytest.raises(ScalingError, match="HalfCheetah-v4"):
        published_rule("gym", "HalfCheetah")
    with pytest.raises(ScalingError, match="dmc, gym"):
        published_rule("atari")
    with pytest.raises(ScalingError, match="give a task"):
        published_rule("dmc", slope_type="separate")
    assert published_rule("dmc", "walker-walk", "separate").batch_slope == -0.91466428


def test_tabulate_gives_neighbours_at_sqrt_two():
    batch = fit_rule([1.0, 2, 4], 256.0 * np.array([1.0, 2, 4]) ** -0.5, ["t"] * 3)
    rate = fit_rule([1.0, 2, 4], [1e-3] * 3, ["t"] * 3)
    assert rate.slope == 0.0
    (row,) = tabulate(batch, rate, sigmas=[4])
    assert (row["batch_size"], row["batch_size_neighbours"]) == (128, [96, 176])
    assert (row["learning_rate"], row["learning_rate_neighbours"]) == (1e-3, [7.07e-4, 1.41e-3])


def test_every_published_slope_is_shipped():
    assert len(published.rows("hparam_rules.csv")) == 44
    assert len(published.rows("data_fits.csv")) == 40
    assert published.path("bro_dmc_curves.csv.gz").exists()
