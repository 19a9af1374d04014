"""The commands of `recommend` and `suggest` reproduce the fitted setting: checked on the settings
that the sweep's own command line takes from them."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import synthetic

from experiments import scaling_laws
from rlx.envs import names
from rlx.scaling import (
    ScalingError,
    advice_text,
    load,
    plots,
    published,
    recommend,
    suggest,
    write,
)
from rlx.scaling.__main__ import main
from rlx.scaling.published_report import report_published
from rlx.scaling.report import report

UTDS = (0.5, 1.0, 2.0, 4.0)
OPTIONS = dict(
    thresholds=(300.0, 500.0, 700.0), delta=4e8, interpolate=True, holdout=0, max_return=1000.0,
    bootstrap=80,
)  # fmt: skip


def sweep(num_envs=8, **kwargs) -> dict:
    """A table whose batch sizes and learning rates lie beside every power law."""
    table = synthetic.sweep(
        synthetic.Truth(), UTDS, 4, np.random.default_rng(0), task="pendulum", points=100,
        end=120_000, **kwargs,
    )  # fmt: skip
    table["batch_size"] = np.round(table["batch_size"]) + 3 * (table["utd"] == 1)
    table["learning_rate"] = np.round(table["learning_rate"], 6)
    table["num_envs"] = np.full(len(table["utd"]), num_envs)
    return table


@pytest.fixture(scope="module")
def result():
    return report(sweep(), **OPTIONS)


def planned(command: str, capsys) -> dict:
    """What the sweep's command line would run."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "experiments.scaling_laws"]
    assert scaling_laws.main([*words[3:], "--dry_run"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    return plan


def test_more_seeds_join_the_measured_cell(result, capsys):
    table = sweep()
    plan = suggest(result, runs=1, seeds=3, run_config="configs/scaling_laws.py:study")
    more = {e["utd"]: e for e in plan["single"] if e["kind"] == "more seeds"}
    assert set(more) == set(UTDS)
    for utd, entry in more.items():
        row = int(np.flatnonzero(table["utd"] == utd)[0])
        (command,) = entry["commands"]
        assert f" --batch_size={table['batch_size'][row]:.0f} " in command
        assert f" --lr={float(table['learning_rate'][row])!r} " in command
        assert command.startswith(
            "python -m experiments.scaling_laws --config=configs/scaling_laws.py:study --algo=sac "
            f"--config.env.num_envs=8 --utd={utd:g} "
        )
        assert " --env=pendulum --steps=120000 " in command
    got = planned(more[1.0]["commands"][0], capsys)
    row = int(np.flatnonzero(table["utd"] == 1.0)[0])
    assert got["workdir"].endswith("results/scaling_laws/pendulum_more/utd_1_s4-6")
    assert len(got["runs"]) == 3 and got["utd"] == 1.0 and got["env_steps"] == 120_000
    assert got["batch_size"] == table["batch_size"][row]
    assert got["lr"] == table["learning_rate"][row]
    assert (got["vector_steps_per_iteration"], got["updates_per_iteration"]) == (1, 8)


def test_every_suggested_run_has_a_folder_of_its_own(result):
    single = suggest(result, runs=1)["single"]
    folders = [c.split("--workdir=")[1].split()[0] for e in single for c in e["commands"]]
    assert len(set(folders)) == len(folders) == len(single)
    assert "results/scaling_laws/pendulum_more/utd_0.707_s0-3" in folders
    again = suggest(result, runs=1)["single"]
    assert [e["commands"] for e in again] == [e["commands"] for e in single]


def test_seeds_of_a_size_get_its_width_and_folder():
    table = sweep(model_size=(1e5, 4e5, 1.6e6))
    table["width"] = np.round(table["model_size"] ** 0.5)
    sized = report(table, **OPTIONS)
    more = [e for e in suggest(sized, runs=1)["single"] if e["kind"] == "more seeds"]
    assert len(more) == 12
    for entry in more:
        width = round(entry["size"] ** 0.5)
        assert f" --width={width} " in entry["commands"][0]
        assert f"/pendulum_more/utd_{entry['utd']:g}_w{width}_s4-7 " in entry["commands"][0]
    middle = recommend(sized, sized["budget_law"]["reference_budget"], axis="utd")
    assert middle["width"] == 632 and "--width=632 " in middle["runs"][0]["command"]


def test_recommended_commands_name_the_environments(result, capsys, tmp_path, monkeypatch):
    F = result["budget_law"]["reference_budget"]
    got = planned(recommend(result, F)["runs"][0]["command"], capsys)
    assert (
        got["prefill_env_steps"] % 8 == 0 and got["utd"] == recommend(result, F)["runs"][0]["utd"]
    )
    mixed = sweep()
    mixed["num_envs"] = np.where(mixed["utd"] > 1, 16, 8)
    for table in (mixed, sweep(num_envs=np.nan)):
        other = report(table, **OPTIONS | {"bootstrap": 0})
        assert other["config"]["num_envs"] is None
        assert "num_envs" not in recommend(other, F)["runs"][0]["command"]
    monkeypatch.setattr(plots, "write_all", lambda result, out: [])
    write(result, tmp_path)
    for command in (["recommend", f"--budget={F}"], ["suggest", "--runs=1"]):
        assert main([command[0], str(tmp_path), *command[1:], "--run_config=my.py:a"]) == 0
        assert "scaling_laws --config=my.py:a --algo=sac" in capsys.readouterr().out


def test_a_fit_without_the_settings_of_its_runs_is_fitted_again(result, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "write_all", lambda result, out: [])
    write(result, tmp_path)
    old = load(tmp_path)
    assert suggest(old, runs=1)["single"] == suggest(result, runs=1)["single"]
    del old["cells"]
    with pytest.raises(ScalingError, match="fit it again"):
        suggest(old, runs=1)


def test_published_tasks_are_those_of_the_house_or_left_out_by_name():
    fit = report_published("dmc")
    lines = [run["command"] for run in recommend(fit, 2e15)["runs"]]
    assert "# quadruped-walk: published, but no environment of this house" in lines
    ready = [line for line in lines if not line.startswith("#")]
    assert len(ready) == 5 and all("--algo=bro" in line for line in ready)
    assert any("--env=CartpoleSwingup " in line for line in ready)


def test_every_published_task_has_an_environment_or_none():
    tasks = {row["task"] for row in published.rows("hparam_rules.csv")} | set(published.COS_BASES)
    assert tasks == set(published.ENVIRONMENTS)
    assert {name for name in published.ENVIRONMENTS.values() if name} <= set(names.ALL)


@pytest.mark.parametrize("budget", [np.inf, np.nan, 0.0])
def test_a_budget_is_positive_and_finite(result, budget):
    with pytest.raises(ScalingError, match="must be a positive, finite number of FLOPs"):
        recommend(result, budget)


def test_sizes_without_widths_have_workdirs_of_their_own_and_a_note():
    fit = report([published.path("bro_dmc_curves.csv.gz")], preset="cos", bootstrap=60)
    plan = suggest(fit, runs=3)
    text = advice_text.suggestion(plan)
    assert text.endswith("set the network to N") and "--width" not in text
    folders = [part for part in text.split() if part.startswith("--workdir=")]
    assert all("_n" in folder for folder in folders) and len(set(folders)) == len(folders)
