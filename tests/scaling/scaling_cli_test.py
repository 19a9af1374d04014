"""The command line on shipped data: curves, published coefficients, errors, files left alone."""

from __future__ import annotations

import pytest

from rlx.scaling import ScalingError, load, published
from rlx.scaling.__main__ import main
from rlx.scaling.report import report


def test_the_shipped_bro_curves_from_the_command_line(tmp_path, capsys):
    out = str(tmp_path / "bro")
    assert (
        main(["fit", str(published.path("bro_dmc_curves.csv.gz")), "--out", out, "--bootstrap=100"])
        == 0
    )
    text = capsys.readouterr().out
    assert "EXTRAPOLATION" in text and "walker-run" in text
    result = load(out)
    assert result["config"]["model_size"] == 4.92e6 and result["config"]["batch_size"] == [256]
    assert len(result["config"]["tasks"]) == 7 and len(result["data_law"]) == 10
    for law in result["data_law"]:
        D = [p["D"] for p in law["prediction"]]
        assert D == sorted(D, reverse=True)  # more updates, fewer transitions
        assert all(p["D_ci"][0] < p["D_ci"][1] for p in law["prediction"])
    assert result["data_law"][0]["alpha_ci"][0] > 0
    assert result["budget_law"]["exponent_ci"][0] < result["budget_law"]["exponent_ci"][1]
    for part in ("model sizes", "blank batch_size", "reset", "delta ="):
        assert any(part in w for w in result["warnings"]), part
    assert main(["plot", out]) == 0
    assert main(["recommend", out, "--budget", str(result["budget_law"]["reference_budget"])]) == 0
    assert "--utd=" in capsys.readouterr().out


def test_resets_are_filtered_from_the_shipped_curves():
    source = published.path("bro_dmc_curves.csv.gz")
    kept = report(source, tasks=("walker-run",), bootstrap=0, reset_grad_steps=2.5e6)
    lengths = {c["utd"]: len(c["steps"]) for c in kept["learning_curves"]}
    assert lengths[1.0] == lengths[2.0] == 40  # no reset before 1e6 env steps
    assert lengths[15.0] < 40


def test_the_note_on_resets_is_only_for_runs_that_may_have_some():
    source = published.path("bro_dmc_curves.csv.gz")
    made = {
        steps: report(source, tasks=("walker-run",), bootstrap=0, reset_grad_steps=steps)
        for steps in (None, 0, 1e12)
    }
    said = {steps: [w for w in r["warnings"] if "reset" in w] for steps, r in made.items()}
    assert "0 says that these runs never reset" in said[None][0]
    assert said[0] == said[1e12] == []
    curves = [r["learning_curves"] for r in made.values()]
    assert curves[0] == curves[1] == curves[2]
    with pytest.raises(ScalingError, match="reset_grad_steps=-1; must be >= 0"):
        report(source, reset_grad_steps=-1)


@pytest.mark.parametrize("benchmark, exponent", [("dmc", -0.7375), ("gym", 0.6198)])
def test_published_coefficients_from_the_command_line(benchmark, exponent, tmp_path):
    out = str(tmp_path / "a")
    assert main(["fit", "--published", benchmark, "--method=grid100", "--out", out]) == 0
    assert load(out)["budget_law"]["exponent"] == pytest.approx(exponent, rel=5e-3)
    table = str(published.path("data_fits.csv"))
    again = str(tmp_path / "b")
    assert main(["fit", table, "--tasks", benchmark, "--method=grid100", "--out", again]) == 0
    assert load(again)["budget_law"] == load(out)["budget_law"]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["fit", "absent.csv"], "error: no such table: absent.csv"),
        (["fit"], "error: give either tables or --published"),
        (["fit", "--published", "atari"], "error: unknown published benchmark 'atari'"),
        (
            ["fit", "--published", "dmc", "--model_size=1e6,2e6"],
            "error: model_size=1e+06, 2e+06; published coefficients take one size",
        ),
        (["fit", "runs/*/metrics.jsonl"], "error: nothing matches"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(argv, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*argv, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_an_existing_fit_is_not_overwritten(tmp_path, capsys):
    argv = ["fit", "--published", "gym", "--out", str(tmp_path)]
    assert main(argv) == 0
    assert main(argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*argv, "--overwrite"]) == 0


def test_importing_the_room_is_light(run_python):
    code = "import sys, rlx.scaling; print({'jax', 'matplotlib', 'pandas'} & set(sys.modules))"
    assert run_python(code).stdout.strip() == "set()"
