"""Straight paths, time distributions and integration against closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import flow

M, S = 0.4, 0.3  # the data of the closed form: N(M, S**2)


def field(x, t):
    """The true velocity of straight paths from N(0, 1) to N(M, S**2), independent ends.

    x_t ~ N(t M, g), g = (1 - t)**2 + t**2 S**2, and E[a - x0 | x_t] is linear in x_t:
    M + (t S**2 - (1 - t)) / g (x - t M), which is the logarithmic slope of sqrt(g).
    """
    g = (1 - t) ** 2 + t**2 * S**2
    return M + (t * S**2 - (1 - t)) / g * (x - t * M)


def euler(x, steps):
    for i in range(steps):
        x = x + field(x, i / steps) / steps
    return x


def test_euler_steps_equal_those_by_hand_and_never_ask_at_the_end():
    noise = jnp.linspace(-2, 2, 5)[:, None]
    asked = []

    def velocity(x, t):
        jax.debug.callback(lambda t: asked.append(float(t[0, 0])), t)
        return field(x, t)

    got = flow.integrate(velocity, noise, 4)
    jax.effects_barrier()
    np.testing.assert_allclose(got, euler(np.asarray(noise, np.float64), 4), rtol=1e-5)
    np.testing.assert_allclose(sorted(asked), [0.0, 0.25, 0.5, 0.75])


def test_the_flow_carries_one_gaussian_to_the_other():
    """Its exact solution is M + S x0: Euler's error halves with twice the steps."""
    noise = jnp.linspace(-2, 2, 9)[:, None]
    exact = M + S * np.asarray(noise)

    def error(steps, solver):
        return np.abs(flow.integrate(field, noise, steps, solver) - exact).max()

    assert 1.7 < error(64, "euler") / error(128, "euler") < 2.3
    assert error(16, "midpoint") / error(32, "midpoint") > 3.5
    assert error(128, "midpoint") < 1e-3


def test_path_ends_at_noise_and_data():
    noise, data = jnp.array([[1.0, -2.0]]), jnp.array([[0.5, 0.5]])
    for t, want in ((0.0, noise), (1.0, data), (0.25, jnp.array([[0.875, -1.375]]))):
        x, velocity = flow.path(noise, data, jnp.array([[t]]))
        np.testing.assert_allclose(x, want)
        np.testing.assert_allclose(velocity, [[-0.5, 2.5]])


@pytest.mark.parametrize(
    ("name", "mean", "variance"),
    [
        ("uniform", 1 / 2, 1 / 12),
        ("beta", 1 / 2.5, 1.5 / (2.5**2 * 3.5)),  # a / (a + b), a b / ((a + b)**2 (a + b + 1))
        ("logit_normal", 0.5, 0.0433),  # by symmetry; by quadrature of sigmoid(x)**2
    ],
)
def test_moments_of_time_distributions(name, mean, variance):
    """20,000 draws: the standard error of the mean is below 0.0021."""
    t = np.asarray(flow.draw_time(jax.random.key(0), (20000,), name))
    assert t.min() >= 0 and t.max() < 1
    assert abs(t.mean() - mean) < 0.008
    assert abs(t.var() - variance) < 0.003
    if name == "logit_normal":
        x, w = np.polynomial.hermite_e.hermegauss(60)
        second = (w / (1 + np.exp(-x)) ** 2).sum() / np.sqrt(2 * np.pi)
        assert abs(second - 0.25 - variance) < 1e-4


def test_unknown_words_and_no_steps_are_refused():
    with pytest.raises(ValueError, match="uniform, beta, logit_normal, got 'normal'"):
        flow.draw_time(jax.random.key(0), (2,), "normal")
    with pytest.raises(ValueError, match="euler, midpoint, got 'heun'"):
        flow.integrate(field, jnp.zeros((1, 1)), 4, "heun")
    with pytest.raises(ValueError, match=">= 1, got 0"):
        flow.integrate(field, jnp.zeros((1, 1)), 0)
