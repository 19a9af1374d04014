"""Errors: the nearest names, one line for the user, tracebacks for bugs, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from configs import common
from rlx.infra import errors

HOUSE = Path(__file__).resolve().parents[2]


def test_nearest_prefers_the_likest_and_reads_the_last_part():
    names = ["train.utd", "train.env_steps", "learner.lr", "learner.critic_lr", "seed"]
    assert errors.nearest("train.ut", names)[0] == "train.utd"
    assert errors.nearest("lr", names)[0] == "learner.lr"
    assert errors.nearest("LEARNER.LR", names)[0] == "learner.lr"
    assert len(errors.nearest("x", names)) == 3
    assert errors.nearest("x", []) == []


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


def test_a_value_error_of_others_is_a_bug(monkeypatch):
    with pytest.raises(ValueError, match="invalid literal"):
        errors.one_line(int, "eight")
    monkeypatch.setenv("RLX_TRACEBACK", "1")
    with pytest.raises(errors.ConfigError):
        errors.one_line(_raise_config_error)


def _raise_config_error():
    raise errors.ConfigError("bad field")


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
