"""Successive halving: the rungs, the choice, and survivors that go on as if never interrupted."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from experiments import search
from rlx.infra import checkpoint, errors
from rlx.train import halving

FLAGS = [
    "--config=configs/scaling_laws.py:smoke",
    "--steps=4000",
    "--batch_size=16",
    "--config.learner.critic_hidden=16,16",
    "--config.learner.actor_hidden=16,16",
    "--config.eval.episodes=4",
    "--config.search.points=4",
]


def test_rungs_halve_the_settings_and_double_the_steps():
    assert halving.rungs(16, 8000, 3, 2) == [(16, 2000), (8, 4000), (4, 8000)]
    assert halving.rungs(9, 900, 3, 3) == [(9, 100), (3, 300), (1, 900)]
    assert halving.rungs(5, 100, 1, 2) == [(5, 100)]
    for bad in ((3, 100, 3, 2), (8, 100, 0, 2), (8, 100, 2, 1)):
        with pytest.raises(errors.ConfigError, match=f"search.points = {bad[0]}"):
            halving.rungs(*bad)


def test_the_best_by_the_mean_over_seeds_and_dead_runs_last():
    returns = [1.0, 3.0, 5.0, 5.0, np.nan, 90.0, 4.0, 4.0]  # means 2, 5, none, 4
    assert halving.best(returns, 2, 2) == [1, 3]
    assert halving.best(returns, 2, 4) == [1, 3, 0, 2]
    assert halving.best([None, 1.0], 1, 2) == [1, 0]


def test_survivors_go_on_as_in_an_undisturbed_pack(tmp_path, capsys):
    """The last rung's runs end with the parameters of the same settings trained without rungs,
    except for rounding (another number of runs is another program)."""
    halved, whole = tmp_path / "halved", tmp_path / "whole"
    assert search.main([*FLAGS, "--rungs=2", f"--workdir={halved}"]) == 0
    assert search.main([*FLAGS, f"--workdir={whole}", "--rungs=1"]) == 0
    last = json.loads((halved / "rung_1" / "result.json").read_text())
    alone = json.loads((whole / "rung_0" / "result.json").read_text())
    first = json.loads((halved / "rung_0" / "result.json").read_text())
    assert (first["env_steps"], last["env_steps"], len(last["ids"])) == (2000, 4000, 2)
    kept = set(np.array(first["ids"])[halving.best(first["returns"], 1, 2)])
    assert kept == set(last["ids"])
    params = [checkpoint.read_params(folder) for folder in (halved / "rung_1", whole / "rung_0")]
    actor = [p["params"]["actor"]["params"]["Dense_0"]["kernel"] for p in params]
    for row, name in enumerate(last["ids"]):
        np.testing.assert_allclose(actor[0][row], actor[1][alone["ids"].index(name)], atol=0.05)
    logs = [
        (folder / "runs" / last["ids"][0] / "metrics.jsonl").read_text()
        for folder in (halved / "rung_1", whole / "rung_0")
    ]
    rows = [[json.loads(line) for line in log.splitlines()[1:]] for log in logs]
    later = [row for row in rows[1] if row["env_steps"] > 2000]
    assert [row["env_steps"] for row in rows[0]] == [row["env_steps"] for row in later]
    assert rows[0][0]["train/critic_loss"] == pytest.approx(later[0]["train/critic_loss"], rel=0.05)
    table = list(csv.DictReader((halved / "search.csv").open()))
    assert [row["rung"] for row in table] == ["0"] * 4 + ["1"] * 2
    capsys.readouterr()
    assert (
        search.main([*FLAGS, "--rungs=2", f"--workdir={halved}"]) == 0
    )  # all finished: says so again
    assert capsys.readouterr().out.startswith("1. lr ")


@pytest.mark.parametrize(
    "flag, text",
    [
        ("--config.search.ranges.lr=1e-2,1e-4", "search.ranges: range of 'lr' needs low < high"),
        ("--config.search.ranges.lr=-1,1e-4", "search.ranges: "),
        ("--rungs=3", r"rung 0 of 3 .*search.rungs.*: train.env_steps = 1000 leaves nothing"),
        ("--config.search.eta=1", "search.points = 4, search.rungs = 3, search.eta = 1"),
    ],
)
def test_bad_searches_are_refused_before_anything_is_written(tmp_path, flag, text):
    for more in ([], ["--dry_run"]):
        with pytest.raises(errors.ConfigError, match=text):
            search.main([*FLAGS, flag, *more, f"--workdir={tmp_path / 'x'}"])
    assert not (tmp_path / "x").exists()
