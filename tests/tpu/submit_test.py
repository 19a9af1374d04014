"""What is submitted, what is not submitted twice, and what a failed submission leaves."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tpu import launch, storage, submit
from tpu.errors import LaunchError

NO_OBJECT = "The following URLs matched no objects or files"


def tool(folder: Path, name: str, script: str) -> None:
    """Put an executable on a PATH folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


class Cluster:
    """The tools `gcloud`, `sky`, `xpk` and `sbatch` of a script; UTD 1 is done in its bucket."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.ran, self.out = folder / "bin", folder / "ran", folder / "out"
        self.works()
        self.results({"1": "done"})

    def works(self, fails: str = "none") -> None:
        """Let the tools note what they submit, and fail where `fails` is in it."""
        for name in ("sky", "xpk", "sbatch"):
            tool(
                self.bin,
                name,
                f'echo "{name} $*" >> {self.ran}; case "$*" in *{fails}*) exit 3;; esac',
            )

    def results(self, states: dict[str, str]) -> None:
        """Let the bucket have these results by UTD."""
        cases = " ".join(
            f"*d-utd-{utd}-*/result.json) echo '{json.dumps({'status': state})}';;"
            for utd, state in states.items()
        )
        rest = f'*.json*) echo "{NO_OBJECT}" >&2; exit 1;;'
        tool(self.bin, "gcloud", f'case "$3" in {cases} {rest} esac')

    def launch(self, *flags: str, backend: str = "skypilot") -> int:
        argv = ["--experiment=scaling_laws", "--config=configs/scaling_laws.py:demo", "--name=d"]
        argv += [f"--backend={backend}", f"--out={self.out}", "--accelerator=v6e-8"]
        return launch.main([*argv, "--workdir=gs://our-runs/x", *flags])

    def submitted(self) -> list[str]:
        """UTDs that were submitted since the last call."""
        lines = self.ran.read_text().splitlines() if self.ran.exists() else []
        self.ran.unlink(missing_ok=True)
        return [line.split("d-utd-")[1][0] for line in lines if "d-utd-" in line]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    return Cluster(tmp_path)


def test_submit_runs_the_tool_once_per_job_that_is_not_done(cluster, capfd):
    assert cluster.launch("--submit") == 0
    assert cluster.submitted() == ["2", "4", "8"]
    assert "16 runs in 4 jobs; 3 to run, 1 done" in capfd.readouterr().out
    assert len(list(cluster.out.glob("*.yaml"))) == 3


def test_a_relaunch_submits_no_job_twice_unless_resubmit(cluster, capfd):
    cluster.launch("--submit")
    assert cluster.submitted() == ["2", "4", "8"]
    capfd.readouterr()
    assert cluster.launch("--submit") == 0
    out = capfd.readouterr().out
    assert cluster.submitted() == [] and "4 jobs; 0 to run, 1 done" in out
    lines = [line for line in out.splitlines() if line.startswith("skipped: d-utd-")]
    assert len(lines) == 3 and lines[0].endswith("Z (--resubmit does it again)")
    assert cluster.launch() == 0  # a dry run reads no bucket: UTD 1 is left
    assert capfd.readouterr().out.count("sky jobs launch") == 1
    assert cluster.launch("--submit", "--resubmit") == 0
    assert cluster.submitted() == ["2", "4", "8"]


def test_a_submitted_job_that_failed_is_submitted_by_retry_failed(cluster):
    cluster.launch("--submit")
    cluster.submitted()
    cluster.results({"1": "done", "2": "failed"})
    assert cluster.launch("--submit") == 0 and cluster.submitted() == []
    assert cluster.launch("--submit", "--retry_failed") == 0
    assert cluster.submitted() == ["2"]


def test_another_workdir_is_another_job(cluster):
    cluster.launch("--submit")
    cluster.submitted()
    assert cluster.launch("--submit", "--workdir=gs://our-runs/y") == 0
    assert cluster.submitted() == ["2", "4", "8"]


def test_a_failed_submission_stops_no_other_and_is_told_at_the_end(cluster, capfd):
    cluster.works(fails="d-utd-4-")
    assert cluster.launch("--submit") == 1
    assert cluster.submitted() == ["2", "4", "8"]
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: sky jobs launch") and line.endswith("ended with exit code 3")
    assert "d-utd-4-" in line and len(submit.read(cluster.out)) == 2
    cluster.works()
    assert cluster.launch("--submit") == 0 and cluster.submitted() == ["4"]


def test_xpk_notes_every_job_by_itself(cluster):
    cluster.works(fails="d-utd-2-")
    flags = ("--submit", "--image=i", "--cluster=c")
    assert cluster.launch(*flags, backend="xpk") == 1
    assert cluster.submitted() == ["2", "4", "8"]
    cluster.works()
    assert cluster.launch(*flags, backend="xpk") == 0 and cluster.submitted() == ["2"]


def test_one_array_of_slurm_notes_all_its_jobs(cluster, tmp_path, capfd):
    flags = ("--submit", f"--workdir={tmp_path}/w", "--accelerator=cpu")
    cluster.works(fails="d.sbatch")
    assert cluster.launch(*flags, backend="slurm") == 1
    assert submit.read(cluster.out) == {}
    cluster.works()
    assert cluster.launch(*flags, backend="slurm") == 0
    assert len(submit.read(cluster.out)) == 4
    capfd.readouterr()
    assert cluster.launch(*flags, backend="slurm") == 0
    assert capfd.readouterr().out.count("skipped: ") == 4
    assert len(cluster.ran.read_text().splitlines()) == 2


def test_a_broken_note_is_refused(tmp_path):
    (tmp_path / submit.FILE).write_text("{")
    with pytest.raises(LaunchError, match=r"submitted\.json cannot be read"):
        submit.read(tmp_path)


@pytest.mark.parametrize(
    "stderr, missing",
    [
        (f"ERROR: (gcloud.storage.cat) {NO_OBJECT}:\ngs://our-runs/a.json", True),
        ("ERROR: (gcloud.storage.cat) gs://our-runs/a.json not found: 404.", True),
        ("ERROR: (gcloud.storage.cat) gs://our-runs not found: 404.", False),
        ("ERROR: HTTPError 404: The specified bucket does not exist.", False),
        ("ERROR: HTTPError 403: no access", False),
    ],
)
def test_a_bucket_that_is_not_there_is_no_missing_file(cluster, stderr, missing):
    tool(cluster.bin, "gcloud", f'echo "{stderr}" >&2; exit 1')
    if missing:
        assert storage.read("gs://our-runs/a.json") is None
        return
    with pytest.raises(LaunchError, match=r"gs://our-runs/a.json cannot be read: ERROR"):
        storage.read("gs://our-runs/a.json")
