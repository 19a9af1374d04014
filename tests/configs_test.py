"""Every config file: loads with each of its options, is locked, survives JSON, runs when checked.

That the smoke variant trains and resumes is the business of `resume_test.py`.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from conftest import ROOT

from configs.tuned.scaling_laws import TUNED
from experiments import scaling_cost
from rlx import agents, envs
from rlx.agents import bro, pql, sac
from rlx.infra import config as configs
from rlx.infra import errors
from rlx.train import checks

FILES = sorted(
    str(file.relative_to(ROOT))
    for file in (ROOT / "configs").glob("*.py")
    if file.stem not in ("__init__", "common", "guidance")  # which samples and has no run
)
OPTIONS = (
    "",
    "smoke",
    "demo",
    "wide",
    "env=pendulum",
    "smoke,env=point_mass",
    "demo,env=pendulum",
    "wide,env=pendulum",
    "grid",
    "sizes",
    "algo=bro",
    "algo=bro,env=pendulum",
    "algo=pql",
    "wide,algo=pql",
    "wide,algo=bro",
    "smoke,algo=bro",
    "smoke,algo=pql",
    "grid,algo=pql,env=pendulum",
    "sizes,algo=bro",
    "study,algo=bro,env=CartpoleBalance",
    "published",
    "published,algo=bro",
    "published,algo=pql",
    "net=simba",
    "net=simba_v2",
    "net=bronet",
)
SECTIONS = {"seed", "workdir", "env", "learner", "train", "eval", "data", "checkpoint", "log"}


@pytest.mark.parametrize("file", FILES)
def test_a_config_loads_locked_with_a_smoke_option_and_the_common_sections(file):
    module = configs.load_module(file)
    assert inspect.getdoc(module) and list(inspect.signature(module.get_config).parameters)
    for arg in ("", "smoke"):
        config = configs.load(f"{file}:{arg}")
        assert config.is_locked
        assert SECTIONS | {"mesh"} <= set(config)
        assert configs.from_json(configs.to_json(config)) == config
    assert configs.diff(configs.load(file), configs.load(f"{file}:smoke"))


def test_there_is_a_config_for_every_experiment_that_takes_one():
    named = {Path(file).stem for file in FILES}
    assert "scaling_laws" in named


@pytest.mark.parametrize("option", OPTIONS)
def test_scaling_laws_can_run_as_configured(option):
    """Sizes and schedule of every option come out on an environment that is there without MJX."""
    config = configs.load(f"configs/scaling_laws.py:{option}")
    name = config.env.name if "env=" in option or "smoke" in option else "cartpole_swingup"
    env = envs.make(name)
    agents.make(config.learner, env.spec)
    sizes, plan = checks.check(config, env, config.num_seeds)
    assert plan.total == config.train.env_steps > sizes.learning_starts
    assert abs(plan.G / (plan.H * plan.num_envs) / config.train.utd - 1) <= 0.01
    assert sizes.shards == (1 if config.env.num_envs == 1 else 8)
    assert scaling_cost.cost(config, env).per_update > 0


def test_options_override_in_the_order_tuned_then_named():
    default = configs.load("configs/scaling_laws.py")
    assert default.env.name == "CartpoleSwingup"
    smoke = configs.load("configs/scaling_laws.py:smoke")
    assert (smoke.env.name, smoke.num_seeds, smoke.train.utd) == ("pendulum", 1, 0.5)
    assert (smoke.learner.discount, smoke.learner.reward_scale) == (0.98, 0.1)
    wide = configs.load("configs/scaling_laws.py:wide")
    assert (wide.env.num_envs, wide.num_seeds, wide.train.env_steps) == (128, 8, 2_000_000)
    tuned = configs.flatten(wide)
    own = TUNED["sac"]["CartpoleSwingup"]
    assert {name: tuned[name] for name in own} == own
    untuned = configs.load("configs/scaling_laws.py:wide,env=CheetahRun")
    assert untuned.learner.critic_hidden == (256, 256) and untuned.learner.batch_size == 512
    unknown = configs.load("configs/scaling_laws.py:env=point_mass")
    assert unknown.learner.lr == sac.get_config().lr  # no tuned entry: the agent's own defaults


def test_wide_widens_playground_tasks_and_no_other():
    for name in envs.names.ALL:
        plain, wide = (
            configs.flatten(configs.load(f"configs/scaling_laws.py:{option}env={name}"))
            for option in ("", "wide,")
        )
        mjx = name in envs.names.DM_CONTROL + envs.names.MENAGERIE
        assert (wide != plain) is mjx, name
        assert wide["tag"] == ("wide" if mjx else "")


@pytest.mark.parametrize(
    "option, tag",
    [
        ("", ""),
        ("smoke", "smoke"),
        ("demo", "demo"),
        ("wide", "wide"),
        ("demo,env=pendulum", "demo"),
        ("wide,env=pendulum", ""),
        ("wide,demo", "wide_demo"),
        ("algo=bro", "bro"),
        ("algo=pql,wide,env=CheetahRun", "pql_wide"),
        ("grid,env=pendulum", "grid"),
    ],
)
def test_what_is_not_the_default_has_results_of_its_own(option, tag):
    assert configs.load(f"configs/scaling_laws.py:{option}").tag == tag


@pytest.mark.parametrize("algo, name", [(a, env) for a in TUNED for env in sorted(TUNED[a])])
def test_tuned_entries_name_environments_and_fields_that_exist(algo, name):
    assert name in envs.names.ALL
    own, option = TUNED[algo][name], f"algo={algo}"
    assert set(own) <= set(configs.flatten(configs.load(f"configs/scaling_laws.py:{option}")))
    config = configs.flatten(configs.load(f"configs/scaling_laws.py:{option},env={name}"))
    assert {field: config[field] for field in own} == own


def test_accelerators_get_the_published_networks_of_bro_and_pql():
    wide = configs.load("configs/scaling_laws.py:wide,algo=bro,env=CheetahRun")
    published = bro.get_config()
    for field in ("critic_hidden", "actor_hidden", "quantiles", "batch_size", "lr"):
        assert wide.learner[field] == published[field]
    wide = configs.load("configs/scaling_laws.py:wide,algo=pql,env=CheetahRun")
    published = pql.get_config()
    for field in ("critic_hidden", "actor_hidden", "batch_size", "lr", "policy_delay"):
        assert wide.learner[field] == published[field]
    assert (wide.env.num_envs, wide.data.n_step, wide.data.capacity) == (4096, 3, 5_000_000)
    assert wide.train.utd * wide.env.num_envs == 8  # critic updates per vectorised step
    assert wide.train.learning_starts == 32 * 4096


def test_an_unknown_algorithm():
    with pytest.raises(errors.ConfigError, match="'algo' is sac, bro, pql, got 'broo'"):
        configs.load("configs/scaling_laws.py:algo=broo")


def test_the_agents_numbers_exist_once():
    """Whatever the experiment's config does not override comes from the agent's file."""
    own = configs.flatten(sac.get_config())
    config = configs.flatten(configs.load("configs/scaling_laws.py:env=point_mass"))
    learner = {k.removeprefix("learner."): v for k, v in config.items() if k.startswith("learner.")}
    assert learner == own


PAPERS = {  # algorithm -> module, UTD, transitions
    "sac": (sac, 1.0, 1_000_000),
    "bro": (bro, 10.0, 1_000_000),
    "pql": (pql, 8 / 4096, 50_000_000),
}


@pytest.mark.parametrize("algo", list(PAPERS))
@pytest.mark.parametrize("env", ["pendulum", "CartpoleSwingup", "brax/reacher"])
def test_published_is_one_run_with_every_constant_of_the_paper(algo, env):
    agent, utd, env_steps = PAPERS[algo]
    config = configs.load(f"configs/scaling_laws.py:published,algo={algo},env={env}")
    assert dict(config.learner) == dict(agent.get_config())
    assert (config.sweep.utd, config.sweep.env_steps) == ((utd,), ())
    assert config.train.utd == utd and config.train.env_steps == env_steps


def test_a_network_keeps_its_settings_as_published():
    learner = configs.load("configs/scaling_laws.py:published,net=simba").learner
    assert (learner.network, learner.weight_decay, learner.normalize_obs) == ("simba", 1e-2, True)
