"""The model-size axis: batched least squares, the two-variable rule, joint optima, the report."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic
from scipy import optimize

from rlx.scaling import ScalingError, load, size_report, write
from rlx.scaling.options import make
from rlx.scaling.report import report
from rlx.scaling.size_budget import joint_law, joint_optimum
from rlx.scaling.size_law import SizeLaw, fit_data_size
from rlx.scaling.size_rule import SizePrices, constant_rule, fit_size_rule
from rlx.scaling.size_study import size_study
from rlx.scaling.table import read_table

UTDS, SIZES = (0.5, 1.0, 2.0, 4.0, 8.0), (1e5, 4e5, 1.6e6, 6.4e6)
LEVELS = (300.0, 500.0, 700.0, 800.0)
TRUTH = synthetic.Truth(size_b=3e5, batch_b=3e3)
DELTA = 5e9
GRID = tuple(v.ravel() for v in np.meshgrid(UTDS, SIZES, indexing="ij"))


def true_law(J: float = 800.0) -> SizeLaw:
    dmin = TRUTH.tau0 * np.log(1000.0 / (1000.0 - J))
    return SizeLaw(
        dmin, np.log(dmin) + TRUTH.alpha * np.log(TRUTH.beta), TRUTH.alpha,
        np.log(dmin) + TRUTH.size_beta * np.log(TRUTH.size_b), TRUTH.size_beta,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    return synthetic.sweep(TRUTH, UTDS, 6, rng, points=150, model_size=SIZES)


@pytest.fixture(scope="module")
def result(table):
    return report(
        table, thresholds=LEVELS, delta=DELTA, bootstrap=200, interpolate=True, holdout=1,
        max_return=1000.0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_the_fit_is_at_or_below_l_bfgs_b(seed):
    """The objective of specification 4.6, written again, minimised by scipy."""
    rng = np.random.default_rng(seed)
    sigma, size = GRID
    D = true_law().predict(sigma, size) * np.exp(0.1 * rng.standard_normal(len(sigma)))
    x, z = np.log(sigma) - np.log(sigma).mean(), np.log(size) - np.log(size).mean()
    y = np.log(D) - np.log(D).mean()

    def loss(theta):
        c, a, alpha, b, beta = theta
        terms = [c + 0 * x, a - np.exp(alpha) * x, b - np.exp(beta) * z]
        return np.mean((np.logaddexp.reduce(terms, axis=0) - y) ** 2)

    exponent = (np.log(0.02), np.log(8.0))
    bounds = [(-30, 10), (-30, 10), exponent, (-30, 10), exponent]
    starts = rng.uniform([-3, -4, -2, -4, -2], [0.5, 0, 1, 0, 1], size=(6, 5))
    best = min(
        optimize.minimize(loss, s, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15}).fun
        for s in starts
    )
    law = fit_data_size(sigma, size, D)
    assert law.loss <= best * (1 + 1e-6)
    assert law.loss == pytest.approx(np.mean(np.log(law.predict(sigma, size) / D) ** 2))
    assert law.start_losses[0] == law.loss


def test_every_bootstrap_refit_is_the_fit_of_its_replicate():
    rng = np.random.default_rng(1)
    sigma, size = GRID
    D = true_law().predict(sigma, size)
    samples = D * np.exp(0.08 * rng.standard_normal((40, len(D))))
    samples[3, 2] = np.nan
    samples[4] = np.nan
    law = fit_data_size(sigma, size, D, samples=samples)
    for k in (0, 1, 2, 3, 30):
        alone = fit_data_size(sigma, size, samples[k])
        again = SizeLaw(**{name: float(v[k]) for name, v in law.samples.items()})
        seen = np.isfinite(samples[k])
        errors = np.log(again.predict(sigma, size) / samples[k])[seen]
        assert np.mean(errors**2) <= alone.loss * (1 + 1e-5)
    assert np.isnan(law.samples["alpha"][4])
    ci = law.predict_ci(sigma, size)
    assert ((ci[:, 0] < D) & (D < ci[:, 1])).mean() >= 0.9
    assert law.unidentified()["a"]  # a = A**(1/alpha) swings over decades


def test_a_variable_without_effect_is_flagged():
    sigma, size = GRID
    law = fit_data_size(sigma, size, 5e4 * (1 + (1.5 / sigma) ** 0.9))
    assert law.flags == ("no_size_gain",)
    law = fit_data_size(sigma, size, 5e4 * (1 + (3e5 / size) ** 0.6))
    assert law.flags == ("no_utd_gain",)


def test_the_batch_rule_of_two_variables_is_recovered():
    sigma, size = GRID
    exact = TRUTH.batch_1 * sigma**-0.45 / (1 + 3e3 * size**-0.6)
    rng = np.random.default_rng(0)
    rule = fit_size_rule(sigma, size, exact, exact * np.exp(0.05 * rng.normal(size=(200, 20))))
    got = [np.exp(rule.log_a), rule.alpha, np.exp(rule.log_b), rule.beta]
    np.testing.assert_allclose(got, [TRUTH.batch_1, 0.45, 3e3, 0.6], rtol=1e-5)
    assert rule.flags == () and rule.r2 == pytest.approx(1.0)
    assert rule.ci("alpha")[0] < 0.45 < rule.ci("alpha")[1]
    np.testing.assert_allclose(rule.predict(sigma, size), exact, rtol=1e-6)
    flat = fit_size_rule(sigma, size, 600 * sigma**-0.4)
    assert flat.flags == ("no_size_effect",) and flat.alpha == pytest.approx(0.4)
    assert fit_size_rule(sigma, size, np.full(20, 256.0)).predict(3.0, 2e6) == pytest.approx(256)


@pytest.mark.parametrize("delta", [1e9, 5e9, 1e11])
def test_an_interior_optimum_at_constant_batch_meets_the_closed_form(delta):
    """Specification 3.1.8: alpha (a / s)**alpha = beta (b / N)**beta."""
    law = true_law()
    prices = SizePrices(delta, constant_rule(256.0))
    best = joint_optimum(law, prices, ((1e-3, 1e4), (1e3, 1e9)))
    assert best.at_bound == ()
    utd_term = law.alpha * np.exp(law.log_A) * best.utd**-law.alpha
    size_term = law.beta * np.exp(law.log_B) * best.size**-law.beta
    assert utd_term == pytest.approx(size_term, rel=1e-6)
    # and the condition along s: price / (price + delta) = alpha (a / s)**alpha / D
    price = 10 * best.size * 256 * best.utd
    assert price / (price + delta) == pytest.approx(utd_term / best.data, rel=1e-6)
    assert best.budget == pytest.approx((price + delta) * law.predict(best.utd, best.size))


def test_the_optimum_with_the_fitted_rule_is_the_least_of_a_fine_grid():
    law, (sigma, size) = true_law(), GRID
    rule = fit_size_rule(sigma, size, TRUTH.batch_1 * sigma**-0.45 / (1 + 3e3 * size**-0.6))
    prices = SizePrices(DELTA, rule)
    best = joint_optimum(law, prices, ((0.5, 8.0), (1e5, 6.4e6)))
    u, n = np.meshgrid(np.geomspace(0.5, 8, 400), np.geomspace(1e5, 6.4e6, 400), indexing="ij")
    F = (prices.per_transition(u, n) + DELTA) * law.predict(u, n)
    assert best.budget <= F.min() * (1 + 1e-9) and best.budget == pytest.approx(F.min(), rel=1e-4)
    at = np.unravel_index(F.argmin(), F.shape)
    assert best.utd == pytest.approx(u[at], rel=0.02) and best.size == pytest.approx(
        n[at], rel=0.02
    )


def test_an_optimum_at_an_edge_of_the_box_is_flagged_and_left_out():
    prices = SizePrices(1e14, constant_rule(256.0))
    dear = joint_optimum(true_law(), prices, ((0.5, 8.0), (1e5, 6.4e6)))
    assert dear.at_bound == ("utd_high", "size_high")
    assert (dear.utd, dear.size) == (pytest.approx(8.0), pytest.approx(6.4e6))
    with pytest.raises(ScalingError, match=r"add runs at UTD 16 .*model size 1\.28e\+07"):
        joint_law([dear, dear], holdout=0)
    with pytest.raises(ScalingError, match="delta=0"):
        joint_optimum(true_law(), SizePrices(0.0, constant_rule(256.0)), ((0.5, 8), (1e5, 6.4e6)))


def test_the_report_recovers_the_generator_on_the_plane(result):
    part = result["size_axis"]
    assert part["sizes"] == list(SIZES) and part["missing"] == []
    for law in part["law"]:
        for p in law["prediction"]:
            assert p["D"] == pytest.approx(TRUTH.D(p["utd"], law["J"], p["size"]), rel=0.1)
        inside = [
            p["D_ci"][0] < TRUTH.D(p["utd"], law["J"], p["size"]) < p["D_ci"][1]
            for p in law["prediction"]
        ]
        assert np.mean(inside) >= 0.75 and law["median_abs_error"] < 0.05
    rule = part["batch_rule"]
    assert rule["alpha"] == pytest.approx(0.45, abs=1e-6) and rule["beta"] == pytest.approx(0.6)
    sigma, size = GRID
    prices = SizePrices(DELTA, fit_size_rule(
        sigma, size, [TRUTH.best(u, n)[0] for u, n in zip(sigma, size)]))  # fmt: skip
    for o in part["optima"]:
        true = joint_optimum(true_law(o["J"]), prices, ((0.5, 8.0), (1e5, 6.4e6)))
        assert o["at_bound"] == list(true.at_bound) == []
        assert o["utd"] == pytest.approx(true.utd, rel=0.3)
        assert o["size"] == pytest.approx(true.size, rel=0.5)
        assert o["budget"] == pytest.approx(true.budget, rel=0.06)
        assert o["budget_ci"][0] < true.budget < o["budget_ci"][1]
    for side, gone in (("utd", 8.0), ("size", 6.4e6)):
        left = part["extrapolation"][side]
        assert left["left_out"] == gone and left["median_abs_error"] < 0.15
        assert len(left["levels"]) == len(LEVELS)


def test_the_held_out_error_is_that_of_a_fit_without_the_largest_size(table, result):
    s = size_study(read_table(table), make(
        dict(thresholds=LEVELS, bootstrap=0, interpolate=True, max_return=1000.0)))  # fmt: skip
    keep = s.size < 6.4e6
    for j, level in enumerate(result["size_axis"]["extrapolation"]["size"]["levels"]):
        law = fit_data_size(s.sigma[keep], s.size[keep], s.pooled[keep, j])
        errors = law.predict(s.sigma[~keep], s.size[~keep]) / s.pooled[~keep, j] - 1
        np.testing.assert_allclose(level["errors"], errors, rtol=1e-4, atol=1e-5)


def test_a_frozen_batch_changes_the_price_and_nothing_else(table, result):
    frozen = report(
        table, thresholds=LEVELS, delta=DELTA, bootstrap=0, interpolate=True, size_batch=256.0,
        max_return=1000.0, holdout=1,
    )["size_axis"]  # fmt: skip
    for law, other in zip(frozen["law"], result["size_axis"]["law"]):
        assert law["Dmin"] == pytest.approx(other["Dmin"])
    best = frozen["optima"][-1]
    assert best["batch_size"] == pytest.approx(256)
    assert best["compute"] == pytest.approx(2560 * best["utd"] * best["size"] * best["data"])
    assert best["utd"] != pytest.approx(result["size_axis"]["optima"][-1]["utd"], rel=0.01)


def test_a_grid_over_batch_sizes_gives_the_rule_with_its_interval():
    truth = synthetic.Truth(size_b=3e5, batch_b=3e3, k_batch=1.0)
    table = synthetic.sweep(
        truth, (1.0, 2.0, 4.0), 4, np.random.default_rng(2), points=120, model_size=SIZES[:3],
        batch_sizes=(32, 64, 128, 256, 512), learning_rates=(2e-4, 4e-4, 8e-4),
    )  # fmt: skip
    part = report(table, thresholds=(400, 700), delta=DELTA, bootstrap=60, interpolate=True)
    rule = part["size_axis"]["batch_rule"]
    assert rule["alpha"] == pytest.approx(0.45, abs=0.2)
    assert rule["alpha_ci"][0] < rule["alpha"] < rule["alpha_ci"][1]
    for p in rule["prediction"]:
        assert p["batch_size"] == pytest.approx(truth.best(p["utd"], p["size"])[0], rel=0.35)
    assert rule["prediction"][0]["batch_size"] < rule["prediction"][2]["batch_size"]  # rises with N


def test_files_text_and_figures_of_the_size_axis(result, tmp_path):
    names = {p.name for p in write(result, tmp_path)}
    assert {"size_data.png", "size_plane.svg", "size_error.png", "samples.npz"} <= names
    again = load(tmp_path)
    assert again == result
    law = size_report.law_from_summary(again["size_axis"]["law"][-1], 3, again.samples)
    np.testing.assert_allclose(
        law.predict(2.0, 4e5), result["size_axis"]["law"][-1]["prediction"][9]["D"]
    )
    text = (tmp_path / "report.txt").read_text()
    assert "MODEL SIZE" in text and "cheapest (sigma, N)" in text
    assert f"D at N {6.4e6:.4g}, fitted without it" in text
    old = json.loads((tmp_path / "fit.json").read_text()) | {"version": 1}
    (tmp_path / "fit.json").write_text(json.dumps(old))
    with pytest.raises(ScalingError, match="version 1, this rlx reads 2; fit it again"):
        load(tmp_path)


def test_a_size_axis_that_cannot_be_fitted_says_why(table):
    two = {k: v[table["model_size"] < 1e6] for k, v in table.items()}
    assert report(two, thresholds=LEVELS, delta=DELTA, bootstrap=0)["size_axis"] is None
    assert report(table, thresholds=LEVELS, delta=DELTA, bootstrap=0, model_size=4e5)[
        "size_axis"] is None  # fmt: skip
    gone = (table["model_size"] == 6.4e6) & (table["utd"] == 8)
    partial = {k: v[~gone] for k, v in table.items()}
    partial["task"] = np.full(len(partial["task"]), "partial")
    both = synthetic.joined([table, partial])
    options = dict(thresholds=LEVELS, delta=DELTA, bootstrap=0)
    part = report(both, **options)["size_axis"]
    assert part["tasks"] == ["synthetic"] and any("left out" in w for w in part["warnings"])
    missing = [(m["task"], m["utd"], m["model_size"], m["why"]) for m in part["missing"]]
    assert missing == [("partial", 8.0, 6.4e6, "not run")]
    assert report(both, **options, require_complete=False)["size_axis"]["tasks"] == [
        "partial", "synthetic"]  # fmt: skip
    low = table["return"] * np.where(gone, 0.1, 1.0)
    result = report({**table, "return": low}, **options, max_return=1000.0)
    assert result["size_axis"] is None
    assert any("no model-size axis" in w and "require_complete" in w for w in result["warnings"])


def test_tasks_of_one_width_share_a_nominal_size():
    """The same widths on two tasks whose observations differ: 10 % more parameters on one."""
    parts = []
    for i, factor in enumerate((1.0, 1.1)):
        part = synthetic.sweep(
            TRUTH, UTDS, 3, np.random.default_rng(i), task=f"t{i}", points=80, model_size=SIZES
        )
        part["width"] = np.round(np.sqrt(part["model_size"]))
        part["model_size"] = part["model_size"] * factor
        parts.append(part)
    result = report(
        synthetic.joined(parts), thresholds=LEVELS, delta=DELTA, bootstrap=0, interpolate=True
    )
    part = result["size_axis"]
    np.testing.assert_allclose(part["sizes"], np.array(SIZES) * 1.1**0.5)
    assert part["tasks"] == ["t0", "t1"] and part["missing"] == []
    assert [w for _, w in result["widths"]] == [316.0, 632.0, 1265.0, 2530.0]
    assert any("geometric mean stands for the width" in w for w in result["warnings"])


def test_options_of_the_size_axis_are_checked(table):
    for options, message in (
        (dict(size_batch="fixed"), "size_batch='fixed'; accepted: rule, or a number"),
        (dict(size_batch=-1.0), "size_batch=-1; must be a positive"),
        (dict(preset="vsp"), "unknown preset 'vsp'; nearest: .*cos"),
        (dict(max_nan=1.5), "max_nan=1.5; must be between 0 and 1"),
        (dict(unfinished="run"), "unfinished='run'; accepted: level, cell"),
        (dict(max_return="cos"), "max_return=cos knows no base level of synthetic"),
    ):
        with pytest.raises(ScalingError, match=message):
            report(table, **options)
