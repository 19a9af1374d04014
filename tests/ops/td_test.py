"""TD targets and n-step windows: literal numbers, and a NumPy loop over every end pattern."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops.td import n_step, td_target


def fold_in_numpy(reward, terminated, truncated, gamma):
    """The definition, step by step: stop at the first end."""
    total, factor = 0.0, 1.0
    for i, r in enumerate(reward):
        total += factor * r
        factor *= gamma
        if terminated[i]:
            return total, 0.0, i
        if truncated[i]:
            return total, factor, i
    return total, factor, len(reward) - 1


def test_td_target_by_hand():
    got = td_target(jnp.array([1.0, 2.0]), jnp.array([0.9, 0.0]), jnp.array([10.0, 10.0]))
    np.testing.assert_allclose(got, [10.0, 2.0], rtol=1e-6)


def test_td_target_refuses_broadcasting():
    with pytest.raises(AssertionError):
        td_target(jnp.zeros((2,)), jnp.zeros(()), jnp.zeros((2,)))


def test_three_steps_by_hand():
    no = jnp.zeros(3, bool)
    reward = jnp.array([1.0, 2.0, 4.0])
    total, bootstrap, last = n_step(reward, no, no, 0.5)
    assert (float(total), float(bootstrap), int(last)) == (3.0, 0.125, 2)
    middle = jnp.array([False, True, False])
    total, bootstrap, last = n_step(reward, middle, no, 0.5)
    assert (float(total), float(bootstrap), int(last)) == (2.0, 0.0, 1)
    total, bootstrap, last = n_step(reward, no, middle, 0.5)
    assert (float(total), float(bootstrap), int(last)) == (2.0, 0.25, 1)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_every_pattern_of_ends_against_a_loop(n):
    """All 4**n combinations of (terminated, truncated); rewards differ: no sum is ambiguous."""
    patterns = list(itertools.product(range(4), repeat=n))
    terminated = np.array([[p & 1 for p in row] for row in patterns], bool)
    truncated = np.array([[p & 2 for p in row] for row in patterns], bool)
    reward = np.random.default_rng(0).normal(size=terminated.shape).astype(np.float32)
    total, bootstrap, last = jax.jit(jax.vmap(n_step, in_axes=(0, 0, 0, None)))(
        reward, terminated, truncated, 0.9
    )
    want = [fold_in_numpy(*row, 0.9) for row in zip(reward, terminated, truncated)]
    np.testing.assert_allclose(total, [w[0] for w in want], atol=1e-6)
    np.testing.assert_allclose(bootstrap, [w[1] for w in want], atol=1e-6)
    np.testing.assert_array_equal(last, [w[2] for w in want])


def test_rewards_after_an_end_do_not_matter():
    reward = jnp.array([1.0, 2.0, 3.0])
    end = jnp.array([False, True, False])
    no = jnp.zeros(3, bool)
    first = n_step(reward, no, end, 0.99)
    second = n_step(reward.at[2].set(jnp.inf), no, end, 0.99)
    np.testing.assert_array_equal(first, second)
