"""Playground tasks: all 25 load, the state's types are stable, and nothing is cloned unasked."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx import envs
from rlx.envs import mjx, names


@pytest.fixture(scope="module")
def cartpole():
    return envs.make("CartpoleSwingup", impl="jax")


@pytest.fixture
def no_menagerie(monkeypatch, tmp_path):
    """A machine without mujoco_menagerie, where a clone would be noticed."""
    from mujoco_playground._src import mjx_env

    calls = []
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "mujoco_menagerie")
    monkeypatch.setattr(mjx_env, "EXTERNAL_DEPS_PATH", tmp_path)
    monkeypatch.setattr(mjx_env, "_clone_with_progress", lambda *args: calls.append(args))
    return calls


def test_our_names_are_playgrounds_names():
    from mujoco_playground import registry

    assert set(names.DM_CONTROL) <= set(registry.dm_control_suite.ALL_ENVS)
    assert set(names.MENAGERIE) <= set(registry.locomotion.ALL_ENVS) | set(
        registry.manipulation.ALL_ENVS
    )


def test_all_dm_control_tasks_load_with_actions_in_the_unit_box_and_a_1000_frame_episode():
    """Loaded without tracing; `adapt` would trace each reset (25 s for all)."""
    from mujoco_playground import registry

    for name in names.DM_CONTROL:
        env = registry.load(name, config_overrides={"impl": "jax"})
        limits = env.mj_model.actuator_ctrlrange
        np.testing.assert_array_equal(
            limits, np.tile([-1.0, 1.0], (env.action_size, 1)), err_msg=name
        )
        assert registry.get_default_config(name).episode_length == 1000
        assert 0.01 <= env.dt <= 0.04


def test_cartpole_spec(cartpole):
    assert cartpole.name == "CartpoleSwingup"
    assert cartpole.spec.obs.shape == (5,)
    assert cartpole.spec.obs.dtype == np.float32
    assert cartpole.spec.action == ((1,), np.dtype(np.float32), -1.0, 1.0)
    assert (cartpole.dt, cartpole.episode_length) == (0.01, 1000)


def assert_same_types(env):
    first = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct(env.spec.action.shape, env.spec.action.dtype)
    second = jax.eval_shape(env.step, first, action)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second)):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type), (
            jax.tree_util.keystr(path)
        )
        assert not a.weak_type
    assert first.terminated.dtype == bool
    assert first.reward.dtype == jnp.float32


# The last two return weak types from the library: a reward, and the clock of the simulator.
@pytest.mark.parametrize("name", ["CartpoleSwingup", "PendulumSwingup", "CheetahRun"])
def test_reset_and_step_have_the_same_types(name):
    assert_same_types(envs.make(name, impl="jax"))


@pytest.mark.slow
@pytest.mark.parametrize("name", names.DM_CONTROL)
def test_every_task_has_flat_observations_and_stable_types(name):
    env = envs.make(name, impl="jax")
    assert len(env.spec.obs.shape) == 1
    assert_same_types(env)


@pytest.mark.slow
def test_cartpole_swingup_matches_mujoco_and_leaves_its_input_alone(cartpole):
    """20 frames of full force against MuJoCo's own C code, from the same initial state."""
    import mujoco
    from mujoco_playground import registry

    first = jax.jit(cartpole.reset)(jax.random.key(0))
    np.testing.assert_allclose(first.obs[1:3], [-1.0, 0.0], atol=0.05)  # hanging
    rewards, state = [], first
    step = jax.jit(cartpole.step)
    for _ in range(20):
        state = step(state, jnp.ones(1))
        rewards.append(float(state.reward))

    model = registry.load("CartpoleSwingup", config_overrides={"impl": "jax"}).mj_model
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = first.inner.data.qpos, first.inner.data.qvel
    data.ctrl[:] = 1.0
    for _ in range(20):
        mujoco.mj_step(model, data)
    np.testing.assert_allclose(state.inner.data.qpos, data.qpos, atol=1e-4)
    np.testing.assert_allclose(state.obs[3:], data.qvel, atol=1e-3)
    assert all(0.0 <= r <= 1.0 for r in rewards)
    assert not bool(state.terminated)
    np.testing.assert_array_equal(first.inner.metrics["reward/upright"], 0.0)  # not written into


def test_overrides_reach_playgrounds_config_and_unknown_ones_are_refused():
    env = envs.make("CartpoleBalance", impl="jax", ctrl_dt=0.02, episode_length=300)
    assert (env.dt, env.episode_length) == (0.02, 300)
    with pytest.raises(ValueError, match="no setting 'ctr_dt'; nearest: ctrl_dt"):
        envs.make("CartpoleBalance", impl="jax", ctr_dt=0.02)


def test_impl_auto_is_jax_without_cuda():
    assert mjx.choose_impl("auto") == "jax"


def test_impl_warp_without_cuda_warns_of_the_compile_and_proceeds():
    pytest.importorskip("warp")
    with pytest.warns(UserWarning, match="builds C\\+\\+ kernels"):
        assert mjx.choose_impl("warp") == "warp"


def test_impl_on_tpu_and_on_cuda(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert mjx.choose_impl("auto") == "jax"
    with pytest.raises(ValueError, match="does not exist on TPU"):
        mjx.choose_impl("warp")

    class Device:
        class client:
            platform_version = "PJRT C API\ncuda 12090"

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [Device])
    monkeypatch.setattr(mjx.importlib.util, "find_spec", lambda name: name)
    assert mjx.choose_impl("auto") == "warp"
    monkeypatch.setattr(Device.client, "platform_version", "rocm 60300")
    assert mjx.choose_impl("auto") == "jax"
    monkeypatch.setattr(mjx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install warp-lang"):
        mjx.choose_impl("warp")


def test_unknown_impl_is_refused():
    with pytest.raises(ValueError, match="one of auto, jax, warp, got 'c'"):
        envs.make("CartpoleSwingup", impl="c")


@pytest.mark.parametrize("name", ["Go1JoystickFlatTerrain", "PandaPickCube"])
def test_a_robot_without_menagerie_says_what_to_type_and_clones_nothing(name, no_menagerie):
    with pytest.raises(ValueError) as error:
        envs.make(name)
    message = str(error.value)
    assert message.startswith(
        f"{name} needs mujoco_menagerie (about 550 MB, git). Clone it with "
        "`python -m rlx.envs.mjx --fetch`, or choose one of the 25 dm_control tasks: Acrobot"
    )
    assert message.endswith("WalkerWalk")
    assert no_menagerie == []


def test_fetch_clones_once_and_does_not_take_an_empty_folder_for_a_clone(
    no_menagerie, tmp_path, capsys
):
    folder = tmp_path / "mujoco_menagerie"
    folder.mkdir()
    assert mjx.main(["--fetch"]) == 0
    assert len(no_menagerie) == 1
    assert no_menagerie[0][1] == str(folder)
    folder.mkdir()
    (folder / "README.md").write_text("robots")
    assert mjx.main(["--fetch"]) == 0
    assert len(no_menagerie) == 1
    assert "already in" in capsys.readouterr().out


def test_fetch_without_git_is_one_line(no_menagerie, monkeypatch, capsys):
    from mujoco_playground._src import mjx_env

    def no_git(*args):
        raise FileNotFoundError("git")

    monkeypatch.setattr(mjx_env, "_clone_with_progress", no_git)
    assert mjx.main(["--fetch"]) == 1
    assert "Is git installed" in capsys.readouterr().err
