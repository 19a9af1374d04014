"""The whole command: stopped by a signal, torn, failed, finished, and started again.

One pack of two seeds on the pendulum with 16x16 networks. The undisturbed run is made once; every
disturbed one must end with the same rows (but for wall_s and time/*) and the same parameters.
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

from experiments import scaling_laws
from rlx.infra import checkpoint, errors

TRAIN = [
    "--config=configs/scaling_laws.py:smoke",
    "--utd=0.5",
    "--seeds=2",
    "--steps=8000",
    "--batch_size=16",
    "--config.learner.critic_hidden=16,16",
    "--config.learner.actor_hidden=16,16",
    "--config.eval.episodes=4",
    "--config.train.log_every=100",
    "--config.train.eval_every=500",
    "--config.train.chunk_seconds=0.02",
    "--config.checkpoint.every_steps=1000",
]


def command(workdir: Path, *flags: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "experiments.scaling_laws",
        *TRAIN,
        f"--workdir={workdir}",
        *flags,
    ]


def finish(workdir: Path, *flags: str, code: int = 0) -> subprocess.CompletedProcess:
    """Run the command to its end and check its exit code."""
    done = subprocess.run(
        command(workdir, *flags), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def stop(workdir: Path, number: signal.Signals, after: int = 3000) -> tuple[int, str]:
    """Start the command, signal it once a row past `after` env steps is there; (code, stderr)."""
    metrics = workdir / "runs" / "s1" / "metrics.jsonl"
    with subprocess.Popen(
        command(workdir), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        limit = time.monotonic() + 240
        while not any(row["env_steps"] > after for row in rows_of(metrics)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    return process.returncode, err


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


def assert_same(workdir: Path, reference: Path):
    for run in ("s0", "s1"):
        files = [folder / "runs" / run / "metrics.jsonl" for folder in (workdir, reference)]
        assert lasting(files[0]) == lasting(files[1])
        header = [file.read_text().splitlines()[0] for file in files]
        assert header[0] == header[1]
    params = [checkpoint.read_params(folder) for folder in (workdir, reference)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    results = [json.loads((folder / "result.json").read_text()) for folder in (workdir, reference)]
    for key in ("status", "utd_achieved", "env_steps", "grad_steps", "eval_return", "eval_steps"):
        assert results[0][key] == results[1][key]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "reference"
    done = finish(workdir)
    assert "utd 0.5 (achieved 0.5000)" in done.stdout
    return workdir


@pytest.fixture(scope="module")
def preempted(reference, tmp_path_factory):
    """A run that SIGTERM stopped after its first half."""
    workdir = tmp_path_factory.mktemp("runs") / "preempted"
    code, err = stop(workdir, signal.SIGTERM)
    assert code == errors.EXIT_PREEMPTED == 42, err
    assert "preempted: saved" in err and "the same command goes on from there" in err
    assert not (workdir / "result.json").exists()
    return workdir


def test_the_undisturbed_run_writes_what_it_promises(reference):
    result = json.loads((reference / "result.json").read_text())
    assert result["status"] == "done"
    assert (result["env_steps"], result["prefill"], result["grad_steps"]) == (8000, 1000, 3500)
    assert result["utd_achieved"] == 0.5
    for run in ("s0", "s1"):
        rows = rows_of(reference / "runs" / run / "metrics.jsonl")
        assert [r["env_steps"] for r in rows if "train/episodes" in r] == [
            -(-step // 8) * 8 for step in range(100, 8001, 100)
        ]
        evals = [r["env_steps"] for r in rows if "eval/return" in r]
        assert evals == [-(-step // 8) * 8 for step in range(500, 8001, 500)]
        assert all(row["env_frames"] == row["env_steps"] == 8 * row["step"] for row in rows)
        assert sum(row["train/episodes"] for row in rows) == 8000 / 200
        assert rows[-1]["grad_steps"] == 3500 and rows[-1]["data/utd"] == 0.5
    steps = sorted(int(f.name) for f in (reference / "checkpoints").iterdir() if f.name.isdigit())
    assert len(steps) == 2 and steps[-1] == 1000  # checkpoint.keep


def test_sigterm_saves_and_the_same_command_goes_on_bit_for_bit(reference, preempted, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(preempted, workdir)
    before = rows_of(workdir / "runs" / "s0" / "metrics.jsonl")
    assert 3000 < before[-1]["env_steps"] < 8000
    finish(workdir)
    assert_same(workdir, reference)
    launches = json.loads((workdir / "config.json").read_text())["launches"]
    assert len(launches) == 2


def test_ctrl_c_saves_says_how_to_resume_and_exits_130(reference, tmp_path):
    workdir = tmp_path / "interrupted"
    code, err = stop(workdir, signal.SIGINT)
    assert code == errors.EXIT_INTERRUPTED == 130, err
    assert "stopping after this chunk" in err
    assert "interrupted: saved" in err and "the same command goes on from there" in err
    finish(workdir)
    assert_same(workdir, reference)


@pytest.mark.parametrize("damage", ["truncated", "deleted", "half_written"])
def test_a_torn_newest_checkpoint_falls_back_with_a_warning(reference, preempted, tmp_path, damage):
    """Rows past the older checkpoint are dropped and written again: the end is still the same."""
    workdir = tmp_path / "torn"
    shutil.copytree(preempted, workdir)
    folder = workdir / "checkpoints"
    steps = sorted(int(child.name) for child in folder.iterdir() if child.name.isdigit())
    assert len(steps) == 2
    newest = folder / str(steps[-1])
    if damage == "half_written":  # killed before the rename: under orbax's temporary name
        os.rename(newest, folder / f"{steps[-1]}.orbax-checkpoint-tmp")
    else:
        data = [f for f in (newest / "state").rglob("*") if f.is_file()]
        victim = max(data, key=lambda f: f.stat().st_size)
        if damage == "deleted":
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    done = finish(workdir)
    warned = f"warning: checkpoint {newest} is damaged" in done.stderr
    assert warned == (damage != "half_written")
    assert_same(workdir, reference)


def test_when_no_checkpoint_is_whole_nothing_is_thrown_away(preempted, tmp_path):
    workdir = tmp_path / "lost"
    shutil.copytree(preempted, workdir)
    for host in (workdir / "checkpoints").glob("*/host/*"):
        host.unlink()
    rows = rows_of(workdir / "runs" / "s0" / "metrics.jsonl")
    done = finish(workdir, code=2)
    assert done.stderr.count("is damaged") == 2
    assert "is whole: pass another --workdir, or --overwrite" in done.stderr.splitlines()[-1]
    assert rows_of(workdir / "runs" / "s0" / "metrics.jsonl") == rows


def test_a_finished_run_is_skipped_and_another_config_is_refused(reference, capsys):
    """In this process: neither compiles anything, neither changes a file of the run."""
    argv = [*TRAIN, f"--workdir={reference}"]
    files = [f for f in reference.rglob("*") if f.is_file() and f.name != "config.json"]
    before = {f: f.read_bytes() for f in files}
    config = json.loads((reference / "config.json").read_text())
    assert errors.one_line(scaling_laws.main, argv) == 0
    assert f"{reference}: finished before, skipped" in capsys.readouterr().out
    assert errors.one_line(scaling_laws.main, [*argv, "--config.learner.tau=0.5"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: workdir '{reference}' belongs to another config")
    assert "learner.tau: 0.01 -> 0.5" in err and "--overwrite" in err
    assert {f: f.read_bytes() for f in reference.rglob("*") if f in before} == before
    now = json.loads((reference / "config.json").read_text())
    assert now["config"] == config["config"]


def test_a_run_that_turns_nan_exits_1_and_needs_retry_failed(tmp_path):
    """An infinite learning rate: the first losses after the prefill are the last finite ones."""
    workdir = tmp_path / "nan"
    flags = ("--seeds=1", "--lr=inf", "--steps=2000", "--config.checkpoint.every_steps=500")
    argv = [
        *(f for f in TRAIN if not f.startswith(("--seeds", "--steps", "--config.checkp"))),
        *flags,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.scaling_laws", *argv, f"--workdir={workdir}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == errors.EXIT_FAILED == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    assert lines[0].startswith("error: run s0: train/")
    assert "critic_loss" in lines[0] and "not finite between env_steps 1" in lines[0]
    last = sorted(int(f.name) for f in (workdir / "checkpoints").iterdir() if f.name.isdigit())[-1]
    assert lines[0].endswith(f"last good checkpoint: {workdir / 'checkpoints' / str(last)}")
    result = json.loads((workdir / "result.json").read_text())
    assert result["status"] == "failed" and "not finite" in result["message"]
    again = [*argv, f"--workdir={workdir}"]
    assert errors.one_line(scaling_laws.main, again) == 2
    assert json.loads((workdir / "result.json").read_text()) == result
