"""The tanh-Gaussian: its density integrates to 1, equals scipy's, stays finite when saturated."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from rlx.ops.distributions import gaussian_log_prob, tanh_gaussian, tanh_log_det


def test_gaussian_log_prob_equals_scipy():
    x, mean, log_std = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    want = stats.norm(mean, np.exp(log_std)).logpdf(x).sum(-1)
    np.testing.assert_allclose(gaussian_log_prob(x, mean, log_std), want, rtol=1e-5)


def test_log_det_by_hand():
    """At u = 0 the slope of tanh is 1; at u = atanh(0.5) it is 3/4, per dimension."""
    u = jnp.array([0.0, np.arctanh(0.5)])
    np.testing.assert_allclose(tanh_log_det(u), np.log(0.75), rtol=1e-5)


def test_log_prob_equals_the_change_of_variables():
    """Density of a = tanh(u) from scipy's normal in float64, two dimensions."""
    rng = np.random.default_rng(1)
    noise, mean = rng.normal(size=(2, 50, 2))
    log_std = rng.uniform(-2.0, 0.0, size=(50, 2))
    action, log_prob = tanh_gaussian(*(jnp.float32(x) for x in (noise, mean, log_std)))
    u = mean + np.exp(log_std) * noise
    np.testing.assert_allclose(action, np.tanh(u), atol=1e-5)
    want = stats.norm(mean, np.exp(log_std)).logpdf(u) - np.log1p(-(np.tanh(u) ** 2))
    np.testing.assert_allclose(log_prob, want.sum(-1), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("mean, log_std", [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.3)])
def test_density_over_actions_integrates_to_one(mean, log_std):
    """Quadrature over a in (-1, 1) of exp(log pi(a)), with the noise that gives that action."""
    a = np.tanh(np.linspace(-9, 9, 4001))
    noise = (np.arctanh(a) - mean) / np.exp(log_std)
    column = lambda x: jnp.float32(np.broadcast_to(x, a.shape)[:, None])  # noqa: E731
    action, log_prob = tanh_gaussian(column(noise), column(mean), column(log_std))
    np.testing.assert_allclose(action[:, 0], a, atol=1e-5)
    assert integrate.trapezoid(np.exp(np.float64(log_prob)), a) == pytest.approx(1.0, abs=2e-3)


def test_saturated_actions_have_finite_densities_and_gradients():
    """tanh(50) is 1 in float32, where log(1 - a**2) would be -inf; the true slope is 4 exp(-2u)."""
    mean = jnp.array([[50.0], [-50.0], [300.0]])
    zeros = jnp.zeros_like(mean)
    action, log_prob = tanh_gaussian(zeros, mean, zeros)
    np.testing.assert_array_equal(action, np.sign(mean))
    want = -0.5 * np.log(2 * np.pi) - (np.log(4.0) - 2.0 * np.abs(mean[:, 0]))
    np.testing.assert_allclose(log_prob, want, rtol=1e-5)
    slope = jax.grad(lambda m: tanh_gaussian(zeros, m, zeros)[1].sum())(mean)
    np.testing.assert_allclose(slope, 2.0 * np.sign(mean), rtol=1e-5)
