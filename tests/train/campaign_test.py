"""A whole sweep through the command line: three UTDs, two seeds, fit, figures; then once more."""

from __future__ import annotations

import json

import pytest

from experiments import scaling_laws
from rlx.infra import errors
from rlx.train import campaign, pack

UTDS = (0.25, 0.5, 1.0)
FLAGS = [
    "--config=configs/scaling_laws.py:env=pendulum",
    "--utd=0.25,0.5,1",
    "--seeds=2",
    "--steps=1500",
    "--batch_size=16",
    "--config.learner.critic_hidden=(16,16)",
    "--config.learner.actor_hidden=(16,16)",
    "--config.train.learning_starts=200",
    "--config.train.eval_every=100",
    "--config.eval.episodes=8",
    # A wide scale of J, on which already a random policy stands above the lowest level.
    "--config.fit.return_range=(-3000,0)",
    "--config.fit.bootstrap=50",
    "--config.log.wandb=off",
]
REACHED = "--config.fit.thresholds=50,100,150"
RESULT_KEYS = {
    "status", "utd", "utd_achieved", "batch_size", "learning_rate", "env_steps", "grad_steps",
    "eval_return", "thresholds", "env_steps_per_s", "updates_per_s", "compile_s", "seeds",
}  # fmt: skip
FIT_KEYS = {"data_law", "budget_law", "extrapolation", "warnings", "missing", "config"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """(workdir, exit code, number of sessions built) of the first call."""
    workdir = tmp_path_factory.mktemp("campaign") / "sweep"
    built = []

    class Counted(pack.Session):
        def __init__(self, *args, **kwargs):
            built.append(args)
            super().__init__(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign.pack, "Session", Counted)
        code = scaling_laws.main([*FLAGS, REACHED, f"--workdir={workdir}"])
    return workdir, code, len(built)


def test_all_utds_share_one_compiled_session(sweep):
    _, code, built = sweep
    assert code == 0 and built == 1


@pytest.mark.parametrize("utd", UTDS)
def test_every_run_says_what_was_asked_achieved_and_measured(sweep, utd):
    folder = sweep[0] / f"utd_{utd:g}"
    result = json.loads((folder / "result.json").read_text())
    assert RESULT_KEYS <= set(result)
    assert result["status"] == "done" and result["utd"] == utd
    assert result["utd_achieved"] == pytest.approx(utd, rel=0.01)
    assert result["batch_size"] == 16 and result["learning_rate"] > 0
    assert result["env_steps"] == pytest.approx(1500, abs=8)
    assert result["grad_steps"] == pytest.approx(utd * (1500 - 200), rel=0.02)
    assert len(result["eval_return"]) == len(result["seeds"]) == 2
    assert result["env_steps_per_s"] > 0 and result["updates_per_s"] > 0
    assert result["compile_s"]["wall"] > 0
    assert set(result["thresholds"]) == {"50", "100", "150"}
    for found in result["thresholds"].values():
        assert 0 <= found["env_steps"] <= 1500 and found["flops"] > 0
        assert len(found["interval"]) == 2
    lines = (folder / "runs.csv").read_text().splitlines()
    assert lines[0].startswith("algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,")
    assert len(lines) - 1 == 2 * len(result["eval_steps"])


def test_the_fit_and_its_figures_are_written(sweep):
    out = sweep[0] / "fit"
    fit = json.loads((out / "fit.json").read_text())
    assert FIT_KEYS <= set(fit)
    assert [law["J"] for law in fit["data_law"]] == [50.0, 100.0, 150.0]
    assert (out / "runs.csv").exists() and (out / "report.txt").exists()
    drawn = {path.name for path in out.rglob("*") if path.suffix in (".png", ".svg")}
    assert {f"{name}{end}" for name in ("data", "diagnostics") for end in (".png", ".svg")} <= drawn


def test_the_same_command_skips_what_is_finished_and_fits_again(sweep, capsys, monkeypatch):
    workdir = sweep[0]
    report = workdir / "fit" / "report.txt"
    report.unlink()
    monkeypatch.setattr(pack.Session, "__init__", lambda *args: pytest.fail("compiles again"))
    assert scaling_laws.main([*FLAGS, REACHED, f"--workdir={workdir}"]) == 0
    assert capsys.readouterr().out.count("finished before, skipped") == len(UTDS)
    assert report.exists()


def test_levels_that_nobody_reaches_are_one_line(sweep, capsys):
    flags = ["--fit_only", "--config.fit.thresholds=1e6,2e6,3e6", f"--workdir={sweep[0]}"]
    assert errors.one_line(scaling_laws.main, [*FLAGS, *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
