"""Metrics files, progress and the tracker: exact rows, exact rewinds, nothing stops a run."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from rlx.infra import rows, tracking
from rlx.infra.errors import ConfigError
from rlx.infra.logging import Logger, Run
from rlx.infra.progress import Progress, clock

HOUSE = Path(__file__).resolve().parents[2]
SOLO = [Run("s0", 0, {"train.utd": 1.0})]


def make_logger(folder: Path, runs=SOLO, **kwargs) -> Logger:
    kwargs = {"total": 100, "progress": Progress(100, io.StringIO())} | kwargs
    return Logger(folder, runs, **kwargs)


def counters(step: int) -> dict:
    return {"step": step, "env_steps": 8 * step, "grad_steps": 8 * step, "wall_s": 0.1 * step}


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def same_as_csv(file: Path) -> None:
    """Assert that every cell of metrics.csv is the value of metrics.jsonl, to the last digit."""
    with file.with_suffix(".csv").open(newline="") as text:
        table = list(csv.DictReader(text))
    expected = rows.read_rows(file)
    assert len(table) == len(expected)
    for cells, row in zip(table, expected):
        filled = {key: text for key, text in cells.items() if text != ""}
        assert filled.keys() == {key for key, value in row.items() if value is not None}
        for key, text in filled.items():
            value = ";".join(row[key]) if key == "nan" else row[key]
            assert type(value)(text) == value


def test_header_and_rows_of_a_solo_run(tmp_path):
    logger = make_logger(tmp_path, config_sha="abc")
    logger.log(0, {"train/loss": np.float32(0.1), **counters(3), "train/n": np.int32(4)})
    header, row = lines(tmp_path / "metrics.jsonl")
    assert header == {
        "schema": 1, "config_sha": "abc", "run_id": "s0", "seed": 0, "hp": {"train.utd": 1.0}
    }  # fmt: skip
    assert list(row) == [
        "step", "env_steps", "grad_steps", "wall_s", "run_id", "seed", "train/loss", "train/n"
    ]  # fmt: skip
    assert row["train/loss"] == float(np.float32(0.1))
    assert (row["step"], row["env_steps"], row["train/n"]) == (3, 24, 4)


def test_every_run_of_a_pack_has_its_own_folder(tmp_path):
    logger = make_logger(tmp_path, [Run("a", 0, {"seed": 0}), Run("b", 7, {"seed": 7})])
    logger.log(1, counters(1))
    logger.close()
    assert len(lines(tmp_path / "runs/a/metrics.jsonl")) == 1
    header, row = lines(tmp_path / "runs/b/metrics.jsonl")
    assert header["seed"] == row["seed"] == 7
    assert row["run_id"] == "b"
    assert not (tmp_path / "metrics.jsonl").exists()
    with pytest.raises(ValueError, match="run ids must differ"):
        make_logger(tmp_path, [Run("a", 0), Run("a", 1)])


def test_nan_and_inf_are_null_and_named(tmp_path):
    logger = make_logger(tmp_path)
    values = {"train/a": math.nan, "train/b": np.float32("-inf"), "train/c": 1.5, "train/d": None}
    logger.log(0, counters(1) | values)
    logger.close()
    row = lines(tmp_path / "metrics.jsonl")[1]
    assert (row["train/a"], row["train/b"], row["train/c"]) == (None, None, 1.5)
    assert row["nan"] == ["train/a", "train/b"]
    same_as_csv(tmp_path / "metrics.jsonl")


def test_bad_rows_are_refused_by_name(tmp_path):
    logger = make_logger(tmp_path)
    with pytest.raises(ValueError) as caught:
        logger.log(0, {"step": 1, "env_steps": 8})
    assert str(caught.value) == (
        "a row needs step, env_steps, grad_steps, wall_s; missing: grad_steps, wall_s"
    )
    with pytest.raises(ValueError, match="not scalar: train/q"):
        logger.log(0, counters(1) | {"train/q": np.zeros(2)})
    assert len(lines(tmp_path / "metrics.jsonl")) == 1


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    code = (
        "import os, io; from rlx.infra.logging import Logger, Run;"
        f"log = Logger({str(tmp_path)!r}, [Run('s0', 0)], total=9);"
        "log.log(0, dict(step=1, env_steps=8, grad_steps=8, wall_s=0.1));"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=HOUSE).returncode == 9
    assert [row["step"] for row in rows.read_rows(tmp_path / "metrics.jsonl")] == [1]


@pytest.mark.parametrize("seed", range(8))
def test_rewind_drops_exactly_the_later_rows(tmp_path, seed):
    draw = random.Random(seed)
    logger = make_logger(tmp_path, [Run("a", 0), Run("b", 1)])
    steps = sorted(draw.choices(range(50), k=20))
    for step in steps:
        metric = draw.choice(["train/x", "train/y"])
        value = draw.choice([math.nan, draw.lognormvariate(0, 50), -1e-300, 0.1 + 0.2])
        for run in range(2):
            logger.log(run, counters(step) | {metric: value})
    files = [tmp_path / "runs" / run / "metrics.jsonl" for run in "ab"]
    before = [file.read_text().splitlines(keepends=True) for file in files]
    keep = draw.randrange(-1, 50)
    logger.rewind(keep)
    for file, text in zip(files, before):
        expected = [line for line in text[1:] if json.loads(line)["step"] <= keep]
        assert file.read_text() == "".join([text[0], *expected])  # to the byte
        same_as_csv(file)
    logger.log(0, counters(60))
    logger.close()
    assert lines(files[0])[-1]["step"] == 60
    same_as_csv(files[0])


@pytest.mark.parametrize("cut", [1, 2, 20, 60, 140])
def test_a_half_written_line_vanishes_at_the_next_launch(tmp_path, cut):
    logger = make_logger(tmp_path)
    for step in range(3):
        logger.log(0, counters(step) | {"train/return": 0.1 * step})
    file = tmp_path / "metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-cut])
    kept = [0, 1, 2] if cut == 1 else [0, 1] if cut < 100 else [0]
    logger = make_logger(tmp_path)
    assert [row["step"] for row in rows.read_rows(file)] == kept
    logger.rewind(0)
    for step in (1, 2):
        logger.log(0, counters(step) | {"train/return": 0.1 * step})
    assert file.read_text() == whole


def test_a_half_written_header_and_bytes_of_a_crash(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"schema": 1, "conf')
    make_logger(tmp_path).log(0, counters(1))
    with file.open("ab") as tail:
        tail.write(b"\x00\xff\x00")
    make_logger(tmp_path)
    assert [line.get("step") for line in lines(file)] == [None, 1]


def test_an_interrupted_rewind_leaves_the_old_file(tmp_path, monkeypatch):
    logger = make_logger(tmp_path)
    for step in range(3):
        logger.log(0, counters(step))
    file = tmp_path / "metrics.jsonl"
    before = file.read_text()

    def dies(*args):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", dies)
        with pytest.raises(OSError, match="killed"):
            logger.rewind(1)
    assert file.read_text() == before


def test_plain_progress_is_one_line_per_event(tmp_path):
    stream = io.StringIO()
    logger = make_logger(
        tmp_path, [Run("a", 0), Run("b", 1)], total=8_000, progress=Progress(8_000, stream)
    )
    for step, wall in ((100, 10.0), (200, 10.5)):
        for run in range(2):
            row = {"step": step, "env_steps": 8 * step, "grad_steps": 0, "wall_s": wall}
            logger.log(run, row | {"eval/return": -100.0 * run - step, "train/return": 5.0})
        logger.show()
    logger.log(0, counters(900) | {"train/return": math.nan})
    logger.show()
    logger.close()
    assert stream.getvalue().splitlines()[:2] == [
        "env_steps 800/8,000 (10%)  return -150.0",
        "env_steps 1,600/8,000 (20%)  1,600 steps/s  ETA 0:04  return -250.0",
    ]
    assert stream.getvalue().count("\n") == 3


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(1000, stream)
    progress.update(100, 1.0, None)
    progress.update(600, 2.0, -3.25)
    progress.close()
    assert "600/1000" in stream.getvalue()
    assert "500 steps/s  ETA 0:01  return -3.2" in stream.getvalue()


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 90061)] == [
        "0:00", "1:00", "59:59", "1:00:00", "25:01:01"
    ]  # fmt: skip


class FakeWandb(types.SimpleNamespace):
    """Stands for the module; records what it is told."""

    def __init__(self, fail: str = "", credentials: bool = True):
        super().__init__(calls=[], fail=fail, Settings=dict)
        self.login = lambda prompt, verify: credentials and not prompt
        self.log = lambda values, step: self._note("log", (values, step))
        self.finish = lambda: self._note("finish", ())

    def init(self, **kwargs):
        self._note("init", kwargs)
        return self

    def _note(self, name, arguments):
        if name == self.fail:
            raise RuntimeError(f"{name} broke")
        self.calls.append((name, arguments))


@pytest.fixture
def fake(monkeypatch):
    def install(**kwargs) -> FakeWandb:
        module = FakeWandb(**kwargs)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module

    monkeypatch.setenv("WANDB_SILENT", "true")
    return install


def test_wandb_off_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert tracking.start_wandb("off", tmp_path, {}) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError) as caught:
        tracking.start_wandb("on", tmp_path, {})
    assert str(caught.value) == "log.wandb is one of off, offline, online, got 'on'"


def test_wandb_gets_numbers_and_the_prefix_of_the_run(tmp_path, fake):
    module = fake()
    tracker = tracking.start_wandb("offline", tmp_path, {"seed": 0})
    logger = make_logger(tmp_path, [Run("a", 0), Run("b", 1)], tracker=tracker)
    logger.log(1, counters(3) | {"train/x": 2.0, "train/y": math.nan})
    logger.close()
    logger.close()
    assert [name for name, _ in module.calls] == ["init", "log", "finish"]
    values, step = module.calls[1][1]
    assert step == 3
    assert values == {"b/env_steps": 24, "b/grad_steps": 24, "b/wall_s": pytest.approx(0.3),
                      "b/train/x": 2.0}  # fmt: skip
    init = module.calls[0][1]
    assert (init["mode"], init["resume"], init["config"]) == ("offline", "allow", {"seed": 0})
    assert init["settings"]["console"] == "off"
    assert init["settings"]["save_code"] is False


def test_wandb_continues_the_run_of_the_workdir(tmp_path, fake):
    module = fake()
    for _ in range(2):
        tracking.start_wandb("offline", tmp_path, {})
    first, second = (arguments["id"] for _, arguments in module.calls)
    assert first == second == (tmp_path / "wandb_id").read_text().strip()
    assert len(first) == 8


def test_wandb_online_without_credentials_goes_offline(tmp_path, fake, capsys):
    module = fake(credentials=False)
    tracking.start_wandb("online", tmp_path, {})
    assert module.calls[0][1]["mode"] == "offline"
    assert capsys.readouterr().err == (
        "warning: no wandb credentials, logging offline; `wandb sync` sends it later\n"
    )
    module = fake(credentials=True)
    tracking.start_wandb("online", tmp_path, {})
    assert module.calls[0][1]["mode"] == "online"


@pytest.mark.parametrize("fail", ["init", "log", "finish"])
def test_a_failure_of_wandb_warns_once_and_training_goes_on(tmp_path, fake, capsys, fail):
    fake(fail=fail)
    tracker = tracking.start_wandb("offline", tmp_path, {})
    logger = make_logger(tmp_path, tracker=tracker)
    for step in range(3):
        logger.log(0, counters(step))
    logger.close()
    assert capsys.readouterr().err == f"warning: wandb is off for this run: {fail} broke\n"
    assert len(rows.read_rows(tmp_path / "metrics.jsonl")) == 3


def test_wandb_that_is_not_installed_warns_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = make_logger(tmp_path, tracker=tracking.start_wandb("offline", tmp_path, {}))
    logger.log(0, counters(1))
    logger.close()
    assert capsys.readouterr().err.count("warning: wandb is off for this run: ") == 1


def test_real_wandb_offline_needs_no_login_and_prints_nothing(tmp_path):
    pytest.importorskip("wandb")
    code = (
        "from rlx.infra import tracking;"
        f"t = tracking.start_wandb('offline', {str(tmp_path)!r}, dict(seed=0));"
        "t.log(dict(step=1, seed=0, loss=0.5)); t.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
