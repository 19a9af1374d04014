"""Every refusal of the command: one line on stderr, exit code 2, nothing compiled or written."""

from __future__ import annotations

import re

import pytest

from experiments import scaling_laws
from rlx.envs import mjx
from rlx.infra import errors, runtime
from rlx.train import pack

SMOKE = "--config=configs/scaling_laws.py:smoke"


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Call the command line in this process; return its one line, having checked all the rest."""

    def compiling(*args, **kwargs):
        raise AssertionError("a session was built, which compiles")

    monkeypatch.setattr(pack.Session, "__init__", compiling)
    workdir = tmp_path / "run"

    def call(*flags: str, config: str = SMOKE) -> str:
        code = errors.one_line(scaling_laws.main, [config, f"--workdir={workdir}", *flags])
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == "" and not workdir.exists()
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return call


TYPES = [
    ("--utd=eight", "train.utd is a number > 0 or a fraction such as 1/16, got 'eight'"),
    ("--utd=0", "train.utd is a number > 0 or a fraction such as 1/16, got '0.0'"),
    ("--utd=-1", "train.utd is a number > 0 or a fraction such as 1/16, got '-1.0'"),
    ("--utd=inf", "train.utd is a number > 0 or a fraction such as 1/16, got 'inf'"),
    ("--utd=1,1", "--utd=1,1 must list different values, one at least"),
    ("--steps=1.5", "train.env_steps is an integer, got '1.5'"),
    ("--seeds=two", "num_seeds is an integer, got 'two'"),
    ("--lr=fast", "learner.lr is a number or a fraction such as 1/16, got 'fast'"),
    ("--config.learner.layer_norm=yes", "learner.layer_norm is true or false, got 'yes'"),
    ("--utd", "--utd needs a value: --utd=..."),
    ("utd=8", "unexpected argument 'utd=8': flags look like --name=value"),
    (
        "--config.learner=1",
        "learner is a section, set one of its fields: ",
    ),
]


@pytest.mark.parametrize("flag, message", TYPES)
def test_wrong_types_and_forms(refused, flag, message):
    line = refused(flag)
    assert line.startswith(message) if message.endswith(" ") else line == message


def test_unknown_names_come_with_the_three_nearest_and_the_command_that_lists_all(refused):
    line = refused("--config.learner.lrr=1")
    assert line.startswith("unknown config field 'learner.lrr'; nearest: learner.lr, ")
    assert line.endswith("`--print_config` lists all") and line.count(",") == 2
    line = refused("--utdd=8")
    assert line.startswith("unknown flag '--utdd'; nearest: --utd, ")
    assert line.endswith("`--help` lists all")
    assert line.count(",") == 2


@pytest.mark.parametrize(
    "name, nearest",
    [("pendulm", "pendulum"), ("cartpole-swing", "CartpoleSwingup"), ("brax/antt", "brax/ant")],
)
def test_an_unknown_environment(refused, name, nearest):
    line = refused(f"--env={name}")
    assert line.startswith(f"unknown environment '{name}'; nearest: ")
    names = re.search(r"nearest: (.*?)\. List", line).group(1).split(", ")
    assert nearest in names and len(names) == 3
    assert line.endswith("List all with `python -m rlx.envs`")


def test_a_robot_whose_model_is_not_there(refused, monkeypatch):
    monkeypatch.setattr(mjx, "has_files", lambda path: False)
    line = refused("--env=Go1JoystickFlatTerrain")
    assert line.startswith("Go1JoystickFlatTerrain needs mujoco_menagerie (about 550 MB, git). ")
    assert "python -m rlx.envs.mjx --fetch" in line


NUMBERS = [
    (
        ("--batch_size=100", "--config.mesh.shards=8"),
        "learner.batch_size = 100 is not divisible by mesh.shards = 8; nearest valid: 96 or 104",
    ),
    (
        ("--config.env.num_envs=6", "--config.mesh.shards=4"),
        "env.num_envs = 6 is not divisible by mesh.shards = 4; nearest valid: 4 or 8",
    ),
    (
        ("--config.env.num_envs=3", "--config.mesh.shards=4"),
        "env.num_envs = 3 is not divisible by mesh.shards = 4; nearest valid: 4",
    ),
    (
        ("--config.mesh.shards=4", "--config.mesh.data=8"),
        "mesh.shards = 4 is not a multiple of the 8 devices on the data axis; "
        "nearest valid: mesh.shards=8 or mesh.data=4",
    ),
    (
        ("--config.train.learning_starts=100", "--batch_size=128"),
        "train.learning_starts = 100 is less than learner.batch_size = 128",
    ),
    (
        ("--steps=1000",),
        "train.env_steps = 1000 leaves nothing after the 1000 random transitions of "
        "train.learning_starts; give more than 1000",
    ),
    (("--config.env.num_envs=0",), "env.num_envs is a whole number >= 1, got 0"),
    (("--config.env.action_repeat=0",), "env.action_repeat is a whole number >= 1, got 0"),
    (("--batch_size=0",), "learner.batch_size is a whole number >= 1, got 0"),
    (("--lr=-1", "--config.rule.lr=false"), "learner.lr is a number >= 0, got -1"),
    (("--lr=1e-3,-1",), "learner.lr is a number >= 0, got -1"),
    (("--config.learner.discount=2",), "learner.discount is a number in [0, 1], got 2"),
    (("--config.learner.tau=5",), "learner.tau is a number in (0, 1], got 5"),
    (("--config.learner.init_alpha=-1",), "learner.init_alpha is a number > 0, got -1"),
    (("--algo=pql", "--config.learner.noise_max=-1"), "learner.noise_max is a number >= 0, got -1"),
    (("--width=0",), "learner.critic_hidden is a whole number >= 1, got 0"),
    (
        ("--config.learner.actor_hidden=8,0",),
        "learner.actor_hidden is a whole number >= 1, got 0",
    ),
    (
        ("--algo=bro", "--config.learner.quantiles=0"),
        "learner.quantiles is a whole number >= 1, got 0",
    ),
    (
        ("--config.fit.return_range=5,5",),
        "fit.return_range is two rising numbers, got (5.0, 5.0)",
    ),
    (("--config.fit.thresholds=",), "fit.thresholds is one finite number or more, got ()"),
    (("--config.fit.bootstrap=0",), "fit.bootstrap is a whole number >= 1, got 0"),
    (("--config.fit.holdout=-1",), "fit.holdout is a whole number >= 0, got -1"),
    (("--config.fit.delta=-1",), "fit.delta is a number >= 0 or none, got -1.0"),
    (("--steps=-5",), "train.env_steps is a whole number >= 1, got -5"),
    (("--config.eval.episodes=0",), "eval.episodes is a whole number >= 1, got 0"),
    (("--config.mesh.shards=0",), "mesh.shards is a whole number >= 1, got 0"),
    (("--seeds=0",), "seeds must be different, one at least, got ()"),
    (("--seed=-1",), "seed is a whole number from 0 to 2147483647, got -1"),
    (("--seed=0,2147483648",), "seed is a whole number from 0 to 2147483647, got 2147483648"),
    (
        ("--utd=2/85", "--config.env.num_envs=1"),
        "train.utd = 0.0235294 cannot be met within 1 % at env.num_envs = 1; "
        "nearest feasible: --utd=1/43 or --utd=1/42",
    ),
]


@pytest.mark.parametrize("flags, message", NUMBERS, ids=lambda x: " ".join(x) if x else "")
def test_numbers_that_cannot_run(refused, flags, message):
    assert refused(*flags) == message


FORGOTTEN = [
    ("--config.env.reset=never", "env.reset is one of pool, cached, fresh, got 'never'"),
    ("--config.env.pool_size=0", "env.pool_size is a whole number >= 1, got 0"),
    ("--config.env.episode_length=0", "env.episode_length is a whole number >= 1, got 0"),
    ("--config.data.n_step=0", "data.n_step is a whole number >= 1, got 0"),
    ("--config.data.capacity=4", "data.capacity = 4 transitions is too small"),
    (
        "--config.learner.name=ppo",
        "unknown agent 'ppo'; nearest: bro, pql, rlpd; ",
    ),
    ("--config.log.wandb=maybe", "log.wandb is one of off, offline, online, got 'maybe'"),
    ("--config.train.log_every=-1", "train.log_every is a whole number >= 1, got -1"),
    ("--config.train.eval_every=-1", "train.eval_every is a whole number >= 1, got -1"),
    ("--config.learner.ensemble=0", "learner.ensemble is a whole number >= 1, got 0"),
    ("--config.checkpoint.keep=0", "checkpoint.keep is a whole number >= 1, got 0"),
    ("--config.mesh.run=64", "mesh run x data x fsdp = [64, 1, 1] needs 64 devices, there are "),
    ("--config.mesh.run=-2", "mesh sizes are whole numbers >= 1, at most one of them -1, got "),
]


@pytest.mark.parametrize("flag, message", FORGOTTEN)
def test_settings_that_later_code_would_refuse_are_refused_at_once(refused, flag, message):
    assert refused(flag).startswith(message)


def test_a_ring_larger_than_memory_names_its_size_and_the_one_that_fits(refused, monkeypatch):
    """34 bytes per transition of the pendulum; 80 % of 1 GB holds 23 529 411 for one run."""
    monkeypatch.setattr(runtime, "device_bytes", lambda: 10**9)
    line = refused("--config.data.capacity=100000000")
    assert line == (
        "data.capacity = 100000000 transitions x 1 runs take 3.4 GB per device, more than 0.8 GB "
        "(80% of its memory); the capacity that fits: 23529411"
    )
    # A quarter for each of four runs, however many CPU devices they lie on: those share the memory.
    assert refused("--config.data.capacity=20000000", "--seeds=4").endswith(
        "the capacity that fits: 5882352"
    )


def test_two_values_for_one_setting(refused):
    line = refused("--utd=8", "--config.train.utd=4")
    assert line == "--utd=8 and --config.train.utd=4 disagree: give one of them"


def test_a_config_file_that_is_not_there_and_an_option_it_does_not_have(refused):
    line = refused(config="--config=configs/scaling_law.py")
    assert line.startswith("unknown config file 'configs/scaling_law.py'; nearest: ")
    assert "configs/scaling_laws.py" in line
    line = refused(config="--config=configs/scaling_laws.py:smok")
    assert "unknown config option 'smok'; options: smoke" in line


def test_sweep_lengths_that_do_not_match_the_sweep(refused):
    line = refused("--config.sweep.utd=1,2", "--config.sweep.env_steps=3000,4000,5000")
    assert "sweep.env_steps" in line and "sweep.utd" in line


def test_a_workdir_that_is_a_file_or_foreign(capsys, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    argv = [SMOKE, f"--workdir={taken}"]
    assert errors.one_line(scaling_laws.main, argv) == 2
    assert capsys.readouterr().err.startswith(f"error: workdir '{taken}' is a file: pass a folder")
    assert taken.read_text() == "mine"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "result.json").write_text("{}")
    assert errors.one_line(scaling_laws.main, [SMOKE, f"--workdir={foreign}"]) == 2
    assert "holds result.json but no config.json of rlx" in capsys.readouterr().err
    assert [f.name for f in foreign.iterdir()] == ["result.json"]


def test_nothing_to_fit(refused, tmp_path):
    line = refused("--fit_only")
    assert line == f"nothing to fit: no finished run under {tmp_path / 'run'}"
