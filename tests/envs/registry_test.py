"""Environments by name: the lookup, its errors, and what importing it costs."""

from __future__ import annotations

import pytest

from rlx import envs
from rlx.envs import names


def test_the_families_are_complete():
    assert len(names.CLASSIC) == 3
    assert len(names.ARM) == 4
    assert len(names.DM_CONTROL) == 25
    assert len(names.MENAGERIE) == 29
    assert len(set(names.ALL)) == len(names.ALL) == 71


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pendulm", "pendulum"),
        ("cheetah-run", "CheetahRun"),
        ("cartpole swingup", "cartpole_swingup"),
        ("inverted_pendulum", "brax/inverted_pendulum"),
        ("Go1Joystick", "Go1JoystickFlatTerrain"),
    ],
)
def test_unknown_name_gives_three_nearest_and_the_listing_command(typed, meant):
    with pytest.raises(ValueError, match=r"unknown environment") as error:
        envs.make(typed)
    message = str(error.value)
    suggested = message.split("nearest: ")[1].split(". List")[0].split(", ")
    assert len(suggested) == 3
    assert meant in suggested
    assert "python -m rlx.envs" in message


@pytest.mark.parametrize(("typed", "domain"), [("DogRun", "dog"), ("quadruped_walk", "quadruped")])
def test_tasks_that_playground_lacks_say_so(typed, domain):
    with pytest.raises(ValueError, match=f"has no {domain} tasks"):
        envs.make(typed)


def test_impl_is_for_playground_only():
    with pytest.raises(ValueError, match="playground tasks only"):
        envs.make("pendulum", impl="warp")
    with pytest.raises(ValueError, match="playground tasks only"):
        envs.make("brax/reacher", impl="warp")
    assert envs.make("pendulum", impl="jax").name == "pendulum"


def test_unknown_setting_names_the_nearest():
    with pytest.raises(ValueError, match=r"no setting 'max_torqe'; nearest: max_torque"):
        envs.make("pendulum", max_torqe=3.0)
    with pytest.raises(ValueError, match="dt must be positive, got 0"):
        envs.make("pendulum", dt=0)


def test_overrides_reach_the_environment():
    env = envs.make("pendulum", dt=0.1, episode_length=100)
    assert (env.dt, env.episode_length) == (0.1, 100)


def test_listing_shows_every_name_and_loads_no_simulator(run_python):
    code = (
        "import runpy, sys\n"
        "runpy.run_module('rlx.envs', run_name='__main__')\n"
        "heavy = {'jax', 'mujoco', 'brax', 'mujoco_playground'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    out = run_python(code).stdout.split("\n")
    assert [line.strip() for line in out if line.startswith("  ")] == list(names.ALL)


def test_making_a_classic_loads_no_simulator(run_python):
    code = (
        "import sys\n"
        "from rlx import envs\n"
        "assert envs.make('pendulum').name == 'pendulum'\n"
        "heavy = {'mujoco', 'brax', 'mujoco_playground', 'warp'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run_python(code)
