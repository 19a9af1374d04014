"""The arm as environments: the demonstrations succeed in them, exactly and in MuJoCo."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx import envs
from rlx.data.synth import push, reach
from rlx.envs import arm, names
from rlx.envs import reach as rooms
from rlx.envs.core import vectorize
from rlx.infra.random import shard_keys
from rlx.types import EnvState

EPISODES = 32
DEMOS = {"reach": reach, "push": push}


def demos_of(name, hz, **more):
    return DEMOS[name.removesuffix("_mjx")].generate(0, EPISODES, hz, **more)


def begin(env, made):
    """States of `env` in which the demonstrations `made` began."""
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), EPISODES))
    q, data = jnp.asarray(made["q0"]), states.inner.data
    scene = arm.Scene(*(jnp.asarray(made[k]) for k in ("discs", "prompt_id")), None)
    positions = [q]
    if "puck" in made:
        scene = scene.replace(puck=jnp.asarray(made["puck"]))
        positions += [jnp.full((EPISODES, 1), rooms.UP), scene.puck]
    if data is not None:
        data = data.replace(qpos=jnp.concatenate(positions, axis=1))
    inner = states.inner.replace(q=q, scene=scene, data=data)
    obs = jax.vmap(lambda q, scene: arm.numbers(q, 0 * q, scene, False))(q, scene)
    return states.replace(inner=inner, obs=obs)


def play(env, states, actions):
    """All states along the actions [E, T, 3] of the environment."""

    def one(state, actions):
        def body(state, action):
            state = env.step(state, action)
            return state, state

        return jax.lax.scan(body, state, actions)[1]

    return jax.jit(jax.vmap(one))(states, actions)


@pytest.mark.parametrize(("name", "hz"), [("reach", 20), ("push", 5)])
def test_demonstrations_succeed_when_joints_obey(name, hz):
    env, made = envs.make(name, hz=hz), demos_of(name, hz)
    states = begin(env, made)
    actions = jnp.asarray(made["actions"])
    played = play(env, states, rooms.chunk_to_actions(states.inner.q, actions))
    assert played.reward[:, -1].all()
    want = made["q0"][:, None] + made["actions"][..., :2]
    np.testing.assert_allclose(played.inner.q, want, atol=1e-5)
    before = np.concatenate([made["q0"][:, None], want[:, :-1]], axis=1)
    np.testing.assert_allclose(played.inner.v, (want - before) * hz, atol=1e-3)
    if name == "push":
        final = np.linalg.norm(played.inner.scene.puck[:, -1] - made["goal"], axis=-1)
        np.testing.assert_array_equal(played.reward[:, -1], final < 0.03)
    else:
        assert played.inner.scene.puck is None


def test_asked_again_every_few_steps_a_chunk_begins_where_the_arm_is():
    """The policy sees the joints, and returns the rest of the way to the goal, elbow up."""
    env = envs.make("reach", hz=10)
    asked = []

    def policy(obs, prompt):
        asked.append(obs.shape)
        assert prompt.shape == (EPISODES,)
        q, goal = obs[:, :2], obs[:, 4:6]
        way = arm.inverse(goal, jnp.ones(EPISODES)) - q
        steps = 0.5 * jnp.ones((EPISODES, 6, 1))  # each chunk goes half of what is left
        return jnp.concatenate([steps * way[:, None], jnp.zeros((EPISODES, 6, 1))], axis=-1)

    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), EPISODES))
    many = jax.jit(lambda s: rooms.closed_loop(env, policy, s, horizon=1))(states)
    assert many.mean() > 0.9  # ten times half the way: 0.1 % is left
    assert asked == [(EPISODES, 6)] * len(asked)
    once = jax.jit(lambda s: rooms.closed_loop(env, policy, s, horizon=6))(states)
    assert once.mean() < 0.2  # asked at steps 0 and 6: a quarter is left
    with pytest.raises(ValueError, match="horizon is 1 to 6, the steps of a chunk, got 7"):
        rooms.closed_loop(env, policy, states, horizon=7)


@pytest.mark.parametrize(("horizon", "asked"), [(2, 3), (5, 1), (3, 2)])
def test_a_horizon_that_does_not_divide_the_episode_plays_the_rest(horizon, asked):
    """Five steps; each chunk goes to 0.1 rad beyond where it began."""
    env = envs.make("reach", hz=5)
    scene = arm.Scene(jnp.zeros((4, 3, 2)), jnp.zeros(4, jnp.int32), None)
    inner = rooms.Arm(jnp.zeros((4, 2)), jnp.zeros((4, 2)), scene, None)
    states = EnvState(inner, jnp.zeros((4, 6)), jnp.zeros(4), jnp.zeros(4, bool))

    def step(state, action):
        new = env.step(state, action)
        there = jnp.abs(new.inner.q[0] - 0.1 * asked) < 1e-4
        return new.replace(reward=there.astype(jnp.float32))

    def policy(obs, prompt):
        return jnp.zeros((4, 5, 3)).at[:, :, 0].set(0.1)

    assert rooms.closed_loop(env._replace(step=step), policy, states, horizon).all()


@pytest.fixture(
    scope="module", params=["reach_mjx", pytest.param("push_mjx", marks=pytest.mark.slow)]
)
def simulated(request):
    env, made = envs.make(request.param, hz=50), demos_of(request.param, 50)
    states = begin(env, made)
    actions = rooms.chunk_to_actions(states.inner.q, jnp.asarray(made["actions"]))
    return request.param, made, states, jax.device_get(play(env, states, actions)), actions


def test_in_mujoco_demonstrations_succeed_and_are_tracked_within_5_percent(simulated):
    name, made, _, played, _ = simulated
    assert played.reward[:, -1].mean() > 0.95
    target = made["q0"][:, None] + made["actions"][..., :2]
    path = np.concatenate([made["q0"][:, None], target], axis=1)
    error = np.abs(played.inner.q - target).max((1, 2)) / np.ptp(path, axis=1).max(1)
    # An approach to a puck takes 0.4 s instead of 1 s, at 2.5 times the speed, and lags more.
    assert error.max() < (0.05 if name == "reach_mjx" else 0.1)
    assert np.abs(played.inner.q - target)[:, -1].max() < 0.01
    if name == "push_mjx":
        distance = np.linalg.norm(played.inner.scene.puck[:, -1] - made["goal"], axis=-1)
        assert np.median(distance) < 0.01
        assert np.abs(played.inner.scene.puck[:, 10] - made["puck"]).max() < 1e-6  # finger up


def test_mujocos_own_code_moves_the_same_way(simulated):
    """The same ten frames per step by MuJoCo in C, for four episodes."""
    import mujoco

    name, _, states, played, actions = simulated
    model = mujoco.MjModel.from_xml_string(
        rooms.PUSH_XML if name == "push_mjx" else rooms.REACH_XML
    )
    for episode in range(4):
        data = mujoco.MjData(model)
        data.qpos[:] = states.inner.data.qpos[episode]
        for step, action in enumerate(np.asarray(actions[episode])):
            data.ctrl[:2] = rooms.TURN * action[:2]
            if name == "push_mjx":
                data.ctrl[2] = 0.0 if action[2] > 0 else rooms.UP
            for _ in range(10):
                mujoco.mj_step(model, data)
            np.testing.assert_allclose(played.inner.q[episode, step], data.qpos[:2], atol=2e-3)
        if name == "push_mjx":
            puck = played.inner.scene.puck[episode, -1]
            np.testing.assert_allclose(puck, data.qpos[3:5], atol=3e-3)


@pytest.mark.parametrize(("name", "images", "size"), [("reach", True, 4), ("push", False, 8)])
def test_observations_are_those_of_the_demonstrations(name, images, size):
    env = envs.make(name, hz=10, images=images)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 3))
    inner = states.inner
    if images:
        assert env.spec.obs["base"] == ((32, 32, 3), np.dtype(np.uint8), None, None)
        picture = jax.vmap(arm.picture)(inner.q, inner.scene)
        np.testing.assert_array_equal(states.obs["base"], picture)
        spec, numbers, positions = env.spec.obs["state"], states.obs["state"], []
    else:
        spec, numbers = env.spec.obs, states.obs
        positions = [inner.scene.puck, jax.vmap(arm.goal)(inner.scene)]
    assert spec.shape == (size,)
    np.testing.assert_array_equal(
        numbers, np.concatenate([inner.q, np.zeros((3, 2)), *positions], axis=1, dtype=np.float32)
    )
    assert env.spec.action == ((3,), np.dtype(np.float32), -1.0, 1.0)
    assert (env.dt, env.episode_length) == (0.1, 10)


def test_actions_beyond_the_box_are_clipped_and_the_reward_is_success():
    env = envs.make("reach")
    state = env.reset(jax.random.key(0))
    far = env.step(state, jnp.array([3.0, -2.0, 9.0]))
    np.testing.assert_allclose(far.inner.q, [2 * np.pi, -2 * np.pi], rtol=1e-6)
    goal = arm.goal(state.inner.scene)
    there = arm.inverse(goal, jnp.float32(-1.0))
    on = env.step(state, jnp.append(there / rooms.TURN, 0.0))
    assert float(on.reward) == 1.0 and not bool(on.terminated)
    assert float(env.step(on, jnp.zeros(3)).reward) == 0.0


@pytest.mark.parametrize("name", ["reach", "push", "reach_mjx"])
def test_reset_and_step_have_the_same_types(name):
    env = envs.make(name, images=True)
    first = jax.eval_shape(env.reset, jax.random.key(0))
    second = jax.eval_shape(env.step, first, jax.ShapeDtypeStruct((3,), np.float32))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def test_vectorized_with_pictures_it_starts_anew_after_a_second():
    vec = vectorize(envs.make("reach", hz=5, images=True), 3, pool_size=4)
    keys = shard_keys(jax.random.key(0), 1)
    pool, _ = vec.initial(jax.random.key(1), 0)
    state = vec.reset(pool, keys)
    step = jax.jit(vec.step)
    for t in range(5):
        state, out = step(state, jnp.zeros((3, 3)), keys)
        assert out.truncated.all() == (t == 4)
    assert state.env.obs["base"].dtype == jnp.uint8
    assert not out.nan.any()


def test_angles_of_a_point_put_the_tip_there_or_point_at_it():
    rng = np.random.default_rng(0)
    q = rng.uniform(-np.pi, np.pi, (500, 2)).astype(np.float32)
    point = arm.fingertip(q)
    back = arm.inverse(point, np.sign(q[:, 1]))
    np.testing.assert_allclose(arm.fingertip(back), point, atol=2e-5)
    far = arm.inverse(np.array([0.3, 0.4], np.float32), np.float32(1))
    np.testing.assert_allclose(far, [np.arctan2(4, 3), 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("reach", {"hz": 0}, "reach: hz is a whole number >= 1, got 0"),
        ("reach_mjx", {"hz": 30}, "hz is a whole number >= 1 that divides 500, got 30"),
        ("push", {"episode_length": -1}, "push: episode_length is >= 0, got -1"),
        ("reach", {"image": True}, "reach has no setting 'image'; nearest: images"),
    ],
)
def test_bad_settings(name, settings, says):
    with pytest.raises(ValueError, match=says):
        envs.make(name, **settings)


def test_the_names():
    for name in names.ARM:
        assert envs.make(name).name == name
    with pytest.raises(ValueError, match="unknown environment 'reachh'"):
        rooms.make("reachh")
