"""Errors: one line for the user, tracebacks for bugs, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import common
from rlx import scaling
from rlx.infra import errors
from rlx.scaling import ScalingError

HOUSE = Path(__file__).resolve().parents[2]


def test_unknown_says_kind_name_nearest_and_list_command():
    text = errors.unknown("env", "pendlum", ["pendulum", "cartpole"], "make envs")
    assert text == "unknown env 'pendlum'; nearest: pendulum, cartpole; `make envs` lists all"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("bad field"), 2),
        (errors.WorkdirError("bad field"), 2),
        (errors.NaNError("bad field"), 1),
    ],
)
def test_one_line_prints_our_errors_without_traceback(error, code, capsys):
    def main():
        raise error

    assert errors.one_line(main) == code
    assert capsys.readouterr().err == "error: bad field\n"


def test_one_line_passes_exit_codes_arguments_and_interrupts(capsys):
    assert errors.one_line(lambda: None) == 0
    assert errors.one_line(lambda code: code, errors.EXIT_PREEMPTED) == 42

    def interrupted():
        raise KeyboardInterrupt

    assert errors.one_line(interrupted) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_value_error_raised_in_our_rooms_is_for_the_user(capsys):
    assert errors.one_line(common.parse_arg, "nonsense") == 2
    assert capsys.readouterr().err == "error: unknown config option 'nonsense'; options: none\n"


def test_subclasses_of_value_error_raised_in_our_rooms_are_for_the_user(capsys, tmp_path):
    assert issubclass(ScalingError, ValueError)
    assert errors.one_line(scaling.read_table, tmp_path / "none.csv") == 2
    out = capsys.readouterr().err
    assert out.startswith("error: ") and "none.csv" in out and out.count("\n") == 1


def test_a_missing_file_is_for_the_user_where_our_code_says_so(monkeypatch, capsys):
    def main():
        raise FileNotFoundError("no robots: clone them")

    with pytest.raises(FileNotFoundError):  # tests are no room of ours
        errors.one_line(main)
    monkeypatch.setattr(errors, "_ROOMS", (str(HOUSE / "tests"),))
    assert errors.one_line(main) == 2
    assert capsys.readouterr().err == "error: no robots: clone them\n"


def test_a_value_error_of_others_is_a_bug():
    with pytest.raises(ValueError, match="Expecting property name"):
        errors.one_line(json.loads, "{")


def test_a_value_error_of_jax_is_a_bug_although_jax_hides_its_frames(monkeypatch):
    """Then the innermost frame left is ours: it is the note of jax that tells."""
    monkeypatch.setattr(errors, "_ROOMS", (str(HOUSE / "tests"),))
    two, three = np.ones(2, np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="inconsistent sizes"):
        errors.one_line(lambda: jax.vmap(lambda a, b: a + b)(two, three))


def test_rlx_traceback_keeps_the_traceback(monkeypatch):
    def main():
        raise errors.ConfigError("bad field")

    monkeypatch.setenv("RLX_TRACEBACK", "1")
    with pytest.raises(errors.ConfigError):
        errors.one_line(main)


def test_a_process_ends_with_one_line_and_exit_code_2():
    code = (
        "import sys; from rlx.infra import cli, errors;"
        "sys.exit(errors.one_line(cli.start, 'configs/nowhere.py', {}, []))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown config file 'configs/nowhere.py'; nearest: ")
    assert done.stderr.count("\n") == 1


def test_importing_the_command_line_stays_light():
    code = (
        "import sys, rlx.infra.cli, rlx.infra.workdir, rlx.infra.logging;"
        "heavy = {'jax', 'numpy', 'wandb', 'rich', 'orbax', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=HOUSE, check=True)
