"""brax tasks: the right contract, the right end of an episode, and none of brax's trainers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx import envs
from rlx.envs import names


@pytest.fixture(scope="module")
def pendulum():
    return envs.make("brax/inverted_pendulum")


def test_spec(pendulum):
    assert pendulum.name == "brax/inverted_pendulum"
    assert pendulum.spec.obs.shape == (4,)
    assert pendulum.spec.action == ((1,), np.dtype(np.float32), -1.0, 1.0)
    assert pendulum.dt == pytest.approx(0.02)
    assert pendulum.episode_length == 1000


def test_our_names_are_braxs_names():
    import brax.envs

    assert {name.removeprefix("brax/") for name in names.BRAX} <= set(brax.envs._envs)


def assert_same_types(env):
    first = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct(env.spec.action.shape, env.spec.action.dtype)
    second = jax.eval_shape(env.step, first, action)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
        assert not a.weak_type
    assert first.terminated.dtype == bool


def test_reset_and_step_have_the_same_types(pendulum):
    assert_same_types(pendulum)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["spring", "generalized"])
@pytest.mark.parametrize("name", names.BRAX)
def test_every_task_has_stable_types(name, backend):
    assert_same_types(envs.make(name, backend=backend))


def test_a_constant_reward_still_varies_over_a_mesh(pendulum):
    """brax's step returns the literal 1.0, which a loop in shard_map refuses without `adapt`."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def local(states):
        return jax.lax.fori_loop(
            0, 3, lambda _, s: jax.vmap(pendulum.step)(s, jnp.zeros((2, 1))), states
        )

    sharded = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec))
    states = jax.eval_shape(jax.vmap(pendulum.reset), jax.random.split(jax.random.key(0), 2))
    assert jax.tree.structure(jax.eval_shape(sharded, states)) == jax.tree.structure(states)


@pytest.mark.slow
def test_inverted_pendulum_ends_when_it_falls_and_not_before(pendulum):
    """Without force the pole leaves +-0.2 rad in about a second; every frame until then pays 1."""
    states = jax.jit(
        lambda s: jax.lax.scan(
            lambda c, _: ((n := pendulum.step(c, jnp.zeros(1))), n), s, None, 100
        )[1]
    )(jax.jit(pendulum.reset)(jax.random.key(1)))
    angle, ended = np.asarray(states.obs[:, 1]), np.asarray(states.terminated)
    np.testing.assert_array_equal(ended, np.abs(angle) > 0.2)
    assert 5 < ended.argmax() < 100
    np.testing.assert_array_equal(states.reward, 1.0)


def test_overrides_and_bad_inputs():
    assert (
        envs.make(
            "brax/inverted_pendulum", backend="generalized", episode_length=200
        ).episode_length
        == 200
    )
    with pytest.raises(
        ValueError, match="one of spring, generalized, positional, mjx, got 'bullet'"
    ):
        envs.make("brax/ant", backend="bullet")
    with pytest.raises(ValueError, match="does not take the settings"):
        envs.make("brax/ant", legs=6)
    with pytest.raises(ValueError, match="nearest: brax/ant"):
        envs.make("brax/ants")


def test_trainers_and_tensorflow_stay_away(run_python):
    code = (
        "import sys\n"
        "from rlx import envs\n"
        "envs.make('brax/inverted_pendulum')\n"
        "bad = [m for m in sys.modules if m.startswith(('brax.training.agents', 'tensorflow'))]\n"
        "assert not bad, bad\n"
    )
    run_python(code)
