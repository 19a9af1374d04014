"""The command `experiments.offline` as a user types it: runs, skips, refuses; its table."""

from __future__ import annotations

import csv
import json

import pytest

from experiments import offline, offline_compare
from rlx.infra import errors
from rlx.train import offline_pack

TASK = "pointmaze-medium-navigate-singletask-task2-v0"
SMOKE = ("--agent=fql", f"--task={TASK}", "--smoke")


def call(*flags: str) -> int:
    return errors.one_line(offline.main, list(flags))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    flags = (*SMOKE, f"--data={folder}", f"--workdir={folder / 'run'}", "--alpha=1,10")
    short = ("--steps=30", "--config.train.log_every=10", "--config.train.eval_every=15")
    assert call(*flags, *short, "--config.eval.episodes=1") == 0
    return folder, (*flags, *short, "--config.eval.episodes=1")


def test_smoke_makes_its_data_trains_and_says_what_it_found(finished, capsys):
    folder, flags = finished
    assert (folder / "3_episodes" / "pointmaze-medium-navigate-v0.npz").is_file()
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["status"] == "done" and result["grad_steps"] == 30
    assert set(result["runs"]) == {"s0_alpha1", "s0_alpha10"}
    rows = list(csv.DictReader((folder / "run" / "curve.csv").open()))
    # 15 is an evaluation without a log event: no mean of Q there, and no crash either
    assert [(row["step"], row["q"] != "") for row in rows[::2]] == [("15", False), ("30", True)]
    assert {row["alpha"] for row in rows} == {"1.0", "10.0"}
    assert (folder / "run" / "curve.png").stat().st_size > 5000
    assert call(*flags) == 0
    assert "finished before, skipped" in capsys.readouterr().out


def test_the_table_of_finished_runs(finished, capsys):
    folder, _ = finished
    out = f"--out={folder / 'table'}"
    assert offline_compare.main([str(folder / "run"), str(folder), out]) == 0
    said = capsys.readouterr()
    assert f"{folder}: no curve.csv, left out" in said.err
    assert f"| method | {TASK} |" in said.out and "| fql smoke alpha 10 | 0 [0, 0] |" in said.out


def test_dry_run_says_what_would_run(finished, capsys):
    _, flags = finished
    assert call(*flags, "--dry_run", "--overwrite") == 0
    said = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert said["transitions"] == 3000 and said["updates"] == 30 and said["shapes"] == [[2], [2]]


CUBE = "--task=cube-single-play-singletask-v0"
REFUSED = [
    (("--agent=fqll",), "unknown agent 'fqll'; nearest: fql"),
    (("--agent=fql", "--task=cube-singel-play-singletask-v0"), "nearest: cube-single-play"),
    (
        ("--agent=fql", CUBE, "--data=nowhere"),
        "experiments.make_data --env=cube-single --type=play",
    ),
    (
        ("--agent=fql", "--task=antsoccer-arena-navigate-singletask-v0", "--data=nowhere"),
        "Download",
    ),
    ((*SMOKE, "--alpha=3,-1"), "learner.alpha is a number >= 0, got -1"),
    (("--agent=iql", CUBE, "--smoke", "--expectile=0.9,1.5"), "learner.expectile is a number in"),
    (("--agent=flow_bc", CUBE, "--smoke", "--alpha=1"), "learner.alpha"),
    (("--agent=fql", "--task=visual-scene-play-singletask-v0", "--data=x"), "set MUJOCO_GL=egl"),
    (("--agent=fql", "--task=pen-human-v1", "--data=x"), "data.folder is for OGBench's tasks"),
    (("--agent=fql", "--task=pen-human-v1"), "Minari"),
    ((*SMOKE, "--seed=0", "--seeds=2"), "--seed and --seeds are both given"),
    ((*SMOKE, "--chunk=2", "--n_step=2"), "data.n_step = 2 and data.chunk = 2"),
]


@pytest.mark.parametrize("flags, text", REFUSED)
def test_refusals_are_one_line_with_exit_code_2(flags, text, tmp_path, capsys, monkeypatch):
    def compiling(*args, **kwargs):
        raise AssertionError("a session was built, which compiles")

    monkeypatch.setattr(offline_pack.Session, "__init__", compiling)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    code = call(*flags, f"--workdir={tmp_path / 'run'}")
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.startswith("error: ") and text in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
