"""`vectorize` on an environment that counts: every reward, flag and observation by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import counter, keys

from rlx.envs.core import guard, vectorize
from rlx.ops.shards import rows
from rlx.types import EnvState


def play(env, num_envs, steps, action=0.0, shards=1, **options):
    """Run `steps` steps; return the VecStates (before each, and the last), the TimeSteps."""
    vec = vectorize(env, num_envs, **options)
    pool, _ = jax.jit(vec.initial, static_argnums=1)(jax.random.key(11), 1)
    state = jax.jit(vec.reset)(pool, keys(0, shards))
    step = jax.jit(vec.step)
    actions = jnp.full((num_envs, 1), action)
    states, taken = [state], []
    for t in range(steps):
        state, timestep = step(state, actions, keys(t + 1, shards))
        states.append(state)
        taken.append(timestep)
    stack = lambda trees: jax.tree.map(lambda *x: np.stack(x), *trees)  # noqa: E731
    return stack(states), stack(taken)


def test_truncation_keeps_the_true_next_observation():
    """Episodes of 3: frames 1 2 3 | 1 2 3 | 1; the successor of frame 2 is 3, not the reset's 0."""
    states, ts = play(counter(), 2, 7, episode_length=3)
    for n in range(2):
        np.testing.assert_array_equal(ts.obs[:, n, 1], [0, 1, 2, 0, 1, 2, 0])
        np.testing.assert_array_equal(ts.next_obs[:, n, 1], [1, 2, 3, 1, 2, 3, 1])
        np.testing.assert_array_equal(states.env.obs[:, n, 1], [0, 1, 2, 0, 1, 2, 0, 1])
        np.testing.assert_array_equal(ts.truncated[:, n], [0, 0, 1, 0, 0, 1, 0])
        np.testing.assert_array_equal(ts.reward[:, n], [1, 2, 3, 1, 2, 3, 1])
    assert not ts.terminated.any() and not ts.nan.any()


def test_termination_keeps_the_true_next_observation_and_wins_over_the_clock():
    for limit in (100, 2):  # at 2 the MDP ends on the very step on which the clock would
        _, ts = play(counter(ends_at=2), 1, 5, episode_length=limit)
        np.testing.assert_array_equal(ts.next_obs[:, 0, 1], [1, 2, 1, 2, 1])
        np.testing.assert_array_equal(ts.terminated[:, 0], [0, 1, 0, 1, 0])
        assert not ts.truncated.any()


def test_episode_returns_and_lengths():
    _, ts = play(counter(), 2, 7, action=0.5, episode_length=3)
    np.testing.assert_array_equal(ts.episode.done[:, 0], [0, 0, 1, 0, 0, 1, 0])
    for t in (2, 5):  # (1 + 2 + 3) + 3 * 5
        np.testing.assert_array_equal(ts.episode.return_[t], [21.0, 21.0])
        np.testing.assert_array_equal(ts.episode.length[t], [3, 3])


def test_action_repeat_sums_rewards_and_shows_the_last_frame():
    _, ts = play(counter(), 1, 3, action=0.1, episode_length=6, action_repeat=2)
    np.testing.assert_allclose(ts.reward[:, 0], [1 + 2 + 2, 3 + 4 + 2, 5 + 6 + 2], rtol=1e-6)
    np.testing.assert_array_equal(ts.next_obs[:, 0, 1], [2, 4, 6])
    np.testing.assert_array_equal(ts.truncated[:, 0], [0, 0, 1])


def test_action_repeat_stops_at_termination():
    """The MDP ends at frame 3, inside the second repeat of 4: frames 1-3 of it do not exist."""
    _, ts = play(counter(ends_at=6), 1, 3, episode_length=100, action_repeat=4)
    np.testing.assert_array_equal(ts.reward[:, 0], [10, 5 + 6, 10])
    np.testing.assert_array_equal(ts.next_obs[:, 0, 1], [4, 6, 4])
    np.testing.assert_array_equal(ts.terminated[:, 0], [0, 1, 0])
    np.testing.assert_array_equal(ts.episode.length[1], [2])


@pytest.mark.parametrize(
    "frames, repeat, steps", [(1000, 1, 1000), (1000, 2, 500), (1001, 2, 501), (1, 4, 1), (7, 3, 3)]
)
def test_episode_steps_round_up(frames, repeat, steps):
    assert vectorize(counter(), 1, frames, repeat).episode_steps == steps
    assert vectorize(counter(episode_length=frames), 1, action_repeat=repeat).episode_steps == steps


def starts_of(**options):
    """`start` of every episode [episodes, N] and the pool's, over 30 one-step episodes."""
    env = counter(starts=10**6)
    states, _ = play(env, 4, 30, episode_length=1, **options)
    return states.env.obs[:, :, 0], states.pool.obs[0, :, 0]


def test_pool_restarts_from_the_pool_in_many_ways():
    starts, pool = starts_of(reset="pool", pool_size=5)
    assert len(set(pool)) == 5
    for n in range(4):  # 31 draws of 5 states: missing one has probability 0.005
        assert set(starts[:, n]) <= set(pool)
        assert len(set(starts[:, n])) >= 4
    assert len({tuple(column) for column in starts.T}) == 4


def test_cached_returns_to_each_environments_own_first_state():
    starts, pool = starts_of(reset="cached", pool_size=5)
    for n in range(4):
        assert set(starts[:, n]) == {starts[0, n]} and starts[0, n] in pool


def test_fresh_draws_a_new_state_every_time():
    starts, _ = starts_of(reset="fresh", pool_size=5)
    assert len(set(starts.ravel())) == starts.size


def test_a_diverging_environment_is_terminated_with_reward_zero():
    """The reward is NaN at frame 3: that step ends the episode, and all numbers stay finite."""
    _, ts = play(counter(nan_at=3), 2, 5, episode_length=100)
    for n in range(2):
        np.testing.assert_array_equal(ts.reward[:, n], [1, 2, 0, 1, 2])
        np.testing.assert_array_equal(ts.nan[:, n], [0, 0, 1, 0, 0])
        np.testing.assert_array_equal(ts.terminated[:, n], [0, 0, 1, 0, 0])
        np.testing.assert_array_equal(ts.episode.return_[2], [3, 3])
        np.testing.assert_array_equal(ts.obs[:, n, 1], [0, 1, 2, 0, 1])


def test_guard_finds_every_kind_of_non_finite_and_only_those():
    obs = {"a": jnp.array([[1.0, jnp.nan], [jnp.inf, 2.0], [3.0, 4.0], [5.0, 6.0]]),
           "image": jnp.full((4, 2), 255, jnp.uint8)}  # fmt: skip
    reward = jnp.array([1.0, 1.0, -jnp.inf, 1.0])
    flags = jnp.zeros(4, bool)
    state, bad = guard(EnvState(None, obs, reward, flags))
    np.testing.assert_array_equal(bad, [True, True, True, False])
    np.testing.assert_array_equal(state.terminated, bad)
    np.testing.assert_array_equal(state.reward, [0, 0, 0, 1])
    np.testing.assert_array_equal(state.obs["a"], [[1, 0], [0, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(state.obs["image"], obs["image"])


def test_shards_decide_the_draws_and_nothing_else():
    """8 logical shards against 1: same counting; the starts are the shard keys' own draws."""
    env = counter(starts=10**6)
    options = dict(episode_length=2, pool_size=16)
    one, ts_one = play(env, 8, 5, shards=1, **options)
    eight, ts_eight = play(env, 8, 5, shards=8, **options)
    np.testing.assert_array_equal(ts_one.reward, ts_eight.reward)
    np.testing.assert_array_equal(ts_one.truncated, ts_eight.truncated)
    np.testing.assert_array_equal(one.pool.obs, eight.pool.obs)
    assert (one.start != eight.start).any()
    for shards, states in ((1, one), (8, eight)):
        index = rows(
            lambda key, s=shards: jax.random.randint(key, (8 // s,), 0, 16), keys(0, shards)
        )
        np.testing.assert_array_equal(states.start[0], index)
        np.testing.assert_array_equal(states.env.obs[0, :, 0], states.pool.obs[0, index, 0])


def test_initial_states_do_not_depend_on_how_many_others_are_asked_for():
    vec = vectorize(counter(starts=10**6), 2, pool_size=3)
    pool, others = vec.initial(jax.random.key(4), 5)
    again, fewer = vec.initial(jax.random.key(4), 2)
    assert others.obs.shape == (5, 2)
    np.testing.assert_array_equal(pool.obs, again.obs)
    np.testing.assert_array_equal(others.obs[:2], fewer.obs)
    assert not set(pool.obs[:, 0].tolist()) & set(others.obs[:, 0].tolist())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reset": "never"}, "env.reset is one of pool, cached, fresh, got 'never'"),
        ({"num_envs": 0}, "env.num_envs is a whole number >= 1, got 0"),
        ({"action_repeat": 0}, "env.action_repeat is a whole number >= 1, got 0"),
        ({"pool_size": -1}, "env.pool_size is a whole number >= 1, got -1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError) as caught:
        vectorize(counter(), **{"num_envs": 2, **options})
    assert str(caught.value) == message
