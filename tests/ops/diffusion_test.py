"""Schedules by hand, noising and denoising in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import diffusion


def test_variance_preserving_schedule_by_hand():
    """T = 2: exponents -0.05 - 0.5 * 9.9 * (1, 3) / 4 = -1.2875, -3.7625; T = 5 starts at 0.218."""
    how = diffusion.schedule("vp", 2)
    np.testing.assert_allclose(how.alpha, [0.27595972, 0.02322560], rtol=1e-6)
    np.testing.assert_allclose(how.beta, [0.72404028, 0.97677440], rtol=1e-6)
    np.testing.assert_allclose(how.abar, [0.27595972, 0.00640933], rtol=1e-6)
    np.testing.assert_allclose(np.log(diffusion.schedule("vp", 5).alpha[0]), -0.02 - 0.198)
    # Its product over all steps does not depend on T: exp(-0.1 - 9.9 / 2).
    for steps in (1, 5, 50):
        end = diffusion.schedule("vp", steps).abar[-1]
        np.testing.assert_allclose(end, np.exp(-5.05), rtol=1e-12)


def test_linear_and_cosine_schedules_by_hand():
    linear = diffusion.schedule("linear", 3)
    np.testing.assert_allclose(linear.beta, [1e-4, 1.005e-2, 2e-2])
    np.testing.assert_allclose(linear.abar[1], 0.9999 * 0.98995)
    cosine = diffusion.schedule("cosine", 2)
    mark = [np.cos(np.pi / 2 * x) ** 2 for x in (0.008 / 1.008, 0.508 / 1.008)]
    np.testing.assert_allclose(cosine.beta, [1 - mark[1] / mark[0], 0.999])  # the last is clipped


@pytest.mark.parametrize(
    ("name", "steps", "says"), [("sqrt", 5, "vp, linear, cosine"), ("vp", 0, ">= 1, got 0")]
)
def test_unknown_schedules_and_no_steps_are_refused(name, steps, says):
    with pytest.raises(ValueError, match=says):
        diffusion.schedule(name, steps)


def test_noised_data_has_the_variance_of_the_schedule():
    how = diffusion.schedule("vp", 5)
    data, noise = jnp.full((2, 3), 0.5), jnp.full((2, 3), 2.0)
    x = diffusion.noised(how, data, noise, jnp.array([[1], [5]]))
    for row, t in ((0, 1), (1, 5)):
        want = np.sqrt(how.abar[t - 1]) * 0.5 + np.sqrt(1 - how.abar[t - 1]) * 2.0
        np.testing.assert_allclose(x[row], want, rtol=1e-6)


@pytest.mark.parametrize("name", diffusion.SCHEDULES)
def test_the_true_noise_leads_back_to_one_datum(name):
    """If all data is one action a, its own noise prediction leads there from anywhere."""
    how = diffusion.schedule(name, 4)
    datum = jnp.array([0.3, -0.7])

    def predict(x, t):
        abar = jnp.asarray(how.abar)[t.astype(int) - 1]
        return (x - jnp.sqrt(abar) * datum) / jnp.sqrt(1 - abar)

    noise = jax.random.normal(jax.random.key(0), (6, 4, 2))
    found = diffusion.denoise(predict, noise, how)
    np.testing.assert_allclose(found, np.tile(datum, (6, 1)), atol=1e-4)


def test_the_walk_ends_in_the_box_and_has_gradients():
    how = diffusion.schedule("vp", 3)
    noise = jax.random.normal(jax.random.key(1), (5, 3, 2))
    walk = lambda scale: diffusion.denoise(lambda x, t: scale * x, noise, how)  # noqa: E731
    assert (np.abs(walk(-3.0)) <= 1).all()
    slope = jax.grad(lambda scale: walk(scale).sum())(0.9)
    numeric = (walk(0.901).sum() - walk(0.899).sum()) / 0.002
    np.testing.assert_allclose(slope, numeric, rtol=2e-2)


def test_one_gaussian_is_recovered_from_its_exact_noise_prediction():
    """a ~ N(m, s**2): E[eps | x] is linear in x, so mean and variance go from step to step by hand.

    The small variance of the steps leaves the actions a little too narrow.
    """
    m, s, steps = 0.2, 0.15, 20
    how = diffusion.schedule("vp", steps)

    def predict(x, t):
        abar = jnp.asarray(how.abar)[t.astype(int) - 1]
        return jnp.sqrt(1 - abar) * (x - jnp.sqrt(abar) * m) / (abar * s**2 + 1 - abar)

    noise = jax.random.normal(jax.random.key(2), (4000, steps, 1))
    found = np.asarray(diffusion.denoise(predict, noise, how))
    mean, variance, before = 0.0, 1.0, np.concatenate([[1.0], how.abar[:-1]])
    for beta, abar, last in reversed(list(zip(how.beta, how.abar, before))):
        slope = np.sqrt(abar) * s**2 / (abar * s**2 + 1 - abar)  # of E[a | x]
        known, kept = np.sqrt(last) * beta / (1 - abar), np.sqrt(1 - beta) * (1 - last) / (1 - abar)
        mean = known * (m + slope * (mean - np.sqrt(abar) * m)) + kept * mean
        variance = (known * slope + kept) ** 2 * variance + beta * (1 - last) / (1 - abar)
    assert abs(found.mean() - mean) < 0.007 and abs(mean - m) < 0.01
    assert abs(found.std() - np.sqrt(variance)) < 0.005 and 0.6 * s < np.sqrt(variance) < s
