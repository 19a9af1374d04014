"""`--submit` on this machine: what the workers are told, how they are stopped, and a whole sweep
that is stopped in the middle, launched again, and ends as an undisturbed one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from rlx.infra import checkpoint
from tpu import local

WORKER = """
import json, os, signal, sys, time
mode, index = sys.argv[1], int(os.environ["RLX_PROCESS_ID"])
out = sys.argv[2].removeprefix("--workdir=")
names = ("RLX_COORDINATOR", "RLX_NUM_PROCESSES", "RLX_PROCESS_ID", "JAX_PLATFORMS", "XLA_FLAGS")
def on_signal(number, frame):
    print("signal", number, flush=True)
    time.sleep(0.2)
    os._exit(42)
signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGINT, on_signal)
print("error: a word for the log", flush=True)
os.makedirs(out, exist_ok=True)
with open(f"{out}/{index}.tmp", "w") as file:
    json.dump({name: os.environ.get(name) for name in names} | {"argv": sys.argv}, file)
os.rename(f"{out}/{index}.tmp", f"{out}/{index}.json")
if mode == "wait" or (mode == "fail" and index == 0):
    time.sleep(60)
while mode == "fail" and not os.path.exists(f"{out}/0.json"):
    time.sleep(0.01)
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit({"fail": 3, "bug": 3, "usage": 2, "peer": 134}.get(mode, 0))
"""


@pytest.fixture
def jobs_file(tmp_path):
    """Write a jobs.json whose workers are the script above; one job per mode."""

    def write(*modes: str, processes: int = 2, devices: int = 4) -> Path:
        script = tmp_path / "worker.py"
        script.write_text(WORKER)
        jobs = [
            {
                "name": f"j{n}",
                "argv": ["python", str(script), mode, f"--workdir={tmp_path}/w/j{n}"],
                "env": {"JAX_PLATFORMS": "cpu"},
                "workdir": f"{tmp_path}/w/j{n}",
            }
            for n, mode in enumerate(modes)
        ]
        file = tmp_path / "jobs.json"
        tree = {"processes": processes, "devices_per_process": devices, "jobs": jobs}
        file.write_text(json.dumps(tree))
        return file

    return write


def start(file: Path) -> subprocess.Popen:
    argv = [sys.executable, "-m", "tpu.local", str(file)]
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def await_files(process: subprocess.Popen, *files: Path, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not all(file.exists() for file in files):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_every_worker_is_told_who_it_is(jobs_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert local.main([str(jobs_file("end", "end"))]) == 0
    found = [json.loads((tmp_path / "w" / "j0" / f"{i}.json").read_text()) for i in range(2)]
    assert [f["RLX_PROCESS_ID"] for f in found] == ["0", "1"]
    for facts in found:
        host, port = facts["RLX_COORDINATOR"].split(":")
        assert host == "127.0.0.1" and int(port) > 1023
        assert facts["RLX_NUM_PROCESSES"] == "2" and facts["JAX_PLATFORMS"] == "cpu"
        assert facts["XLA_FLAGS"] == (
            "--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count=4"
        )
        assert facts["argv"] == found[0]["argv"]
    assert found[0]["RLX_COORDINATOR"] == found[1]["RLX_COORDINATOR"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split(" after")[0] for line in lines] == [
        "job 1 of 2: j0: started",
        "job 1 of 2: j0: done",
        "job 2 of 2: j1: started",
        "job 2 of 2: j1: done",
    ]
    logs = sorted(file.name for file in (tmp_path / "w").iterdir() if file.is_file())
    assert logs == ["j0.0.log", "j0.1.log", "j1.0.log", "j1.1.log"]


def test_devices_are_left_to_rlx_unless_given(jobs_file, tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert local.main([str(jobs_file("end", processes=1, devices=0))]) == 0
    assert json.loads((tmp_path / "w" / "j0" / "0.json").read_text())["XLA_FLAGS"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_every_worker_once_and_ends_in_42(jobs_file, tmp_path, number):
    with start(jobs_file("wait", "end")) as process:
        await_files(process, *(tmp_path / "w" / "j0" / f"{i}.json" for i in range(2)))
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 42
    assert "job 1 of 2: j0: stopped after" in out and "j1" not in out
    assert err == "stopped: the same command goes on from there\n"
    for i in range(2):
        log = (tmp_path / "w" / f"j0.{i}.log").read_text()
        assert log == f"error: a word for the log\nsignal {int(number)}\n"


def test_one_failed_worker_ends_the_others_and_the_next_job_runs(jobs_file, tmp_path, capsys):
    assert local.main([str(jobs_file("fail", "end"))]) == 1
    out, err = capsys.readouterr()
    assert "job 1 of 2: j0: failed (exit 3) after" in out and "job 2 of 2: j1: done" in out
    assert err.splitlines() == [
        f"{tmp_path}/w/j0.1.log: error: a word for the log",
        "1 of 2 jobs failed",
    ]
    assert (tmp_path / "w" / "j0.0.log").read_text().endswith("signal 15\n")


def test_a_usage_error_of_one_job_lets_the_others_run(jobs_file, capsys):
    assert local.main([str(jobs_file("usage", "bug", "peer", "end", processes=1))]) == 2
    out, err = capsys.readouterr()
    assert "job 1 of 4: j0: failed (exit 2)" in out and "job 4 of 4: j3: done" in out
    assert "2 of 4 jobs failed" in err.splitlines()


@pytest.mark.parametrize("mode, how", [("peer", "exit 134"), ("killed", "signal 9")])
def test_a_lost_process_counts_as_stopped_and_the_others_run(jobs_file, capsys, mode, how):
    """`--submit` again goes on with it: it has no result.json."""
    assert local.main([str(jobs_file(mode, "end"))]) == 42
    out, err = capsys.readouterr()
    assert f"job 1 of 2: j0: stopped ({how})" in out and "job 2 of 2: j1: done" in out
    assert err.splitlines()[-1] == (
        "1 of 2 jobs lost a process: the same command goes on from there"
    )


def test_a_worker_that_does_not_end_is_killed(jobs_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "GRACE_AFTER_FAILURE", 0.0)
    assert local.main([str(jobs_file("fail"))]) == 1
    assert "j0: failed (exit 3)" in capsys.readouterr().out


def test_a_file_is_needed(run_python):
    done = run_python(["-m", "tpu.local", "nowhere.json"], check=False)
    assert done.returncode == 2
    assert done.stderr == "error: usage: python -m tpu.local jobs.json, got 'nowhere.json'\n"


# The real thing.

LAUNCH = [
    "--experiment=scaling_laws",
    "--config=tests/tpu/two_utds.py:smoke",
    "--backend=local",
    "--name=pair",
]
TRAIN = [
    "--steps=5000",
    "--batch_size=16",
    "--config.learner.critic_hidden=16,16",
    "--config.learner.actor_hidden=16,16",
    "--config.eval.episodes=4",
    "--config.train.log_every=100",
    "--config.train.eval_every=500",
    "--config.train.chunk_seconds=0.02",
    "--config.checkpoint.every_steps=1000",
]


class Launch:
    """The sweep in one folder on a number of processes."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.workdir = folder / "w"
        flags = [f"--processes={processes}", "--devices_per_process=1"]
        flags += [f"--workdir={self.workdir}", f"--out={folder / 'out'}", "--submit"]
        self.argv = [sys.executable, "-m", "tpu.launch", *LAUNCH, *flags, "--", *TRAIN]

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> str:
        """Launch to the end; return what was printed."""
        with self.start() as process:
            out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err + self.logs()
        return out

    def jobs(self) -> list[Path]:
        return sorted(path for path in self.workdir.iterdir() if path.is_dir())

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.workdir.glob("*.log")))


def rows_of(file: Path) -> list[dict]:
    """Whole rows of a metrics file that another process may be writing."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines[1:] if line.endswith("\n")]


def lasting(file: Path) -> list[dict]:
    """Rows without what the clock decides."""
    return [
        {k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time/")}
        for row in rows_of(file)
    ]


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with the time of its last change."""
    return {
        str(file): (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_sweep_stopped_in_the_middle_ends_as_an_undisturbed_one(tmp_path, processes):
    reference = Launch(tmp_path / "reference", processes)
    assert "4 runs in 2 jobs; 2 to run" in reference.finish()
    assert len(reference.jobs()) == 2

    disturbed = Launch(tmp_path / "disturbed", processes)
    names = [folder.name for folder in reference.jobs()]
    first, second = (disturbed.workdir / name for name in names)
    assert names[0].startswith("pair-utd-0-5-") and names[1].startswith("pair-utd-1-")
    with disturbed.start() as process:
        limit = time.monotonic() + 300
        while not any(r["env_steps"] > 2000 for r in rows_of(first / "runs/s1/metrics.jsonl")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=180)
    assert process.returncode == 42, out + err + disturbed.logs()
    assert "stopped: the same command goes on from there" in err
    assert not (first / "result.json").exists() and not second.exists()
    stopped_at = rows_of(first / "runs" / "s0" / "metrics.jsonl")[-1]["env_steps"]
    assert 2000 < stopped_at < 5000

    assert "2 to run" in disturbed.finish()
    for name in names:
        folders = (disturbed.workdir / name, reference.workdir / name)
        for run in ("s0", "s1"):
            here, there = (lasting(folder / "runs" / run / "metrics.jsonl") for folder in folders)
            assert here == there and here[-1]["env_steps"] == 5000
        jax.tree.map(np.testing.assert_array_equal, *map(checkpoint.read_params, folders))
    launches = [json.loads((f / "config.json").read_text())["launches"] for f in (first, second)]
    assert list(map(len, launches)) == [2, 1]
    assert "preempted: saved" in (disturbed.workdir / f"{names[0]}.0.log").read_text()

    shutil.rmtree(tmp_path / "disturbed" / "out")
    before = files_of(tmp_path / "disturbed")
    assert "4 runs in 2 jobs; 0 to run, 2 done" in disturbed.finish()
    assert files_of(tmp_path / "disturbed") == before
    assert os.environ.get("RLX_COORDINATOR") is None
