"""Classic tasks against their equations: literal numbers, another integrator, conserved energy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx import envs
from rlx.envs import names
from rlx.envs.classic import Motion, wrap


def start(env, q, v):
    """A state of `env` at positions q and velocities v."""
    return env.reset(jax.random.key(0)).replace(inner=Motion(q=jnp.float32(q), v=jnp.float32(v)))


def rollout(env, state, actions):
    def body(state, action):
        state = env.step(state, action)
        return state, state

    return jax.jit(lambda s, a: jax.lax.scan(body, s, a))(state, jnp.asarray(actions, jnp.float32))[
        1
    ]


def test_pendulum_step_by_hand():
    """From horizontal, at rest, full torque: th'' = 15 sin(pi/2) + 3*2 = 21."""
    env = envs.make("pendulum")
    state = env.step(start(env, [np.pi / 2], [0.0]), jnp.ones(1))
    np.testing.assert_allclose(state.inner.v, [1.05], rtol=1e-6)
    np.testing.assert_allclose(state.inner.q, [np.pi / 2 + 0.0525], rtol=1e-6)
    np.testing.assert_allclose(state.reward, -((np.pi / 2) ** 2 + 0.004), rtol=1e-6)
    np.testing.assert_allclose(state.obs, [np.cos(1.6232963), np.sin(1.6232963), 1.05], atol=1e-6)


def test_pendulum_matches_a_numpy_integration():
    env = envs.make("pendulum")
    actions = np.random.default_rng(0).uniform(
        -1.5, 1.5, (40, 1)
    )  # beyond the limits: must be clipped
    states = rollout(env, start(env, [2.5], [-0.5]), actions)
    angle, speed, want = 2.5, -0.5, []
    for (a,) in actions:
        u = 2.0 * min(max(a, -1.0), 1.0)
        shown = np.arctan2(np.sin(angle), np.cos(angle))
        reward = -(shown**2 + 0.1 * speed**2 + 0.001 * u**2)
        speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * u) * 0.05, -8.0, 8.0)
        angle += speed * 0.05
        want.append([np.cos(angle), np.sin(angle), speed, reward])
    got = np.column_stack([states.obs, states.reward])
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_pendulum_speed_is_limited():
    env = envs.make("pendulum")
    assert float(env.step(start(env, [1.0], [7.9]), jnp.ones(1)).obs[2]) == 8.0


def cartpole_energy(q, v, *, g=9.8, cart=1.0, pole=0.1, half=0.5):
    """Kinetic (rod: I = 4/3 m l^2 about the hinge) + potential energy, in J."""
    (_, angle), (dx, turn) = q.T, v.T
    kinetic = (
        0.5 * (cart + pole) * dx**2
        + pole * half * dx * turn * np.cos(angle)
        + 2 / 3 * pole * half**2 * turn**2
    )
    return kinetic + pole * g * half * np.cos(angle)


def test_cartpole_conserves_energy_without_force():
    """A fall from near upright exchanges 0.98 J; at most 0.005 J may drift at dt = 0.1 ms."""
    env = envs.make("cartpole_swingup", dt=1e-4)
    states = rollout(env, start(env, [0.0, 0.1], [0.0, 0.0]), np.zeros((20_000, 1)))
    energy = cartpole_energy(
        np.asarray(states.inner.q, np.float64), np.asarray(states.inner.v, np.float64)
    )
    assert np.cos(states.inner.q[:, 1]).min() < -0.99  # it did fall through the bottom
    np.testing.assert_allclose(energy, 0.49 * np.cos(0.1), atol=0.005)


def test_cartpole_conserves_momentum_without_force():
    env = envs.make("cartpole_swingup", dt=1e-4)
    states = rollout(env, start(env, [0.0, 0.5], [0.3, 0.0]), np.zeros((5_000, 1)))
    q, v = np.asarray(states.inner.q), np.asarray(states.inner.v)
    momentum = 1.1 * v[:, 0] + 0.05 * v[:, 1] * np.cos(q[:, 1])
    np.testing.assert_allclose(momentum, 0.33, atol=1e-3)


def test_cartpole_matches_the_lagrange_equations():
    """Solve the 2x2 mass matrix in NumPy instead of the eliminated form of the code."""
    env = envs.make("cartpole_swingup")
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 1))
    states = rollout(env, start(env, [0.1, 3.0], [0.0, 0.2]), actions)
    q, v, want = np.array([0.1, 3.0]), np.array([0.0, 0.2]), []
    for (a,) in actions:
        sin, cos = np.sin(q[1]), np.cos(q[1])
        inertia = np.array([[1.1, 0.05 * cos], [0.05 * cos, 0.1 / 3]])
        force = np.array([10 * a + 0.05 * v[1] ** 2 * sin, 0.49 * sin])
        v = v + np.linalg.solve(inertia, force) * 0.02
        q = q + v * 0.02
        reward = (
            (1 + np.cos(q[1])) * (1 + np.exp(-(q[0] ** 2))) * (1 + np.exp(-((v[1] / 5) ** 2))) / 8
        )
        want.append([q[0], np.cos(q[1]), np.sin(q[1]), v[0], v[1], reward])
    np.testing.assert_allclose(np.column_stack([states.obs, states.reward]), want, atol=2e-3)


def test_cartpole_is_mirror_symmetric():
    env = envs.make("cartpole_swingup")
    actions = np.random.default_rng(2).uniform(-1, 1, (30, 1))
    left = rollout(env, start(env, [0.2, 2.0], [0.1, -0.3]), actions)
    right = rollout(env, start(env, [-0.2, -2.0], [-0.1, 0.3]), -actions)
    np.testing.assert_allclose(np.asarray(left.obs) * [-1, 1, -1, -1, -1], right.obs, atol=1e-4)
    np.testing.assert_allclose(left.reward, right.reward, atol=1e-5)


def test_cartpole_reward_has_its_maximum_at_rest_upright_and_the_track_has_an_end():
    env = envs.make("cartpole_swingup")
    zero = jnp.zeros(1)
    assert float(env.step(start(env, [0.0, 0.0], [0.0, 0.0]), zero).reward) == 1.0
    assert float(env.step(start(env, [0.0, np.pi], [0.0, 0.0]), zero).reward) < 1e-6
    end = env.step(start(env, [2.99, np.pi], [5.0, 0.0]), zero)
    assert (float(end.obs[0]), float(end.obs[3])) == (3.0, 0.0)


def test_point_mass_by_hand():
    """Full force along x for one frame: v = 0.05, p = 0.0025; damping shows in the second."""
    env = envs.make("point_mass")
    states = rollout(env, start(env, [0.0, 0.2], [0.0, 0.0]), [[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(states.obs[0], [0.0025, 0.2, 0.05, 0.0], atol=1e-7)
    np.testing.assert_allclose(
        states.obs[1], [0.0025 + 0.05 * 0.04875, 0.2, 0.04875, 0.0], atol=1e-7
    )
    np.testing.assert_allclose(states.reward[0], np.exp(-(0.0025**2 + 0.04) / 0.08), rtol=1e-6)


def test_point_mass_stays_in_its_arena():
    env = envs.make("point_mass")
    states = rollout(env, start(env, [0.9, 0.0], [0.0, 0.0]), np.tile([1.0, -1.0], (200, 1)))
    assert np.abs(states.obs[:, :2]).max() == 1.0
    np.testing.assert_array_equal(states.obs[-1], [1.0, -1.0, 0.0, 0.0])


def test_point_mass_is_solved_by_a_spring():
    """u = -2 p - 2 p' holds the origin: more than 150 of 200 from the far corner."""
    env = envs.make("point_mass")

    def body(state, _):
        state = env.step(state, -2 * state.obs[:2] - 2 * state.obs[2:])
        return state, state.reward

    _, reward = jax.lax.scan(
        body, start(env, [1.0, -1.0], [0.0, 0.0]).replace(obs=jnp.array([1.0, -1, 0, 0])), None, 200
    )
    assert 140 < float(reward.sum()) < 200
    assert float(reward[-1]) > 0.99


@pytest.mark.parametrize("name", names.CLASSIC)
def test_initial_states_differ_and_match_the_spec(name):
    env = envs.make(name)
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 256))
    assert states.obs.shape == (256, *env.spec.obs.shape)
    assert states.obs.dtype == env.spec.obs.dtype
    assert len(np.unique(np.asarray(states.obs), axis=0)) == 256
    assert not states.terminated.any()
    np.testing.assert_array_equal(states.reward, 0.0)


def test_initial_ranges():
    q = {
        n: jax.vmap(envs.make(n).reset)(jax.random.split(jax.random.key(4), 4000)).inner
        for n in names.CLASSIC
    }
    assert 3.1 < np.abs(q["pendulum"].q).max() <= np.pi + 1e-6
    assert 0.99 < np.abs(q["pendulum"].v).max() <= 1.0
    assert 0.049 < np.abs(q["cartpole_swingup"].q - np.array([0.0, np.pi])).max() <= 0.0501
    assert 0.99 < np.abs(q["point_mass"].q).max() <= 1.0


@pytest.mark.parametrize("name", names.CLASSIC)
def test_reset_and_step_have_the_same_types(name):
    """Otherwise a loop that carries the state is refused, or compiled twice."""
    env = envs.make(name)
    first = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct(env.spec.action.shape, env.spec.action.dtype)
    second = jax.eval_shape(env.step, first, action)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
        assert not a.weak_type


@pytest.mark.parametrize("name", names.CLASSIC)
def test_state_varies_over_a_mesh_like_its_observation(name):
    """A loop inside shard_map refuses a carry of which a leaf stops varying."""
    env = envs.make(name)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def local(states):
        actions = jnp.zeros((states.reward.shape[0], *env.spec.action.shape))
        return jax.lax.fori_loop(0, 3, lambda _, s: jax.vmap(env.step)(s, actions), states)

    sharded = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec))
    states = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 2))
    assert jax.tree.structure(jax.eval_shape(sharded, states)) == jax.tree.structure(states)


@pytest.mark.parametrize("name", names.CLASSIC)
def test_a_wrong_action_shape_is_refused(name):
    env = envs.make(name)
    with pytest.raises(AssertionError):
        env.step(env.reset(jax.random.key(0)), jnp.zeros(3))


def test_wrap_is_the_same_angle_in_the_half_open_turn():
    angles = jnp.array([0.0, np.pi, -np.pi, 7.0, -20.0], jnp.float32)
    np.testing.assert_allclose(
        wrap(angles), [0.0, -np.pi, -np.pi, 7.0 - 2 * np.pi, -20 + 6 * np.pi], atol=1e-5
    )
