"""Workdirs: what is recorded, who may come back, what is deleted; files are whole or absent."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rlx.infra import files, workdir
from rlx.infra.config import sha
from rlx.infra.errors import WorkdirError


def make_config(utd: float = 1.0, wandb: str = "off") -> ConfigDict:
    return ConfigDict({"seed": 0, "train": {"utd": utd}, "log": {"wandb": wandb}}).lock()


def read(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def error(*args, **kwargs) -> str:
    with pytest.raises(WorkdirError) as caught:
        workdir.claim_workdir(*args, **kwargs)
    return str(caught.value)


def test_a_new_workdir_records_the_launch(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/toy.py", "--utd=1"])
    folder = tmp_path / "a" / "b"
    assert workdir.claim_workdir(folder, make_config(), devices=["cpu:0"]) is False
    record = read(folder)
    assert record["schema"] == 1
    assert record["config"] == {"seed": 0, "train": {"utd": 1.0}, "log": {"wandb": "off"}}
    assert record["config_sha"] == sha(make_config())
    (launch,) = record["launches"]
    assert launch["argv"] == ["toy.py", "--utd=1"]
    assert launch["devices"] == ["cpu:0"]
    assert launch["packages"]["ml_collections"]
    assert {"started", "git_commit", "git_dirty", "python"} <= launch.keys()


def test_the_same_config_resumes_and_speed_fields_may_differ(tmp_path):
    workdir.claim_workdir(tmp_path, make_config())
    assert workdir.claim_workdir(tmp_path, make_config(wandb="offline")) is True
    assert len(read(tmp_path)["launches"]) == 2
    assert read(tmp_path)["config"]["log"]["wandb"] == "offline"


def test_another_config_is_refused_with_its_diff(tmp_path):
    workdir.claim_workdir(tmp_path, make_config())
    before = read(tmp_path)
    assert error(tmp_path, make_config(utd=8.0, wandb="online")) == (
        f"workdir '{tmp_path}' belongs to another config (there -> here):\n"
        "  train.utd: 1.0 -> 8.0\n"
        "pass another --workdir, or --overwrite to delete that run and start again"
    )
    assert "log.wandb" in error(tmp_path, make_config(wandb="online"), ignore=())
    assert read(tmp_path) == before


def test_a_pack_resumes_only_with_the_same_runs(tmp_path):
    workdir.claim_workdir(tmp_path, make_config(), sweep={"seed": (0, 1)})
    assert workdir.claim_workdir(tmp_path, make_config(), sweep={"seed": (0, 1)}) is True
    assert "\n  pack.seed: [0, 1] -> [0, 1, 2]\n" in error(
        tmp_path, make_config(), sweep={"seed": (0, 1, 2)}
    )
    assert "\n  pack.seed: [0, 1] -> (absent)\n" in error(tmp_path, make_config())


def test_a_failed_run_needs_retry_failed(tmp_path):
    workdir.claim_workdir(tmp_path, make_config())
    files.write_json(tmp_path / "result.json", {"status": "failed", "message": "loss is NaN"})
    assert error(tmp_path, make_config()) == (
        f"the run in '{tmp_path}' failed before: loss is NaN; pass --retry_failed to go on from "
        "its last checkpoint, or --overwrite to delete it and start again"
    )
    assert workdir.claim_workdir(tmp_path, make_config(), retry_failed=True) is True
    assert workdir.claim_workdir(tmp_path, make_config()) is True
    files.write_json(tmp_path / "result.json", {"status": "done"})
    assert workdir.claim_workdir(tmp_path, make_config()) is True
    assert (tmp_path / "result.json").exists()


def test_overwrite_deletes_only_what_rlx_wrote(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    workdir.claim_workdir(folder, make_config())
    ours = ["metrics.jsonl", "metrics.csv", "wandb_id", "result.json", "checkpoints/10/state/x"]
    ours += ["runs/s0/metrics.jsonl", "wandb/offline/x", "runs/s1/metrics.csv"]
    foreign = ["notes.txt", "runs/s1/figure.png", "data/a", "runs/readme"]
    for name in (*ours, *foreign):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "profile").symlink_to(elsewhere)
    (folder / "runs" / "linked").symlink_to(elsewhere)
    assert workdir.claim_workdir(folder, make_config(utd=8.0), overwrite=True) is False
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"config.json", *foreign}
    assert not (folder / "runs" / "s0").exists()
    assert not (folder / "profile").is_symlink()
    assert (elsewhere / "precious").exists()
    assert len(read(folder)["launches"]) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_looks_like_a_run_but_is_not_ours(tmp_path, overwrite):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    assert error(tmp_path, make_config(), overwrite=overwrite) == (
        f"workdir '{tmp_path}' holds config.json, checkpoints but no config.json of rlx: "
        "pass another --workdir, or move them away (--overwrite deletes only what rlx wrote)"
    )
    assert (tmp_path / "checkpoints").exists()


def test_a_folder_with_other_files_is_fine(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert workdir.claim_workdir(tmp_path, make_config()) is False


def test_a_workdir_must_be_a_local_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert error(file, make_config()) == f"workdir '{file}' is a file: pass a folder"
    assert error("gs://bucket/run", make_config()) == (
        "workdir 'gs://bucket/run' is no local path: mount the bucket and pass the mount point"
    )


def test_git_commit_needs_git_and_a_checkout_of_this_house(monkeypatch):
    def answer(toplevel: str, head: str, status: str):
        def run(command, **kwargs):
            text = {"--show-toplevel": toplevel, "HEAD": head}.get(command[-1], status)
            return subprocess.CompletedProcess(command, 0, stdout=text + "\n")

        return run

    house = str(Path(workdir.__file__).resolve().parents[2])
    monkeypatch.setattr(subprocess, "run", answer(house, "abc123", " M file"))
    assert workdir.git_commit() == ("abc123", True)
    monkeypatch.setattr(subprocess, "run", answer(house, "abc123", ""))
    assert workdir.git_commit() == ("abc123", False)
    monkeypatch.setattr(subprocess, "run", answer("/another", "abc123", ""))
    assert workdir.git_commit() == (None, None)

    def no_git(command, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert workdir.git_commit() == (None, None)


def test_write_json_turns_everything_plain(tmp_path):
    np = pytest.importorskip("numpy")
    value = {
        "nan": math.nan,
        "inf": np.float32("inf"),
        "scalar": np.float32(0.5),
        "array": np.arange(3),
        "nested": [(1, np.bool_(True)), {"x": -math.inf}],
        "set": {2, 1},
        "path": Path("a/b"),
        3: None,
    }
    files.write_json(tmp_path / "new" / "x.json", value)
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {
        "nan": None,
        "inf": None,
        "scalar": 0.5,
        "array": [0, 1, 2],
        "nested": [[1, True], {"x": None}],
        "set": [1, 2],
        "path": "a/b",
        "3": None,
    }


def test_a_write_that_dies_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    file = tmp_path / "x.txt"
    files.write_text(file, "old")

    def dies(*args):
        raise OSError("disk full")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, dies)
            with pytest.raises(OSError, match="disk full"):
                files.write_text(file, "new")
        assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
        assert file.read_text() == "old"
    files.write_text(file, "new")
    assert file.read_text() == "new"


def test_written_files_have_the_usual_permissions(tmp_path):
    files.write_text(tmp_path / "a", "")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
