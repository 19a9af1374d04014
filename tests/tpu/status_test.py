"""What has become of a job is read from its workdir, and decides whether it runs again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launches import sweep_file

from tpu import launch, status


def finished(workdir: Path, **result) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text("{}")
    (workdir / "result.json").write_text(json.dumps(result))


def started(workdir: Path, rows: int) -> None:
    """A pack of two runs, with a row that is being written."""
    for run in ("s0", "s1"):
        (workdir / "runs" / run).mkdir(parents=True)
        text = json.dumps({"schema": 1}) + "\n"
        text += "".join(json.dumps({"env_steps": 100 * n}) + "\n" for n in range(1, rows + 1))
        (workdir / "runs" / run / "metrics.jsonl").write_text(text + '{"env_st')
    (workdir / "config.json").write_text("{}")


def test_states(tmp_path):
    finished(tmp_path / "a", status="done")
    finished(tmp_path / "b", status="failed", message="train/loss is not finite")
    started(tmp_path / "c", rows=7)
    found = [str(status.state_of(str(tmp_path / name))) for name in "abcd"]
    assert found == [
        "done",
        "failed: train/loss is not finite",
        "running: 7 rows, 700 env steps",
        "not started",
    ]


@pytest.fixture
def swept(tmp_path):
    """Four UTDs: done, failed, stopped, not started; the flags of their launch."""
    file = sweep_file(tmp_path, [{"train.utd": utd} for utd in (1.0, 2.0, 4.0, 8.0)])
    flags = ["--experiment=scaling_laws", f"--config={file}", "--backend=local", "--name=s"]
    flags += [f"--workdir={tmp_path}/w", f"--out={tmp_path}/out"]
    launch.main(flags)
    jobs = json.loads((tmp_path / "out" / "jobs.json").read_text())["jobs"]
    workdirs = [Path(job["workdir"]) for job in jobs]
    finished(workdirs[0], status="done")
    finished(workdirs[1], status="failed", message="NaN")
    started(workdirs[2], rows=3)
    (tmp_path / "out" / "jobs.json").unlink()
    return flags


def test_status_is_a_table_and_writes_nothing(swept, tmp_path, capsys):
    capsys.readouterr()
    assert launch.main([*swept, "--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["job", "runs", "on", "overrides", "state"]
    assert [line.split("  ")[-1] for line in lines[1:]] == [
        "done",
        "failed: NaN",
        "running: 3 rows, 300 env steps",
        "not started",
    ]
    assert not (tmp_path / "out" / "jobs.json").exists()


@pytest.mark.parametrize("retry_failed, utds", [(False, [4.0, 8.0]), (True, [2.0, 4.0, 8.0])])
def test_done_jobs_are_skipped_and_failed_ones_wait_for_retry_failed(
    swept, tmp_path, capsys, retry_failed, utds
):
    capsys.readouterr()
    assert launch.main([*swept, *(["--retry_failed"] if retry_failed else [])]) == 0
    out = capsys.readouterr().out
    assert f"4 runs in 4 jobs; {len(utds)} to run, 1 done, 1 failed (--retry_failed goes" in out
    jobs = json.loads((tmp_path / "out" / "jobs.json").read_text())["jobs"]
    assert [word for job in jobs for word in job["argv"] if "utd" in word and "=" in word][::2] == [
        f"--config.train.utd={utd}" for utd in utds
    ]
    assert ["--retry_failed" in job["argv"] for job in jobs] == [utd == 2.0 for utd in utds]
