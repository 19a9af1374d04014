"""Data laws, pooling, optima and budget laws against closed forms and the published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from rlx.scaling import (
    PowerLaw,
    Prices,
    ScalingError,
    budget_law,
    fit_data,
    fit_data_size,
    frontier,
    optimal_utd,
    pool,
)
from rlx.scaling.report import report_published

SIGMA = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize("loss", ["mse", "log_mse", "huber_log"])
@pytest.mark.parametrize(
    "dmin, beta, alpha", [(8e4, 0.53, 1.09), (2e5, 2.2, 0.3), (10.0, 5.0, 3.0)]
)
def test_exact_laws_are_recovered(loss, dmin, beta, alpha):
    k = dmin * beta**alpha
    law = fit_data(SIGMA, dmin + k * SIGMA**-alpha, loss=loss)
    np.testing.assert_allclose([law.Dmin, law.k, law.alpha], [dmin, k, alpha], rtol=1e-4)
    np.testing.assert_allclose(law.beta, k ** (1 / alpha), rtol=1e-3)
    np.testing.assert_allclose(law.predict(SIGMA), dmin + k * SIGMA**-alpha, rtol=1e-6)
    assert np.isnan(law.ci("alpha")).all() and np.isnan(law.predict_ci(SIGMA)).all()


def _reference_loss(loss, D):
    """Global optimum by scipy from many starts, written independently of the module."""

    def objective(theta):
        model = np.exp(theta[0]) + np.exp(theta[1] - np.exp(theta[2]) * np.log(SIGMA))
        if loss == "mse":
            return np.sum((D / D.mean() - model) ** 2)
        r = np.abs(np.log(D / D.mean() / model))
        return (
            np.sum(r**2)
            if loss == "log_mse"
            else np.sum(np.where(r < 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)))
        )

    rng = np.random.default_rng(0)
    bounds = [(-20, 3), (-20, 3), (np.log(0.01), np.log(6))]
    starts = rng.uniform([-3, -3, -2], [0.5, 0.5, 1.5], size=(25, 3))
    options = {"maxiter": 4000, "fatol": 1e-16, "xatol": 1e-9}
    fits = [
        optimize.minimize(objective, s, method="Nelder-Mead", bounds=bounds, options=options)
        for s in starts
    ]
    return min(f.fun for f in fits)


@pytest.mark.parametrize("loss", ["mse", "log_mse", "huber_log"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noisy_fits_reach_the_global_optimum(loss, seed):
    rng = np.random.default_rng(seed)
    D = 1e5 * (1 + (1.5 / SIGMA) ** 0.8) * np.exp(0.08 * rng.normal(size=6))
    # huber_log is close to an L1 loss, which reweighting approaches slowly
    assert fit_data(SIGMA, D, loss=loss).loss <= _reference_loss(loss, D) * (
        1.05 if loss == "huber_log" else 1.0001
    )


def test_scale_of_sigma_and_of_data_do_not_matter():
    rng = np.random.default_rng(0)
    D = (1 + SIGMA**-0.7) * np.exp(0.05 * rng.normal(size=6))
    a, b = fit_data(SIGMA, D), fit_data(SIGMA * 1e-3, D * 1e7)  # PQL's UTDs are near 1e-3
    np.testing.assert_allclose([b.alpha, b.Dmin / 1e7], [a.alpha, a.Dmin], rtol=1e-5)
    np.testing.assert_allclose(b.beta, a.beta * 1e-3 * 1e7 ** (1 / a.alpha), rtol=1e-4)


def test_data_that_rises_with_sigma_gives_beta_zero_and_a_flag():
    law = fit_data(SIGMA, np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]))
    assert law.beta == 0.0 and law.flags == ("no_utd_gain",)
    np.testing.assert_allclose(law.predict(SIGMA), 1.25)


def test_number_of_utds():
    with pytest.raises(ScalingError, match="needs >= 3 UTDs, got 2: 1, 2"):
        fit_data([1.0, 2.0], [3.0, 2.0])
    with pytest.raises(ScalingError, match="needs >= 3 UTDs, got 2"):
        fit_data([1.0, 2.0, 4.0], [3.0, 2.0, np.nan])
    with pytest.raises(ScalingError, match="fix Dmin at 0"):
        fit_data([1.0, 2.0, 4.0], [3.0, 2.0, 1.5], three_utds="refuse")
    law = fit_data([1.0, 2.0, 4.0], 100 * np.array([1.0, 2.0, 4.0]) ** -0.5)
    assert law.Dmin == 0.0 and "Dmin_fixed_0" in law.flags
    np.testing.assert_allclose([law.k, law.alpha], [100, 0.5], rtol=1e-6)


def test_bootstrap_intervals_and_unidentified_coefficients():
    rng = np.random.default_rng(0)
    D = 1e5 * (1 + (2.0 / SIGMA) ** 0.8)
    samples = D * np.exp(0.03 * rng.normal(size=(500, 6)))
    law = fit_data(SIGMA, D, samples)
    one = fit_data(SIGMA, samples[17])
    np.testing.assert_allclose(
        law.samples["alpha"][17], one.alpha, rtol=1e-5
    )  # a replicate is a whole refit
    low, high = law.ci("alpha")
    assert low < 0.8 < high < 5 * low
    assert law.unidentified() == {"Dmin": False, "beta": True, "alpha": False}
    ci = law.predict_ci(SIGMA)
    assert (ci[:, 0] < D).all() and (D < ci[:, 1]).all()
    assert (
        np.diff(ci, axis=1)[:, 0] / D < 0.15
    ).all()  # the prediction is far better known than beta


def test_pooling_on_a_hand_computed_case():
    t = np.array(
        [[[10.0, 20], [20, 40]], [[200, 400], [100, 200]]]
    )  # [task, sigma, J], medians 20 and 200
    D, M = pool(t)
    assert M == 110.0
    np.testing.assert_allclose(D, 110 * np.array([[0.75, 1.5], [0.75, 1.5]]))
    complete = np.array([[True, False], [True, True]])
    np.testing.assert_allclose(pool(t, complete)[0][:, 1], 110 * np.array([2.0, 1.0]))
    stacked, _ = pool(np.stack([t, t]), None, np.array([[0, 1], [0, 0]]))
    np.testing.assert_allclose(stacked[0], D)
    np.testing.assert_allclose(stacked[1], t[0])


def test_pooling_with_a_missing_cell():
    t = np.array([[[10.0], [np.nan]], [[20.0], [10.0]]])
    assert np.isnan(
        pool(t, np.ones((2, 1), bool))[0][1, 0]
    )  # a changing task set would bias the curve
    np.testing.assert_allclose(pool(t)[0][1, 0], pool(t)[1] * 10 / 15)


PRICES = Prices(model_size=1e5, batch_at_1=400.0, batch_slope=-0.45, delta=4e8)
LAW = PowerLaw(Dmin=2e4, k=2e4 * 2.0**0.8, alpha=0.8)


def test_the_optimum_meets_the_first_order_condition():
    best = optimal_utd(LAW, PRICES, (0.25, 8.0), J=500)
    s, m, kappa = best.utd, 1 - 0.45, 10 * 1e5 * 400.0
    left = m * kappa * s**m / (kappa * s**m + 4e8)
    gain = LAW.k * s**-LAW.alpha
    assert left == pytest.approx(LAW.alpha * gain / (LAW.Dmin + gain), rel=1e-6)
    assert best.data == pytest.approx(LAW.Dmin + gain)
    assert best.compute == pytest.approx(kappa * s**m * best.data)
    assert best.budget == pytest.approx(best.compute + 4e8 * best.data)
    assert best.at_bound == ""
    data, compute = frontier(LAW, PRICES, np.array([s]))
    assert (data[0], compute[0]) == pytest.approx((best.data, best.compute))


def test_optimum_without_dmin_has_a_closed_form():
    law = PowerLaw(0.0, 1e5, 0.3)  # m kappa s^m (1 - alpha / m) = alpha delta
    best = optimal_utd(law, PRICES, (1e-3, 1e3))
    want = (0.3 * 4e8 / (4e8 * (0.55 - 0.3))) ** (1 / 0.55)
    assert best.utd == pytest.approx(want, rel=1e-6)


def test_an_optimum_at_the_edge_is_flagged_and_left_out():
    dear = Prices(1e5, 400.0, -0.45, delta=1e15)
    assert optimal_utd(LAW, dear, (0.25, 8.0)).at_bound == "high"
    cheap = Prices(1e5, 400.0, -0.45, delta=0.0)
    flat = PowerLaw(1e5, 1.0, 0.1)
    with pytest.raises(ScalingError, match=r"delta=0.*--delta="):
        optimal_utd(flat, cheap, (0.25, 8.0))
    optima = [optimal_utd(LAW, dear, (0.25, 8.0), J) for J in (1.0, 2.0, 3.0, 4.0)]
    with pytest.raises(ScalingError, match="add runs at UTD 16"):
        budget_law(optima)


def test_a_failed_fit_is_no_edge_and_asks_for_no_runs():
    failed = optimal_utd(PowerLaw(np.nan, np.nan, np.nan), PRICES, (0.25, 8.0), J=500)
    assert failed.failed and failed.at_bound == "" and np.isnan([failed.utd, failed.budget]).all()
    fine = [optimal_utd(LAW, PRICES, (0.25, 8.0), J) for J in (1.0, 2.0)]
    assert not any(o.failed for o in fine)
    with pytest.raises(ScalingError, match="no edge of the UTD range, 2 failed fits") as caught:
        budget_law([failed, failed, fine[0]], holdout=0)
    assert "nan" not in str(caught.value)
    dear = PowerLaw(LAW.Dmin * 3, LAW.k * 5, LAW.alpha)
    pair = [fine[0], optimal_utd(dear, PRICES, (0.25, 8.0), J=3.0)]
    law = budget_law([*pair, failed], holdout=0)
    assert law.levels == (1.0, 3.0) and np.isfinite(law.utd.exponent)


def test_bad_prices_are_refused():
    with pytest.raises(ScalingError, match="delta=-1"):
        Prices(1e5, 400.0, -0.45, delta=-1.0)
    with pytest.raises(ScalingError, match="model_size=0"):
        Prices(0.0, 400.0, -0.45, delta=1.0)


@pytest.mark.parametrize(
    "benchmark, method, coefficient, exponent, held_out",
    [
        ("dmc", "grid100", 3.016e11, -0.7375, (-0.004, -0.041)),
        ("gym", "grid100", 2.616e-9, 0.6198, (0.128, 0.218)),
        ("dmc", "continuous", 4.69e11, -0.750, None),
        ("gym", "continuous", 1.84e-9, 0.630, None),
    ],
)
def test_the_published_budget_laws_are_reproduced(
    benchmark, method, coefficient, exponent, held_out
):
    law = report_published(benchmark, method=method)["budget_law"]
    assert law["coefficient"] == pytest.approx(coefficient, rel=5e-3)
    assert law["exponent"] == pytest.approx(exponent, rel=1.5e-3)
    errors = [h["error"] for h in law["holdout_errors"]]
    assert max(map(abs, errors)) <= 0.25
    if held_out:
        assert errors == pytest.approx(held_out, abs=6e-4)


def test_published_data_law_in_env_steps():
    """Specification 3.2: at J = 800 Dmin is 7.98e4 (DMC) and 2.17e5 (Gym); beta = b * M**(1/alpha)
    in env steps."""
    for benchmark, dmin, b in (("dmc", 7.98e4, 0.57386686), ("gym", 2.17e5, 2.2895192)):
        result = report_published(benchmark)
        top = result["data_law"][-1]
        assert top["Dmin"] == pytest.approx(dmin, rel=1e-2)
        assert top["beta"] == pytest.approx(
            b * result["config"]["data_scale"] ** (1 / top["alpha"]), rel=1e-6
        )
        last = result["data_law_constant"][-1]
        assert (
            top["prediction"][-1]["D"] < last["prediction"][-1]["D"]
        )  # the rule wins at the largest UTD


def test_joint_law_of_utd_and_size_is_recovered():
    sigma, size = (v.ravel() for v in np.meshgrid([0.25, 1.0, 4.0, 16.0], [1e5, 4e5, 1.6e6, 6.4e6]))
    D = 5e4 * (1 + (1.5 / sigma) ** 0.9 + (3e5 / size) ** 0.6)
    law = fit_data_size(sigma, size, D)
    np.testing.assert_allclose([law.Dmin, law.alpha, law.beta], [5e4, 0.9, 0.6], rtol=1e-2)
    np.testing.assert_allclose(law.a**law.alpha, 5e4 * 1.5**0.9, rtol=1e-2)
    np.testing.assert_allclose(law.predict(sigma, size), D, rtol=1e-3)
    assert len(law.start_losses) == 10 and (np.diff(law.start_losses) >= 0).all()
    with pytest.raises(ScalingError, match=">= 3 model sizes"):
        fit_data_size(sigma, np.where(size > 1e6, 2.0, 1.0), D)
