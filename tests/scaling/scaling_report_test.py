"""The whole report on synthetic tables, its files, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic

from rlx.scaling import ScalingError, flops, load, recommend, write
from rlx.scaling.report import report

UTDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
LEVELS = [300.0, 500.0, 700.0, 800.0]
TRUTH = synthetic.Truth()


@pytest.fixture(scope="module")
def table():
    return synthetic.sweep(TRUTH, UTDS, seeds=8, rng=np.random.default_rng(0), points=200)


@pytest.fixture(scope="module")
def result(table):
    net = (17, 6, (64, 64), (64, 64))
    return report(
        table, thresholds=LEVELS, delta=4e8, bootstrap=300, holdout=1, interpolate=True, net=net
    )


def test_report_recovers_the_generator(result):
    for law in result["data_law"]:
        for p in law["prediction"]:
            assert p["D"] == pytest.approx(TRUTH.D(p["utd"], law["J"]), rel=0.08)
            assert p["D_ci"][0] < p["D"] < p["D_ci"][1]
        assert law["flags"] == [] and law["alpha"] == pytest.approx(TRUTH.alpha, rel=0.4)
    rule = result["rules"]["batch_size"]
    assert rule["slope"] == pytest.approx(TRUTH.batch_slope) and rule["slope_ci"] == [None, None]
    assert rule["at_utd_1"]["synthetic"] == pytest.approx(TRUTH.batch_1)
    for optimum in result["budget_law"]["optima"]:
        assert optimum["at_bound"] is None and optimum["utd"] == pytest.approx(2.75, rel=0.25)
        batch = TRUTH.batch_1 * optimum["utd"] ** (1 + TRUTH.batch_slope)
        assert optimum["compute"] == pytest.approx(10 * 1e5 * batch * optimum["data"], rel=1e-6)
        assert optimum["budget"] == pytest.approx(optimum["compute"] + 4e8 * optimum["data"])
        count = flops.sac(17, 6, (64, 64), (64, 64), batch_size=1)
        exact = optimum["data"] * (batch * count.per_update + count.per_env_step)
        assert optimum["flops_exact"] == pytest.approx(exact)
    assert [h["J"] for h in result["budget_law"]["holdout_errors"]] == [800.0]
    extra = result["extrapolation"]
    assert extra["left_out_utd"] == 8.0 and len(extra["utd_errors"]) == 4
    assert extra["median_abs_D_error"] == np.median([abs(e["error"]) for e in extra["utd_errors"]])
    assert result["per_task"]["synthetic"]["D"][2][1] == pytest.approx(TRUTH.D(1.0, 500.0), rel=0.1)
    assert result["missing"] == []


def test_the_left_out_error_is_that_of_a_fit_without_the_largest_utd(table, result):
    keep = table["utd"] < 8
    smaller = report(
        {k: v[keep] for k, v in table.items()},
        thresholds=LEVELS,
        delta=4e8,
        interpolate=True,
        bootstrap=0,
    )
    for law, error in zip(smaller["data_law"], result["extrapolation"]["utd_errors"]):
        predicted = law["Dmin"] + law["k"] * 8.0 ** -law["alpha"]
        # with one task pooling changes nothing, so the two scales agree
        assert error["predicted"] == pytest.approx(predicted, rel=1e-6)


def test_a_grid_sweep_finds_the_rules():
    batches, rates = (64, 128, 256, 512, 1024), (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)
    truth = synthetic.Truth(k_batch=1.0, k_rate=1.0)
    table = synthetic.sweep(
        truth, (0.5, 1.0, 2.0, 4.0), 5, np.random.default_rng(1), points=200,
        batch_sizes=batches, learning_rates=rates, horizon=2.0,
    )  # fmt: skip
    result = report(table, thresholds=[300, 600], delta=4e8, bootstrap=100, interpolate=True)
    for name, slope, at_1 in (("batch_size", -0.45, 400), ("learning_rate", -0.3, 6e-4)):
        rule = result["rules"][name]
        assert rule["slope"] == pytest.approx(slope, abs=0.12)
        assert rule["at_utd_1"]["synthetic"] == pytest.approx(at_1, rel=0.25)
        low, high = rule["slope_ci"]
        assert low < rule["slope"] < high < 0
    assert len(result["rules"]["best"]) == 4 and len(result["rules"]["table"]) == 7


def test_files_are_strict_json_and_figures(result, tmp_path):
    paths = write(result, tmp_path / "out")
    names = {p.name for p in paths}
    for figure in ("data", "frontier", "budget", "hparams", "extrapolation", "diagnostics"):
        assert {f"{figure}.png", f"{figure}.svg"} <= names
    assert all(p.stat().st_size > 500 for p in paths)
    text = (tmp_path / "out" / "fit.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in fit.json"))
    assert load(tmp_path / "out") == result
    report_text = (tmp_path / "out" / "report.txt").read_text()
    order = [
        report_text.index(part)
        for part in ("EXTRAPOLATION", "DATA: predicted", "D_J = Dmin", "WARNINGS")
    ]
    assert order == sorted(order)
    with pytest.raises(ScalingError, match="--overwrite"):
        write(result, tmp_path / "out")
    write(result, tmp_path / "out", overwrite=True)


def test_recommendation_spends_the_budget(result):
    law = result["budget_law"]
    middle = law["reference_budget"]
    advice = recommend(result, middle)
    assert advice["utd"] == pytest.approx(law["utd_at_reference"])
    assert advice["data"] * law["delta"] + advice["compute"] == pytest.approx(middle)
    assert advice["utd_ci"][0] < advice["utd"] < advice["utd_ci"][1]
    assert advice["batch_size"]["synthetic"] % 16 == 0
    assert 300 <= advice["J"] <= 800 and not advice["extrapolated"]
    far = recommend(result, middle * 1e6)
    assert far["extrapolated"] and far["J"] is None
    with pytest.raises(ScalingError, match="budget=-1"):
        recommend(result, -1.0)


def test_one_seed_fits_without_intervals(table, tmp_path):
    one = {k: v[table["seed"] == 0] for k, v in table.items()}
    result = report(one, thresholds=LEVELS, delta=4e8)
    law = result["data_law"][0]
    assert law["Dmin"] > 0 and law["Dmin_ci"] == [None, None] == law["prediction"][0]["D_ci"]
    assert result["budget_law"]["exponent_ci"] == [None, None]
    assert any("intervals unavailable" in w for w in result["warnings"])
    assert "interval unavailable" in write(result, tmp_path)[1].read_text()


def test_one_single_seed_cell_makes_pooled_intervals_unavailable(table):
    keep = (table["utd"] != 8) | (table["seed"] == 0)
    result = report({k: v[keep] for k, v in table.items()}, thresholds=LEVELS, delta=4e8)
    assert result["data_law"][0]["alpha_ci"] == [None, None]


def test_number_of_utds_is_checked(table):
    def of(*utds):
        keep = np.isin(table["utd"], utds)
        return {k: v[keep] for k, v in table.items()}

    with pytest.raises(ScalingError, match=r"needs >= 3 UTDs, got 2: 1, 2"):
        report(of(1, 2))
    with pytest.raises(ScalingError, match="fix Dmin at 0"):
        report(of(1, 2, 4), three_utds="refuse")
    fixed = report(of(1, 2, 4), thresholds=LEVELS, delta=4e8, bootstrap=50)
    assert all(law["Dmin"] == 0 for law in fixed["data_law"])
    assert "got 2" in fixed["extrapolation"]["note"] and any(
        "Dmin held at 0" in w for w in fixed["warnings"]
    )


def test_leaving_one_of_four_utds_out_says_that_dmin_is_held(table):
    keep = np.isin(table["utd"], (1, 2, 4, 8))
    rows = {k: v[keep] for k, v in table.items()}
    result = report(rows, thresholds=LEVELS, delta=4e8, bootstrap=0)
    assert len(result["extrapolation"]["utd_errors"]) == 4
    assert "Dmin at 0" in result["extrapolation"]["note"]


def test_resampling_tasks_widens_the_intervals(table):
    truths = {"slow": synthetic.Truth(beta=4.0), "flat": synthetic.Truth(beta=0.7)}
    parts = [
        synthetic.sweep(truth, UTDS, 8, np.random.default_rng(i), task=name, points=100)
        for i, (name, truth) in enumerate(truths.items())
    ]
    options = {"thresholds": LEVELS, "delta": 4e8, "bootstrap": 200, "interpolate": True}
    three = synthetic.joined([table, *parts])
    widths = []
    for outer in (False, True):
        law = report(three, resample_tasks=outer, **options)["data_law"][1]
        widths.append(np.diff([p["D_ci"] for p in law["prediction"]], axis=1)[:, 0])
    assert widths[1][0] > 1.2 * widths[0][0]


def test_weighted_fits_use_the_inverse_variance_of_D(table):
    options = {"thresholds": [500.0], "delta": 4e8, "bootstrap": 200, "holdout": 0}
    laws = [report(table, weighted=w, **options)["data_law"][0] for w in (False, True)]
    # D at low UTDs is larger and, with multiplicative noise, worse known: weighted, it counts less
    gaps = [
        [abs(np.log(p["D"] / m["D"])) for p, m in zip(law["prediction"], law["measured"])]
        for law in laws
    ]
    assert gaps[1][-1] <= gaps[0][-1] + 1e-9 and laws[0]["alpha"] != laws[1]["alpha"]
    with pytest.raises(ScalingError, match="weighted=True needs the bootstrap"):
        report(table, weighted=True, **{**options, "bootstrap": 0})


def test_levels_nobody_reaches(table):
    result = report(table, thresholds=[500, 700, 5000], delta=4e8, bootstrap=50)
    assert result["config"]["thresholds"] == [500, 700]
    assert any("no run reaches: 5000" in w for w in result["warnings"])
    with pytest.raises(ScalingError, match=r"best mean return .* synthetic .* try --thresholds="):
        report(table, thresholds=[5000])


def test_missing_cells_are_listed_and_pooling_needs_every_utd(table):
    other = synthetic.sweep(TRUTH, UTDS[:-1], 8, np.random.default_rng(5), task="other", points=200)
    both = synthetic.joined([table, other])
    result = report(both, thresholds=LEVELS, delta=4e8, bootstrap=50)
    assert {"task": "other", "utd": 8.0, "levels": "all", "why": "not run"} in result["missing"]
    assert all(law["tasks"] == ["synthetic"] for law in result["data_law"])
    loose = report(both, thresholds=LEVELS, delta=4e8, bootstrap=50, require_complete=False)
    assert all(law["tasks"] == ["other", "synthetic"] for law in loose["data_law"])
    with pytest.raises(ScalingError, match="--require_complete=false"):
        report(
            synthetic.joined([other, {k: v[table["utd"] > 1] for k, v in table.items()}]),
            thresholds=LEVELS,
        )


def test_data_that_rises_with_utd_is_flagged_not_a_crash():
    truth = synthetic.Truth(beta=0.01)
    parts = [
        synthetic.sweep(truth, [u], 4, np.random.default_rng(int(8 * u)), points=150) for u in UTDS
    ]
    for part, slow in zip(parts, np.linspace(1, 2, len(parts))):
        part["env_step"] = part["env_step"] * slow
    result = report(synthetic.joined(parts), thresholds=LEVELS, delta=4e8, bootstrap=60)
    assert all(law["beta"] == 0 and "no_utd_gain" in law["flags"] for law in result["data_law"])
    assert result["budget_law"]["coefficient"] is None
    assert {o["at_bound"] for o in result["budget_law"]["optima"]} == {"low"}
    assert any("add runs at UTD 0.125" in w for w in result["warnings"])


def test_options_that_do_not_exist_or_make_no_sense(table):
    with pytest.raises(ScalingError, match="unknown option 'threshold'; nearest: thresholds"):
        report(table, threshold=[1])
    with pytest.raises(ScalingError, match="accepted: continuous, grid100"):
        report(table, method="brent")
    with pytest.raises(ScalingError, match="delta=-1"):
        report(table, delta=-1.0)
    with pytest.raises(ScalingError, match="only fills a blank column"):
        report(table, batch_size=128)
    with pytest.raises(ScalingError, match="unknown task 'synthetics'; nearest: synthetic"):
        report(table, tasks=("synthetics",))


def test_no_model_size_means_no_compute(table):
    blank = {k: v for k, v in table.items() if k != "model_size"}
    result = report(blank, thresholds=LEVELS, bootstrap=50)
    assert result["budget_law"] is None and any("no model size" in w for w in result["warnings"])
    given = report(blank, thresholds=LEVELS, bootstrap=50, model_size=1e5, delta=4e8)
    assert given["budget_law"]["model_size"] == 1e5


def test_several_algorithms_must_be_chosen_and_of_several_sizes_one_is_told(table):
    other = dict(table, algo=np.full(len(table["utd"]), "td3"))
    with pytest.raises(ScalingError, match="several algorithms \\(sac, td3\\)"):
        report(synthetic.joined([table, other]))
    larger = dict(table, model_size=np.full(len(table["utd"]), 3e5))
    both = synthetic.joined([table, larger])
    told = report(both, thresholds=LEVELS, delta=4e8, bootstrap=0)
    assert told["config"]["model_size"] in (1e5, 3e5) and told["size_axis"] is None
    assert any("model sizes 100000, 300000" in w for w in told["warnings"])
    with pytest.raises(ScalingError, match=r"unknown model_size '7\.0'"):
        report(both, model_size=7.0)
