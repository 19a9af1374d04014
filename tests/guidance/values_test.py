"""Value estimates against the exact ones of the test beds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance import ddpm, nested_mc, posterior_mean
from rlx.guidance.core import soft_mean
from rlx.guidance.testbeds import linear_gaussian, markov_chain

ALPHA = jnp.array([0.5])


@pytest.fixture(scope="module")
def chain():
    return markov_chain.reference()


def state(*tokens):
    return jnp.array([[tokens]], jnp.int32)


def test_soft_mean_against_numpy_and_its_limits():
    r = jnp.array([[[1.0, 2.0, 4.0]], [[1.0, 2.0, 4.0]], [[jnp.nan, 2.0, 2.0]], [[-jnp.inf] * 3]])
    alpha = jnp.array([0.5, 0.0, 2.0, 1.0])
    got = np.asarray(soft_mean(r, alpha))[:, 0]
    first = 0.5 * np.log(np.mean(np.exp(np.array([1, 2, 4]) / 0.5)))
    np.testing.assert_allclose(got, [first, 4.0, 2 + 2 * np.log(2 / 3), -np.inf], rtol=1e-5)
    np.testing.assert_allclose(
        soft_mean(r[:1] - 1e6, jnp.array([1e6])), [[1e6 * 0 - 1e6 + 7 / 3]], rtol=1e-5
    )


def test_posterior_mean_of_the_gaussian_bed_is_its_closed_form():
    bed = linear_gaussian.reference(10)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 2)), jnp.float32)
    value = posterior_mean(bed.process(), bed.reward())
    v, prediction = value.score(None, x, jnp.int32(4), ALPHA)
    want, _ = bed.value(0.5, "posterior_mean").score(None, x, jnp.int32(4), ALPHA)
    np.testing.assert_allclose(v, want, rtol=1e-4)
    np.testing.assert_allclose(prediction, bed.process().predict(x, jnp.int32(4)))


def test_samples_of_the_posterior_are_a_soft_mean_over_its_factorised_law(chain):
    """Many draws against the enumerated independent law of the masked positions."""
    x = state(0, 4, 4, 1, 3, 2)
    p = np.exp(chain.process().predict(x, jnp.int32(2)))[0, 0]
    r = np.array([[chain.r[0, a, b, 1, 3, 2] for b in range(4)] for a in range(4)])
    law = p[1][:, None] * p[2][None]
    want = 0.5 * np.log((law * np.exp(r / 0.5)).sum())
    value = posterior_mean(chain.process(), chain.reward(), samples=20000)
    got, _ = value.score(jax.random.split(jax.random.key(0), 1), x, jnp.int32(2), ALPHA)
    assert float(got[0, 0]) == pytest.approx(want, abs=0.02)


def test_nested_roll_outs_approach_the_exact_value_from_below(chain):
    x = jnp.broadcast_to(state(0, 4, 4, 4, 4, 4), (1, 2000, 6))
    keys, exact = jax.random.split(jax.random.key(1), 1), 1.4943850390
    means = []
    for k in (1, 8, 64):
        value = nested_mc(chain.process(), chain.reward(), k)
        rows = x[:, : 2000 // k * 8] if k > 8 else x
        v, _ = jax.jit(value.score)(keys, rows, jnp.int32(5), ALPHA)
        means.append(float(v.mean()))
    assert means[0] == pytest.approx(0.7907954688, abs=0.08)  # one roll-out: E r
    assert means[0] < means[1] < means[2] < exact + 0.02
    assert means[2] == pytest.approx(exact, abs=0.1)


def test_holding_the_network_gives_the_slope_of_the_signal_alone():
    abar = np.array([1.0, 0.6, 0.2])
    process = ddpm(lambda x, t: jnp.sin(3 * x), abar, (2,))

    def reward(x):
        return -jnp.sum(x**2, -1)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 2)), jnp.float32)
    value = posterior_mean(process, reward, hold_network=True)
    slope = jax.grad(lambda x: value.score(None, x, jnp.int32(2), ALPHA)[0].sum())(x)
    x0hat = (x - np.sqrt(0.8) * np.sin(3 * x)) / np.sqrt(0.2)
    np.testing.assert_allclose(slope, -2 * x0hat / np.sqrt(0.2), rtol=1e-4)
    full = posterior_mean(process, reward)
    np.testing.assert_allclose(
        value.score(None, x, jnp.int32(2), ALPHA)[0], full.score(None, x, jnp.int32(2), ALPHA)[0]
    )


def test_values_that_cannot_be(chain):
    gauss = linear_gaussian.reference(5)
    for make, says in (
        (lambda: posterior_mean(gauss.process(), gauss.reward(), samples=4), "samples = 4"),
        (lambda: posterior_mean(chain.process(), chain.reward(), -1), "samples = -1"),
        (lambda: posterior_mean(chain.process(), chain.reward(), hold_network=True), "continuous"),
        (lambda: nested_mc(chain.process(), chain.reward(), 0), "rollouts is a whole number >= 1"),
    ):
        with pytest.raises(ValueError, match=says):
            make()
