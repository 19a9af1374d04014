"""Configs and their fields: types, exact messages, comparing, hashing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rlx.infra import config as configs
from rlx.infra import fields
from rlx.infra.errors import ConfigError


def make_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "workdir": placeholder(str),
            "env": {"name": "pendulum", "num_envs": 8},
            "learner": {
                "lr": 1e-3,
                "widths": (64, 64),
                "layer_norm": False,
                "warmup": placeholder(int),
            },
            "train": {"utd": 1.0, "env_steps": 1000, "chunk_seconds": 10.0},
            "log": {"wandb": "off"},
        }
    ).lock()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("seed", "7", 7),
        ("seed", "-3", -3),
        ("train.env_steps", "1e6", 1_000_000),
        ("train.env_steps", "1_000", 1000),
        ("train.utd", "8", 8.0),
        ("train.utd", "1/16", 0.0625),
        ("train.utd", "inf", float("inf")),
        ("env.name", "CheetahRun", "CheetahRun"),
        ("learner.layer_norm", "True", True),
        ("learner.layer_norm", "false", False),
        ("learner.widths", "(256, 256,256)", (256, 256, 256)),
        ("learner.widths", "[32]", (32,)),
        ("learner.widths", "32,16", (32, 16)),
        ("learner.widths", "()", ()),
        ("learner.warmup", "none", None),
        ("learner.warmup", "5", 5),
        ("workdir", "runs/a", "runs/a"),
    ],
)
def test_text_becomes_the_type_of_the_field(field, text, value):
    parsed = fields.parse(make_config(), field, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("seed", "1.5", "seed is an integer, got '1.5'"),
        ("seed", "none", "seed is an integer, got 'none'"),
        ("seed", "1e-3", "seed is an integer, got '1e-3'"),
        ("train.utd", "eight", "train.utd is a number or a fraction such as 1/16, got 'eight'"),
        ("train.utd", "nan", "train.utd is a number or a fraction such as 1/16, got 'nan'"),
        ("train.utd", "1/0", "train.utd is a number or a fraction such as 1/16, got '1/0'"),
        ("learner.layer_norm", "yes", "learner.layer_norm is true or false, got 'yes'"),
        ("learner.widths", "64,6.5", "learner.widths is a list such as 64,64, got '64,6.5'"),
        (
            "train.ut",
            "1",
            "unknown config field 'train.ut'; nearest: "
            "train.utd, train.env_steps, train.chunk_seconds; `--print_config` lists all",
        ),
        ("env", "x", "env is a section, set one of its fields: env.name, env.num_envs"),
    ],
)
def test_wrong_text_is_named(field, text, message):
    with pytest.raises(ConfigError) as caught:
        fields.parse(make_config(), field, text)
    assert str(caught.value) == message


def test_a_hint_words_the_error():
    hints = {"train.utd": "a number > 0 or a fraction such as 1/16"}
    with pytest.raises(ConfigError) as caught:
        fields.parse(make_config(), "train.utd", "eight", hints)
    message = "train.utd is a number > 0 or a fraction such as 1/16, got 'eight'"
    assert str(caught.value) == message


def test_override_sets_typed_values_and_refuses_others():
    config = make_config()
    fields.override(config, {"learner.lr": 1, "seed": 3, "learner.warmup": None})
    assert (config.learner.lr, config.seed, config.learner.warmup) == (1.0, 3, None)
    assert isinstance(config.learner.lr, float)
    for field, value in (("seed", 1.0), ("seed", True), ("seed", None), ("env.name", 3)):
        with pytest.raises(ConfigError, match=f"{field} is .*, got '{value}'"):
            fields.override(config, {field: value})


@pytest.mark.parametrize("ratio", [(1, 16), (1, 3), (8, 1), (1, 10), (3, 7), (1, 2048), (5, 2)])
def test_parse_ratio_is_exact_from_text_and_from_its_float(ratio):
    exact = Fraction(*ratio)
    assert fields.parse_ratio(f"{ratio[0]}/{ratio[1]}") == exact
    assert fields.parse_ratio(ratio[0] / ratio[1]) == exact
    assert fields.parse_ratio(exact) == exact


@pytest.mark.parametrize("bad", ["eight", "0", -1, "1/0", float("nan"), float("inf"), None])
def test_parse_ratio_refuses_what_is_no_ratio(bad):
    with pytest.raises(ConfigError) as caught:
        fields.parse_ratio(bad)
    expected = f"train.utd is a number > 0 or a fraction such as 1/16, got '{bad}'"
    assert str(caught.value) == expected


def test_flatten_and_json_round_trip():
    config = make_config()
    flat = configs.flatten(config)
    assert list(flat)[:4] == ["env.name", "env.num_envs", "learner.layer_norm", "learner.lr"]
    assert flat["learner.widths"] == (64, 64)
    again = configs.from_json(configs.to_json(config))
    assert configs.flatten(again) == flat
    assert again.is_locked


def test_diff_lists_changes_both_ways_and_sha_follows_it():
    old, new = make_config(), make_config()
    assert configs.diff(old, new) == []
    fields.override(new, {"train.utd": 8, "log.wandb": "offline"})
    with new.unlocked():
        new.learner.tau = 0.005
        del new.seed
    lines = configs.diff(old, new)
    assert lines == [
        "learner.tau: (absent) -> 0.005",
        'log.wandb: "off" -> "offline"',
        "seed: 0 -> (absent)",
        "train.utd: 1.0 -> 8.0",
    ]
    assert len(configs.diff(old, new, ignore=("log.*", "seed"))) == 2
    assert configs.diff(configs.to_json(old), old) == []


def test_sha_ignores_what_only_changes_the_speed():
    base = configs.sha(make_config())
    assert len(base) == 12
    for field, value, same in (
        ("log.wandb", "online", True),
        ("workdir", "elsewhere", True),
        ("train.chunk_seconds", 1.0, True),
        ("seed", 1, False),
        ("learner.widths", (64,), False),
    ):
        config = make_config()
        fields.override(config, {field: value})
        assert (configs.sha(config) == base) is same, field


def test_load_names_a_missing_file_and_the_option_that_is_wrong(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(
        "from configs import common\nfrom ml_collections import ConfigDict\n"
        "def get_config(arg=''):\n"
        "    options = common.parse_arg(arg, smoke=False)\n"
        "    return ConfigDict({'smoke': options.smoke})\n"
    )
    assert configs.load(f"{file}:smoke").smoke is True
    assert configs.load(str(file)).is_locked
    with pytest.raises(ConfigError) as caught:
        configs.load(f"{file}:smok")
    assert str(caught.value) == f"{file}: unknown config option 'smok'; options: smoke"
    with pytest.raises(ConfigError, match=rf"unknown config file '.*to.py'; nearest: {file}; `ls "):
        configs.load(str(tmp_path / "to.py"))
    file.write_text("")
    with pytest.raises(ConfigError, match="has no get_config"):
        configs.load(str(file))
    other = tmp_path / "toy.json"
    other.write_text("{}")
    with pytest.raises(ConfigError, match=r"toy\.json' is no Python file: its name must end in"):
        configs.load(str(other))


def test_a_bug_in_a_config_file_keeps_its_own_error(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text("def get_config(arg=''):\n    return int('eight')\n")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        configs.load(str(file))
    assert type(caught.value) is ValueError
