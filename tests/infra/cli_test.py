"""The command line: every form of every flag, and the exact text of every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlx.infra import cli
from rlx.infra.errors import ConfigError

SHORT = {"utd": "train.utd", "env": "env.name", "seed": "seed", "steps": "train.env_steps"}
HINTS = {"train.utd": "a number > 0 or a fraction such as 1/16"}
CONFIG = '''"""Toy: solves nothing.

More text.
"""
from configs import common
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(arg=""):
    options = common.parse_arg(arg, smoke=False, env="pendulum")
    return ConfigDict({
        "seed": 0,
        "workdir": placeholder(str),
        "env": {"name": options.env, "num_envs": 8},
        "learner": {"lr": 1e-3, "widths": (64, 64), "layer_norm": False},
        "train": {"utd": 1.0, "env_steps": 10 if options.smoke else 1000},
    })
'''


@pytest.fixture
def start(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(CONFIG)

    def call(*argv, spec=str(file)):
        return cli.start(
            spec,
            SHORT,
            argv,
            lists=("utd", "seed", "env"),
            extra={"fit_only": False, "seeds": int, "note": "none yet"},
            hints=HINTS,
        )

    return call


def error(start, *argv) -> str:
    with pytest.raises(ConfigError) as caught:
        start(*argv)
    return str(caught.value)


def test_defaults(start):
    config, workdir, options = start()
    assert config.is_locked
    assert workdir == Path("results/toy")
    assert config.workdir == "results/toy"
    assert vars(options) == {
        "utd": (1.0,),
        "seed": (0,),
        "env": ("pendulum",),
        "fit_only": False,
        "seeds": None,
        "note": "none yet",
        "overwrite": False,
        "retry_failed": False,
        "print_config": False,
        "dry_run": False,
        "explicit": frozenset(),
    }


def test_both_forms_of_a_flag_and_dashes(start):
    config, workdir, options = start(
        "--utd=1/16", "--steps", "1e5", "--workdir", "here", "--fit-only", "--seeds=5",
        "--config.learner.layer_norm", "--config.learner.widths", "(8,)", "--overwrite", "true",
        "--dry_run=false",
    )  # fmt: skip
    assert config.train.utd == 0.0625
    assert config.train.env_steps == 100_000
    assert config.learner.layer_norm is True
    assert config.learner.widths == (8,)
    assert workdir == Path("here") == Path(config.workdir)
    assert (options.fit_only, options.seeds, options.overwrite) == (True, 5, True)
    assert options.dry_run is False
    assert options.explicit == {
        "train.utd", "train.env_steps", "workdir", "learner.layer_norm", "learner.widths"
    }  # fmt: skip


def test_config_file_options(start, tmp_path):
    config, _, options = start(f"--config={tmp_path}/toy.py:smoke,env=CheetahRun")
    assert (config.train.env_steps, config.env.name) == (10, "CheetahRun")
    assert options.env == ("CheetahRun",)
    config, _, _ = start("--config", f"{tmp_path}/toy.py:smoke")
    assert config.train.env_steps == 10


def test_lists_and_ranges(start):
    config, _, options = start("--utd=0.5,1,1/4", "--seed=0..2,7", "--env=a,b")
    assert options.utd == (0.5, 1.0, 0.25)
    assert options.seed == (0, 1, 2, 7)
    assert options.env == ("a", "b")
    assert (config.train.utd, config.seed, config.env.name) == (0.5, 0, "a")
    assert start("--config.train.utd=4")[2].utd == (4.0,)


def test_same_value_twice_is_fine(start):
    for argv in (("--utd=8", "--config.train.utd=8.0"), ("--config.train.utd=8", "--utd=8")):
        config, _, options = start(*argv)
        assert config.train.utd == 8
        assert options.utd == (8.0,)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--utd=8", "--config.train.utd=4"),
            "--utd=8 and --config.train.utd=4 disagree: give one of them",
        ),
        (
            ("--config.train.utd=4", "--utd=4,8"),
            "--config.train.utd=4 and --utd=4,8 disagree: give one of them",
        ),
        (("--steps=1", "--steps=2"), "--steps=1 and --steps=2 disagree: give one of them"),
        (
            ("--config.train.ut=4",),
            "unknown config field 'train.ut'; nearest: train.utd, train.env_steps, learner.lr; "
            "`--print_config` lists all",
        ),
        (
            ("--utdd=4",),
            "unknown flag '--utdd'; nearest: --utd, --note, --seed; `--help` lists all",
        ),
        (("--config.env=x",), "env is a section, set one of its fields: env.name, env.num_envs"),
        (("--utd=eight",), "train.utd is a number > 0 or a fraction such as 1/16, got 'eight'"),
        (("--utd=1,eight",), "train.utd is a number > 0 or a fraction such as 1/16, got 'eight'"),
        (("--seed=1.5",), "seed is an integer, got '1.5'"),
        (("--seed=4..0",), "--seed=4..0 must list different values, one at least"),
        (("--seed=1,0..2",), "--seed=1,0..2 must list different values, one at least"),
        (("--steps=1,2",), "train.env_steps is an integer, got '1,2'"),
        (("--seeds=many",), "--seeds is an integer, got 'many'"),
        (("--overwrite=perhaps",), "--overwrite is true or false, got 'perhaps'"),
        (("--utd",), "--utd needs a value: --utd=..."),
        (("--utd", "--seed=1"), "--utd needs a value: --utd=..."),
        (("utd=1",), "unexpected argument 'utd=1': flags look like --name=value"),
        (("--fit_only", "8"), "unexpected argument '8': flags look like --name=value"),
        (("--config=a.py", "--config", "b.py"), "--config is given twice: a.py and b.py"),
    ],
)
def test_refusals(start, argv, message):
    assert error(start, *argv) == message


def test_a_short_flag_whose_field_this_config_lacks(tmp_path):
    file = tmp_path / "bare.py"
    file.write_text(CONFIG.replace('"utd": 1.0, ', ""))
    assert cli.start(str(file), SHORT, [])[0].seed == 0
    with pytest.raises(ConfigError, match=r"unknown config field 'train.utd'; nearest: train\."):
        cli.start(str(file), SHORT, ["--utd=2"])


def test_print_config_lists_every_field_with_overrides(start, capsys):
    with pytest.raises(SystemExit) as caught:
        start("--utd=8", "--print_config")
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "env.name = 'pendulum'",
        "env.num_envs = 8",
        "learner.layer_norm = False",
        "learner.lr = 0.001",
        "learner.widths = (64, 64)",
        "seed = 0",
        "train.env_steps = 1000",
        "train.utd = 8.0",
        "workdir = 'results/toy'",
    ]


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_flags_with_the_values_of_the_config(start, tmp_path, capsys, flag):
    with pytest.raises(SystemExit) as caught:
        start(f"--config={tmp_path}/toy.py:smoke", flag)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].endswith(" [--flag=value ...]")
    assert "Toy: solves nothing." in text
    assert "More text" not in text
    rows = {
        line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if "--" in line
    }
    assert rows["--utd=1.0"] == "sets train.utd; several: 0,1,2"
    assert rows["--seed=0"] == "sets seed; several: 0,1,2 or 0..2"
    assert rows["--steps=10"] == "sets train.env_steps"
    assert rows["--seeds=<int>"] == ""
    assert rows["--fit_only=false"] == ""
    assert rows["--overwrite"].startswith("delete what an earlier run wrote")
    assert rows["--config.FIELD=VALUE"].endswith("--print_config lists them all")


@pytest.mark.parametrize(
    "argv, want",
    [
        (["--env=ant"], ["--config=base.py:env=ant"]),
        (["--env", "ant", "--utd", "2"], ["--config=base.py:env=ant", "--utd", "2"]),
        (["--config=a.py", "--env=ant"], ["--config=a.py:env=ant"]),
        (["--config", "a.py", "--env=ant"], ["--config=a.py:env=ant"]),
        (["--config", "a.py:smoke", "--seed=1", "--env", "ant"], None),
        (["--config", "a.py", "--seed=1"], ["--config", "a.py", "--seed=1"]),
        (["--env", "--seed=1"], ["--env", "--seed=1"]),
    ],
)
def test_into_config_moves_the_environment_into_the_config_options(argv, want):
    given = list(argv)
    want = want or ["--config=a.py:smoke,env=ant", "--seed=1"]
    assert cli.into_config(argv, "base.py", "env") == want
    assert argv == given


def test_into_config_with_two_config_files():
    with pytest.raises(ConfigError, match=r"--config is given twice: a\.py and b\.py"):
        cli.into_config(["--config", "a.py", "--config=b.py", "--env=ant"], "base.py", "env")
