"""The command that makes data: the same bytes however it was made, and its errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import make_data
from rlx.data.synth.shards import Plan, Shards
from rlx.infra.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pointmaze-medium-navigate-v0.npz", "pointmaze-medium-navigate-v0-val.npz")


def flags(out: Path, *more: str, episodes: int = 6, length: int = 51) -> list[str]:
    size = (f"--episodes={episodes}", f"--length={length}", "--seed=4")
    return ["--env=pointmaze-medium", "--type=navigate", *size, f"--out={out}", *more]


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_the_same_bytes_for_any_number_of_workers_and_after_a_stop(tmp_path, capsys, monkeypatch):
    assert make_data.main(flags(tmp_path / "one", "--workers=1")) == 0
    shown = capsys.readouterr()
    assert "357 rows, " in shown.out and "(100%)" in shown.err
    task = "--task=pointmaze-medium-navigate-singletask-v0"
    assert f"`python -m experiments.offline {task} --data={tmp_path / 'one'}`" in shown.out
    assert make_data.main(flags(tmp_path / "two", "--workers=2")) == 0

    plan = Plan("pointmaze-medium", "navigate", 6, 51, 4, "")
    shards, stop = Shards(plan, tmp_path / "three"), []
    assert not shards.make(1, None, stop, lambda made: stop.append("x") if made == 2 else None)
    assert shards.missing() == [2, 3, 4, 5, 6] and not shards.finished()
    before = [shards.path(i).stat().st_mtime_ns for i in (0, 1)]
    joined = Shards.finish
    kept = []
    monkeypatch.setattr(
        Shards,
        "finish",
        lambda s: (kept.extend(s.path(i).stat().st_mtime_ns for i in (0, 1)), joined(s)),
    )
    assert make_data.main(flags(tmp_path / "three", "--workers=2")) == 0
    assert kept == before
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")
    names = sorted(path.name for path in (tmp_path / "three").iterdir())
    assert names == sorted([*FILES, "pointmaze-medium-navigate-v0.json"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
def test_a_signal_to_the_group_stops_it_and_the_same_command_goes_on(tmp_path, number, code):
    command = [sys.executable, "-m", "experiments.make_data"]
    command += flags(tmp_path, "--workers=2", episodes=400, length=501)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    running = subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/0*.npz")):
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.05)
    os.killpg(running.pid, number)
    out, error = running.communicate(timeout=60)
    assert running.returncode == code, out + error
    assert "episodes left; the same command goes on" in out
    assert "Traceback" not in error


def test_data_of_another_seed_is_not_overwritten(tmp_path):
    assert make_data.main(flags(tmp_path, "--workers=1", episodes=1, length=5)) == 0
    assert make_data.main(flags(tmp_path, "--workers=1", episodes=1, length=5)) == 0
    with pytest.raises(ValueError, match=r"holds other data, {'episodes': 1}"):
        make_data.main(flags(tmp_path, "--workers=1", episodes=2, length=5))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--env=pointmaze-medum", "--type=navigate"], "nearest: pointmaze-medium,"),
        (["--env=scene", "--type=nois"], "try 'noisy'"),
        (["--env=antmaze-large", "--type=navigate"], "experiments.expert --env=ant --workdir"),
        (["--env=scene", "--type=play", "--expert=x"], "scene needs no --expert"),
        (["--env=scene", "--type=play", "--episodes=0"], "--episodes and --workers are >= 1"),
        (["--env=antmaze-large", "--type=navigate", "--expert=nowhere"], "nowhere holds no expert"),
    ],
)
def test_bad_flags(given, text, tmp_path):
    with pytest.raises((ConfigError, ValueError, FileNotFoundError), match=text):
        make_data.main([*given, f"--out={tmp_path}"])
