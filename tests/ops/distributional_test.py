"""Quantile and categorical return distributions by hand, and their invariances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import categorical
from rlx.ops.quantile import midpoints, quantile_huber


def test_quantile_huber_by_hand():
    """Two quantiles at 1/4 and 3/4, one target of 2: errors 2 and -1."""
    got = quantile_huber(jnp.array([0.0, 3.0]), jnp.array([2.0]))
    assert float(got) == pytest.approx(0.25 * 1.5 + abs(0.75 - 1.0) * 0.5)
    np.testing.assert_allclose(midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_quantile_huber_is_least_at_the_quantiles_of_the_target():
    """With a kappa near 0 the minimum is where a share tau of the targets lies below."""
    target = jnp.arange(100.0)
    grid = jnp.linspace(0.0, 99.0, 1000)
    for i, share in enumerate((0.25, 0.75)):
        loss = jax.vmap(
            lambda z, i=i: quantile_huber(jnp.array([50.0, 50.0]).at[i].set(z), target, 1e-3)
        )(grid)
        assert float(grid[jnp.argmin(loss)]) == pytest.approx(100 * share, abs=1.0)


def test_projection_by_hand():
    """Atoms -1, 0, 1. A reward of 0.5 moves the mass of atom 0 half way to atom 1."""
    atoms = jnp.array([-1.0, 0.0, 1.0])
    one = jnp.array([0.0, 1.0, 0.0])
    got = categorical.project(one, jnp.float32(0.5), jnp.float32(0.9), atoms)
    np.testing.assert_allclose(got, [0.0, 0.5, 0.5], atol=1e-6)
    ended = categorical.project(
        jnp.array([0.2, 0.3, 0.5]), jnp.float32(-1.0), jnp.float32(0.0), atoms
    )
    np.testing.assert_allclose(ended, [1.0, 0.0, 0.0], atol=1e-6)
    beyond = categorical.project(one, jnp.float32(7.0), jnp.float32(1.0), atoms)
    np.testing.assert_allclose(beyond, [0.0, 0.0, 1.0], atol=1e-6)


def test_projection_keeps_mass_and_inside_the_range_the_mean():
    rng = np.random.default_rng(0)
    atoms = jnp.linspace(-10.0, 10.0, 51)
    for _ in range(20):
        probs = jax.nn.softmax(jnp.float32(3 * rng.normal(size=51)))
        reward, discount = jnp.float32(rng.uniform(-1, 1)), jnp.float32(rng.uniform(0, 0.9))
        moved = categorical.project(probs, reward, discount, atoms)
        assert float(moved.sum()) == pytest.approx(1.0, abs=1e-5)
        want = float(reward + discount * (probs @ atoms))
        assert float(moved @ atoms) == pytest.approx(want, abs=1e-4)


def test_binary_cross_entropy_by_hand_and_finite_at_certainty():
    p = np.array([0.2, 0.3, 0.5])
    t = np.array([0.1, 0.0, 0.6])
    want = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    got = categorical.binary_cross_entropy(jnp.log(jnp.float32(p)), jnp.float32(t))
    assert float(got) == pytest.approx(want, rel=1e-5)
    sure = jnp.array([200.0, 0.0, 0.0])
    loss = lambda x: categorical.binary_cross_entropy(x, jnp.array([0.0, 1.0, 0.0]))  # noqa: E731
    assert np.isfinite(loss(sure)) and np.isfinite(jax.grad(loss)(sure)).all()
