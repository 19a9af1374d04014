"""What to run: `recommend` at any price of data, its flags and commands; `suggest` against the
simulation of what it suggests."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic

from rlx.scaling import ScalingError, flops, plots, recommend, report_published, suggest, write
from rlx.scaling.__main__ import main
from rlx.scaling.forecast import forecast
from rlx.scaling.report import report

UTDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
LEVELS = (300.0, 500.0, 700.0, 800.0)
TRUTH = synthetic.Truth()
DELTA = 4e8
OPTIONS = dict(thresholds=LEVELS, delta=DELTA, interpolate=True, holdout=1, max_return=1000.0)
SIZE_TRUTH = synthetic.Truth(size_b=3e5, batch_b=3e3)
SIZES = (1e5, 4e5, 1.6e6, 6.4e6)


@pytest.fixture(scope="module")
def result():
    table = synthetic.sweep(TRUTH, UTDS, 8, np.random.default_rng(0), points=200)
    return report(table, **OPTIONS, bootstrap=300)


@pytest.fixture(scope="module")
def sized():
    rng = np.random.default_rng(5)
    table = synthetic.sweep(SIZE_TRUTH, UTDS[1:], 6, rng, points=150, model_size=SIZES)
    table["width"] = np.round(table["model_size"] ** 0.5)
    return report(table, **OPTIONS | {"delta": 5e9}, bootstrap=150)


def test_another_price_of_data_gives_the_fit_of_that_price(result):
    table = synthetic.sweep(TRUTH, UTDS, 8, np.random.default_rng(0), points=200)
    dear = report(table, **OPTIONS | {"delta": 1.6 * DELTA}, bootstrap=300)
    F = dear["budget_law"]["reference_budget"]
    again, direct = recommend(result, F, delta=1.6 * DELTA), recommend(dear, F)
    assert again["delta"] == 1.6 * DELTA
    for name in ("utd", "data", "J", "compute"):
        assert again[name] == pytest.approx(direct[name], rel=1e-6)
    for name in ("utd_ci", "data_ci", "J_ci"):
        assert again[name] == pytest.approx(direct[name], rel=1e-4)
    assert again["utd"] > recommend(result, F)["utd"]  # dearer data: more updates on each
    with pytest.raises(ScalingError, match="delta=-1"):
        recommend(result, F, delta=-1.0)


def test_intervals_hold_the_truth_and_a_new_measurement(result):
    F = result["budget_law"]["reference_budget"]
    advice = recommend(result, F)
    low, high = advice["utd_ci"]
    assert low < 2.747 < high  # the generator's sigma*, at every budget
    tau = TRUTH.tau(advice["utd"], *TRUTH.best(advice["utd"]))
    true_J = 1000 * (1 - np.exp(-advice["data"] / tau))
    assert advice["J_ci"][0] < true_J < advice["J_ci"][1]
    inside = 0
    for r in range(40):  # new sweeps of 8 seeds: their D at J, by the mean of their time constants
        noise = np.exp(TRUTH.seed_sd * np.random.default_rng(r).standard_normal(8)).mean()
        D = tau * noise * np.log(1000 / (1000 - advice["J"]))
        inside += advice["data_ci"][0] < D < advice["data_ci"][1]
    assert inside >= 36
    width = np.log(advice["data_ci"][1] / advice["data_ci"][0])
    assert 0.05 < width < 0.5


def test_the_commands_are_ready_and_sized_for_each_task(result):
    advice = recommend(result, result["budget_law"]["reference_budget"])
    (run,) = advice["runs"]
    assert run["env_steps"] == int(np.ceil(advice["data"]))  # one task: the pooled scale is its own
    assert run["command"] == (
        f"python -m experiments.scaling_laws --algo=sac --utd={advice['utd']:.3g} "
        f"--batch_size={advice['batch_size']['synthetic']} "
        f"--lr={advice['learning_rate']['synthetic']:g} --env=synthetic --steps={run['env_steps']}"
    )
    slow = synthetic.Truth(tau0=3 * TRUTH.tau0)
    parts = [
        synthetic.sweep(truth, UTDS, 4, np.random.default_rng(i), task=f"t{i}", points=200)
        for i, truth in enumerate((TRUTH, slow))
    ]
    two = report(synthetic.joined(parts), **OPTIONS, bootstrap=0)
    first, second = recommend(two, two["budget_law"]["reference_budget"])["runs"]
    assert second["env_steps"] / first["env_steps"] == pytest.approx(3.0, rel=0.06)


def test_nothing_outside_the_measured_range_is_silent(result, sized):
    F = result["budget_law"]["reference_budget"]
    assert recommend(result, F)["flags"] == [] and not recommend(result, F)["extrapolated"]
    far = recommend(result, 1e4 * F)
    assert far["extrapolated"] and far["J"] is None and far["data_ci"] is None
    assert any("lies outside the fitted optima" in flag for flag in far["flags"])
    edge = recommend(result, F * 300, delta=300 * DELTA)  # data so dear that sigma* is at the edge
    assert edge["extrapolated"] and edge["utd"] == pytest.approx(8.0, rel=1e-3)
    assert any("edge of the measured UTD range" in flag for flag in edge["flags"])
    assert edge["truncated"] == ["utd"] and recommend(result, F)["truncated"] == []
    level = {o["J"]: o["budget"] for o in result["budget_law"]["optima"]}
    for F in (0.99 * level[800.0], 1.01 * level[700.0]):  # J = 800 is held out of the law
        held = recommend(result, F)
        assert held["extrapolated"]
        assert any("lies outside the fitted optima" in flag for flag in held["flags"])
        assert any("held out of the law: J = 800," in flag for flag in held["flags"])
    for F in (1.05 * level[300.0], 0.99 * level[700.0]):
        assert recommend(result, F)["flags"] == []
    joint = {o["J"]: o["budget"] for o in sized["size_axis"]["optima"]}
    assert any("held out" in flag for flag in recommend(sized, 0.99 * joint[800.0])["flags"])
    far = recommend(sized, 1e3 * sized["size_axis"]["budget_law"]["reference_budget"])
    assert far["extrapolated"] and far["size"] <= 6.4e6 and far["utd"] <= 8.0
    assert any(flag.startswith("extrapolated: budget") for flag in far["flags"])


def test_levels_with_an_optimum_at_the_edge_are_outside_too():
    gym, dmc = report_published("gym"), report_published("dmc")
    F = gym["budget_law"]["optima"][-1]["budget"]
    advice = recommend(gym, 0.99 * F)  # UTD 7.75 by the law against 6.29 fitted
    assert advice["utd"] == pytest.approx(7.75, rel=0.01) and advice["extrapolated"]
    assert any("held out of the law: J = 770.13, 800," in flag for flag in advice["flags"])
    dear = 1.8e10  # the law then rests on J = 300 ... 696
    at = {o.J: o for o in forecast(gym, dear).optima}
    assert at[735.799].at_bound and not at[696.341].at_bound
    for F in (0.999 * at[735.799].budget, 1.001 * at[696.341].budget):
        flags = recommend(gym, F, delta=dear)["flags"]
        assert any("edge of the measured range: J = 735.799" in flag for flag in flags), flags
    assert recommend(gym, 0.99 * at[538.956].budget, delta=dear)["flags"] == []
    dear = 2.424e11  # one level in the midst of the fitted ones is at the edge
    at = {o.J: o for o in forecast(dmc, dear).optima}
    assert at[567.976].at_bound and not at[496.032].at_bound and not at[629.65].at_bound
    flags = recommend(dmc, at[567.976].budget, delta=dear)["flags"]
    assert len(flags) == 1 and "edge of the measured range" in flags[0]


def test_the_joint_recommendation_names_model_size_and_width(sized):
    F = sized["size_axis"]["budget_law"]["reference_budget"]
    advice = recommend(sized, F)
    assert advice["axis"] == "size" and advice["flags"] == []
    assert advice["size_ci"][0] < advice["size"] < advice["size_ci"][1]
    assert advice["width"] == pytest.approx(advice["size"] ** 0.5, rel=0.01)
    batch = SIZE_TRUTH.best(advice["utd"], advice["size"])[0]
    assert abs(advice["batch_size"]["synthetic"] - batch) <= 16
    price = 10 * advice["size"] * batch * advice["utd"]
    assert advice["data"] * (price + 5e9) == pytest.approx(F, rel=1e-3)
    assert advice["runs"][0]["command"].count(f"--width={advice['width']} ") == 1
    assert recommend(sized, F, axis="utd")["size"] is None
    with pytest.raises(ScalingError, match="axis='both'; accepted: auto, utd, size"):
        recommend(sized, F, axis="both")


def test_the_width_comes_from_the_nets_where_they_are_known(sized):
    result = type(sized)(dict(sized), sized.samples)
    result["config"] = sized["config"] | {"net": [17, 6, [256, 256], [256, 256]]}
    advice = recommend(result, sized["size_axis"]["budget_law"]["reference_budget"])
    exact = flops.mlp([23, advice["width"], advice["width"], 1]).times(2).params
    assert exact == pytest.approx(advice["size"], rel=0.01)


def test_published_laws_answer_without_intervals():
    published = report_published("dmc")
    F = published["budget_law"]["reference_budget"]
    advice = recommend(published, F)
    assert advice["utd_ci"] is None and advice["data_ci"] is None and len(advice["runs"]) == 7
    assert recommend(published, F, delta=1e11)["utd"] > advice["utd"]
    with pytest.raises(ScalingError, match="no bootstrap samples"):
        suggest(published, F)


def test_suggest_prefers_runs_that_simulation_confirms():
    """Seeded sweeps: do the best, the middle and the worst suggestion, fit again, compare.

    Over 14 sweeps and all 11 candidates the expected log widths 0.46 ... 0.80 came out as 0.41 ...
    0.80, in nearly the expected order; here a part of that.
    """
    options = OPTIONS | {"bootstrap": 120, "holdout": 0}
    expected: dict[str, list[float]] = {"best": [], "middle": [], "worst": []}
    simulated: dict[str, list[float]] = {"best": [], "middle": [], "worst": []}
    end = 2.5 * TRUTH.tau(0.25, *TRUTH.best(0.25))
    for r in range(4):
        rng = np.random.default_rng(100 + r)
        table = synthetic.sweep(TRUTH, UTDS[1:], 5, rng, points=100, end=end)
        plan = suggest(report(table, **options), 3e13, runs=1, seeds=20)
        ranked = plan["single"]
        assert plan["runs"][0]["utd"] == ranked[0]["utd"]
        for name, entry in zip(expected, (ranked[0], ranked[len(ranked) // 2], ranked[-1])):
            more = synthetic.sweep(
                TRUTH, [entry["utd"]], 20, np.random.default_rng(r), points=100, first_seed=5,
                end=end,
            )  # fmt: skip
            low, high = recommend(report(synthetic.joined([table, more]), **options), 3e13)[
                "utd_ci"
            ]
            expected[name].append(np.log(entry["factor_after"]))
            simulated[name].append(np.log(high / low))
    got = {name: float(np.mean(v)) for name, v in simulated.items()}
    assert got["best"] < 0.8 * got["middle"] and got["best"] < 0.8 * got["worst"], got
    for name, widths in expected.items():
        assert got[name] == pytest.approx(np.mean(widths), rel=0.3)


def test_suggestions_are_ordered_costed_and_ready(result):
    plan = suggest(result, runs=4)
    factors = [plan["factor"], *(run["factor_after"] for run in plan["runs"])]
    assert factors == sorted(factors, reverse=True) and len(set(factors)) == 5
    assert len({(run["kind"], run["utd"]) for run in plan["runs"]}) == 4
    one = plan["single"][0]
    assert one["factor_after"] == pytest.approx(plan["runs"][0]["factor_after"], rel=0.02)
    more = next(e for e in plan["single"] if e["kind"] == "more seeds" and e["utd"] == 2.0)
    price = 10 * 1e5 * TRUTH.best(2.0)[0] * 2 + DELTA
    assert more["cost"] == pytest.approx(8 * TRUTH.D(2.0, 800.0) * price, rel=0.06)
    assert "--utd=2 " in more["commands"][0]
    assert more["commands"][0].endswith("--seed=8,9,10,11,12,13,14,15")
    between = next(e for e in plan["single"] if e["kind"] == "new point" and 2 < e["utd"] < 4)
    assert between["commands"][0].endswith("--seeds=8") and not between["outside"]
    assert {e["utd"] for e in plan["single"] if e["outside"]} == {0.125, 16.0}
    cheap = suggest(result, runs=1, by="cost")["runs"][0]
    assert cheap["cost"] <= plan["runs"][0]["cost"]
    few, many = (suggest(result, runs=1, seeds=n)["runs"][0]["factor_after"] for n in (2, 32))
    assert many < few
    with pytest.raises(ScalingError, match="target='speed'; accepted: utd, size, data"):
        suggest(result, target="speed")
    with pytest.raises(ScalingError, match="no model-size axis"):
        suggest(result, target="size")
    table = synthetic.sweep(TRUTH, UTDS, 4, np.random.default_rng(0), points=60)
    dear = report(table, **OPTIONS | {"delta": 1e13}, bootstrap=60)
    with pytest.raises(ScalingError, match="same edge of the measured range"):
        suggest(dear)


def test_suggest_over_the_model_size(sized):
    for target in ("utd", "size", "data"):
        plan = suggest(sized, runs=2, target=target)
        assert plan["factor"] > plan["runs"][0]["factor_after"] > plan["runs"][1]["factor_after"]
        sizes = {e["size"] for e in plan["single"]}
        assert set(SIZES) < sizes and 5e4 in sizes and 1.28e7 in sizes
        assert all("--width=" in c for run in plan["runs"] for c in run["commands"])


def test_the_command_line_prints_text_and_json(result, sized, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "write_all", lambda result, out: [])
    write(result, tmp_path / "utd")
    write(sized, tmp_path / "size")
    F = result["budget_law"]["reference_budget"]
    assert main(["recommend", str(tmp_path / "utd"), "--budget", str(F), "--delta=6e8"]) == 0
    text = capsys.readouterr().out
    assert "delta 6e+08 FLOPs per transition" in text and "--env=synthetic --steps=" in text
    assert main(["recommend", str(tmp_path / "utd"), "--budget", str(1e5 * F)]) == 0
    assert "warning: extrapolated: budget" in capsys.readouterr().out
    assert main(["recommend", str(tmp_path / "utd"), "--budget", str(1e5 * F), "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["extrapolated"] is True and advice["runs"][0]["command"].startswith("python -m")
    F = sized["size_axis"]["budget_law"]["reference_budget"]
    assert main(["recommend", str(tmp_path / "size"), "--budget", str(F)]) == 0
    assert "model size N" in capsys.readouterr().out
    assert main(["suggest", str(tmp_path / "utd"), "--runs=2"]) == 0
    text = capsys.readouterr().out
    assert "95 % interval now" in text and "2. " in text and "--seed" in text
    assert main(["suggest", str(tmp_path / "utd"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 5
    assert main(["recommend", str(tmp_path / "utd"), "--budget=-1"]) == 2
    assert "must be a positive, finite number of FLOPs" in capsys.readouterr().err
