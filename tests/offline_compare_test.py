"""The table of offline runs: what joins, what stays apart, what is refused."""

from __future__ import annotations

import csv

import pytest

from experiments import offline_compare
from rlx.infra import errors, files

TASK = "cube-single-play-singletask-task2-v0"


@pytest.fixture
def make(tmp_path):
    """Write a workdir of one run per seed, with its scores at steps 100, 200 ..."""

    def write(name, scores, seeds=(0,), tag="", agent="fql", **more):
        rows = [
            {"agent": agent, "tag": tag, "task": TASK, "run": f"s{seed}", "seed": seed}
            | more
            | {"step": 100 * (i + 1), "success": 0, "return_": 0, "score": score + seed, "q": 1}
            for i, score in enumerate(scores)
            for seed in seeds
        ]
        files.write_csv(tmp_path / name / "curve.csv", rows)
        return str(tmp_path / name)

    return write


def table(tmp_path, *arguments):
    assert offline_compare.main([*arguments, f"--out={tmp_path / 'out'}"]) == 0
    with (tmp_path / "out" / "compare.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_options_stay_apart_and_labels_name(tmp_path, make):
    a, b = make("a", [10]), make("b", [90], tag="chunk5")
    c = make("c", [50], alpha=3.0)
    rows = table(tmp_path, a, b, f"min={c}")
    assert {name: float(row["mean"]) for name, row in rows.items()} == {
        "fql": 10, "fql chunk5": 90, "min alpha 3": 50,
    }  # fmt: skip


def test_the_last_evaluations_count(tmp_path, make):
    a = make("a", [100, 1, 2, 3])
    assert float(table(tmp_path, a)["fql"]["mean"]) == 2
    assert float(table(tmp_path, a, "--last=1")["fql"]["mean"]) == 3


def test_more_seeds_join(tmp_path, make):
    rows = table(tmp_path, make("a", [10], seeds=(0, 1)), make("b", [20], seeds=(2,)))
    assert rows["fql"]["runs"] == "3" and float(rows["fql"]["mean"]) == pytest.approx(43 / 3)
    assert 10 <= float(rows["fql"]["low"]) < float(rows["fql"]["high"]) <= 22


@pytest.mark.parametrize(
    ("scores", "seeds", "says"),
    [([20], (0,), "seed 0"), ([20, 30], (1,), "runs of unequal length")],
)
def test_what_does_not_belong_together_is_refused(tmp_path, make, scores, seeds, says):
    a, b = make("a", [10]), make("b", scores, seeds=seeds)
    with pytest.raises(errors.ConfigError, match=f"'fql' on {TASK}, {says}: call .*NAME={b}"):
        table(tmp_path, a, b)


def test_runs_without_the_column_are_left_out(tmp_path, make, capsys):
    a, b = make("a", [10]), tmp_path / "b"
    files.write_csv(b / "curve.csv", [{"agent": "iql", "task": TASK, "run": "s0", "seed": 0}])
    assert list(table(tmp_path, a, str(b))) == ["fql"]
    assert f"{b}: no column score in curve.csv, left out" in capsys.readouterr().err


def test_nothing_to_compare_keeps_the_table_of_before(tmp_path, make):
    table(tmp_path, make("a", [10]))
    with pytest.raises(errors.ConfigError, match="nowhere has a curve"):
        offline_compare.main(["nowhere", f"--out={tmp_path / 'out'}"])
    assert "fql" in (tmp_path / "out" / "compare.md").read_text()
