"""SAC solves the pendulum with the settings of the smoke config."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.learning]


def test_the_smoke_config_solves_the_pendulum(run_python, tmp_path):
    """16 evaluation episodes of each of two seeds: at least -200 (random: -1200, best: -145)."""
    argv = ["-m", "experiments.scaling_laws", "--config=configs/scaling_laws.py:smoke", "--utd=0.5"]
    run_python([*argv, "--seeds=2", f"--workdir={tmp_path / 'run'}"], timeout=600)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "done" and len(result["eval_return"]) == 2
    assert np.mean(result["eval_return"]) >= -200
    for run in ("s0", "s1"):
        lines = (tmp_path / "run" / "runs" / run / "metrics.jsonl").read_text().splitlines()
        evals = [row for row in map(json.loads, lines[1:]) if "eval/return" in row]
        assert evals[0]["eval/return"] < -600  # it did not start there


@pytest.mark.parametrize(
    "flags",
    [
        ["--algo=bro", "--utd=1", "--steps=8000"],
        [
            "--algo=pql",
            "--steps=400000",
            "--utd=1/128",
            "--batch_size=512",
            "--config.env.num_envs=1024",
            "--config.learner.tau=0.05",
            "--config.learner.lr=5e-4",
        ],
    ],
    ids=["bro", "pql"],
)
def test_bro_and_pql_solve_the_pendulum(run_python, tmp_path, flags):
    """PQL at the preset ratio: 1024 environments, eight critic updates per vectorised step."""
    run = tmp_path / "run"
    argv = ["-m", "experiments.scaling_laws", "--env=pendulum", *flags, "--config.rule.lr=false"]
    run_python([*argv, "--seeds=2", f"--workdir={run}", "--config.log.wandb=off"], timeout=900)
    result = json.loads((run / "result.json").read_text())
    assert np.mean(result["eval_return"]) >= -200
