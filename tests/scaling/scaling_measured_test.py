"""What runs measured of themselves: seconds in place of FLOPs, and why rules fail."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic

from rlx.scaling import (
    ScalingError,
    plots,
    read_table,
    recommend,
    report_published,
    wallclock,
    write,
)
from rlx.scaling.options import make
from rlx.scaling.overfit import correlations
from rlx.scaling.report import report

UTDS = (0.5, 1.0, 2.0, 4.0, 8.0)
TRUTH = synthetic.Truth()
OPTIONS = dict(thresholds=(300.0, 500.0, 700.0, 800.0), interpolate=True, max_return=1000.0)
START = 30.0  # seconds before the first transition: compilation


def with_clock(table: dict, w1: float = 2e-3, m: float = 0.8, n: float = 0.0) -> dict:
    """The table with wall_s = START + w1 * s**m * (N / 1e5)**n seconds per transition."""
    rate = w1 * table["utd"] ** m * (table["model_size"] / 1e5) ** n
    return table | {"wall_s": START + rate * table["env_step"]}


@pytest.fixture(scope="module")
def table():
    return with_clock(synthetic.sweep(TRUTH, UTDS, 5, np.random.default_rng(0), points=100))


def test_seconds_per_transition_leave_out_the_start(table):
    got = wallclock.measure(read_table(table), make({}))
    assert got["plane"] is None  # one model size
    assert np.exp(got["line"][0]) == pytest.approx(2e-3) and got["line"][1] == pytest.approx(0.8)
    assert got["rows"][0]["seconds"] == pytest.approx(2e-3 * 0.5**0.8)
    sized = synthetic.sweep(TRUTH, UTDS, 2, np.random.default_rng(0), model_size=(1e5, 1e6, 1e7))
    got = wallclock.measure(read_table(with_clock(sized, n=0.3)), make({}))
    np.testing.assert_allclose(got["plane"][1:], (0.8, 0.3), rtol=1e-9)
    assert wallclock.at_size(got, 1e6)[0] == pytest.approx(np.log(2e-3 * 10**0.3))


def test_the_wall_clock_frontier(table):
    """With w = w1 s**0.8 in place of 10 N B s the first-order condition holds for w."""
    result = report(table, **OPTIONS, bootstrap=60, compute="seconds", delta=6e-3)
    assert result["config"]["unit"] == "seconds"
    for law, best in zip(result["data_law"], result["budget_law"]["optima"]):
        price = 2e-3 * best["utd"] ** 0.8
        term = law["k"] * best["utd"] ** -law["alpha"]
        left = 0.8 * price / (price + 6e-3)
        assert left == pytest.approx(law["alpha"] * term / (law["Dmin"] + term), rel=1e-3)
        assert best["compute"] == pytest.approx(price * best["data"]) == best["seconds"]
        assert best["flops_paper"] is None
    F = result["budget_law"]["reference_budget"]
    advice = recommend(result, F)
    assert advice["unit"] == "seconds" and not advice["extrapolated"]
    assert advice["data"] * (2e-3 * advice["utd"] ** 0.8 + 6e-3) == pytest.approx(F, rel=1e-6)
    again = recommend(result, F, delta=8e-3)
    assert again["utd"] > advice["utd"]


def test_flops_and_seconds_are_both_reported_where_measured(table, tmp_path, monkeypatch):
    result = report(table, **OPTIONS, bootstrap=0, delta=4e8)
    for best in result["budget_law"]["optima"]:
        assert best["seconds"] == pytest.approx(2e-3 * best["utd"] ** 0.8 * best["data"])
        assert best["flops_paper"] == best["compute"]
    monkeypatch.setattr(plots, "write_all", lambda result, out: [])
    text = write(result, tmp_path)[1].read_text()
    assert "seconds " in text and "FLOPs per transition" in text
    plain = {k: v for k, v in table.items() if k != "wall_s"}
    without = report(plain, **OPTIONS, bootstrap=0, delta=4e8)
    assert without["measured"] is None
    assert all(o["seconds"] is None for o in without["budget_law"]["optima"])
    with pytest.raises(ScalingError, match="compute=seconds needs the column wall_s"):
        report(plain, **OPTIONS, bootstrap=0, compute="seconds")
    with pytest.raises(ScalingError, match="compute='hours'; accepted: flops, seconds"):
        report(plain, compute="hours")


def test_seconds_on_the_plane_of_model_sizes():
    truth = synthetic.Truth(size_b=3e5)
    sized = synthetic.sweep(
        truth, UTDS, 3, np.random.default_rng(1), points=100, model_size=(1e5, 4e5, 1.6e6, 6.4e6)
    )
    table = with_clock(sized, w1=1e-3, m=0.9, n=0.5)
    part = report(table, **OPTIONS, bootstrap=0, compute="seconds", delta=0.02)["size_axis"]
    assert part["prices"]["rule"] is None
    for o in part["optima"]:
        price = 1e-3 * o["utd"] ** 0.9 * (o["size"] / 1e5) ** 0.5
        assert o["compute"] == pytest.approx(price * o["data"], rel=1e-6)
        assert o["seconds"] == pytest.approx(o["compute"]) and o["batch_size"] is None


def logged(effect: float, seed: int = 0) -> dict:
    """A grid of runs whose overfit gap rises with log sigma and log B, and whose norm rises with
    log sigma and log eta, by `effect` times a noise of one."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list] = {name: [] for name in (
        "task", "utd", "batch_size", "learning_rate", "seed", "env_step", "return",
        "critic_loss_replay", "critic_loss_recent", "critic_param_norm")}  # fmt: skip
    for task in ("a", "b"):
        for utd in (1.0, 2.0, 4.0):
            for batch in (64.0, 128.0, 256.0):
                for rate in (1e-4, 4e-4):
                    for s in range(2):
                        noise = rng.standard_normal(2)
                        gap = effect * (np.log2(utd) + np.log2(batch)) + noise[0]
                        norm = effect * (np.log2(utd) + np.log2(rate)) + noise[1]
                        offset = 100.0 if task == "b" else 0.0  # tasks differ in scale
                        for t in range(1, 9):
                            early = 1e3 * rng.standard_normal() if t <= 4 else 0.0
                            row = (task, utd, batch, rate, s, 100.0 * t, t, 5.0,
                                   5.0 + gap + offset + early, 50.0 + norm + offset)  # fmt: skip
                            for values, value in zip(columns.values(), row):
                                values.append(value)
    return columns


def test_rank_correlations_have_the_published_signs():
    got = correlations(read_table(logged(1.0)), make({}))
    assert [(c["what"], c["with"]) for c in got] == [
        ("overfit_gap", "utd"), ("overfit_gap", "batch_size"),
        ("critic_param_norm", "utd"), ("critic_param_norm", "learning_rate"),
    ]  # fmt: skip
    for c in got:
        assert c["rho"] > 0.4 and c["sign"] == "+" and c["p"] < 0.01 and c["runs"] == 72
        assert "task" in c["held"] and c["with"] not in c["held"]
    flipped = correlations(read_table(logged(-1.0)), make({}))
    assert all(c["sign"] == "-" and c["p"] < 0.01 for c in flipped)


def test_p_values_without_an_effect_are_uniform():
    p = [
        c["p"] for seed in range(10) for c in correlations(read_table(logged(0.0, seed)), make({}))
    ]
    assert len(p) == 40 and np.mean(np.array(p) < 0.1) <= 0.25 and np.median(p) > 0.25


def test_a_rule_that_moves_all_three_is_held_by_task_only():
    table = logged(1.0)
    keep = [
        i for i in range(len(table["utd"]))
        if table["batch_size"][i] == 256.0 / table["utd"][i] and table["learning_rate"][i] == 1e-4
    ]  # fmt: skip
    ruled = {k: [v[i] for i in keep] for k, v in table.items()}
    got = correlations(read_table(ruled), make({}))
    assert got[0]["with"] == "utd" and got[0]["held"] == ["algo", "task", "model_size"]


def test_the_report_lists_overfitting_only_where_it_was_logged(table, tmp_path, monkeypatch):
    assert report(table, **OPTIONS, bootstrap=0, delta=4e8)["overfit"] == []
    rng = np.random.default_rng(0)
    rows = len(table["utd"])
    rich = table | {
        "critic_loss_replay": np.full(rows, 1.0),
        "critic_loss_recent": 1.0 + table["utd"] + 0.01 * rng.standard_normal(rows),
    }
    result = report(rich, **OPTIONS, bootstrap=0, delta=4e8)
    assert [c["with"] for c in result["overfit"]] == ["utd", "batch_size"]
    assert result["overfit"][0]["rho"] == pytest.approx(1.0, abs=0.02)
    assert result["overfit"][1]["rho"] == pytest.approx(-1.0, abs=0.02)  # the rule lowers B
    monkeypatch.setattr(plots, "write_all", lambda result, out: [])
    text = write(result, tmp_path)[1].read_text()
    assert "OVERFITTING" in text and "overfit_gap with utd: rho +" in text
    assert report_published("gym")["overfit"] == []
