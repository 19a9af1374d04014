"""The further test beds: mixture, neighbours on a chain, a rare event; and samplers on them."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance import Config, guide
from rlx.guidance.testbeds.chains import Potts, RareEvent
from rlx.guidance.testbeds.linear_gaussian import LinearGaussian, reference
from rlx.guidance.testbeds.mixture import Mixture, MixtureKernel

ABAR = reference(20).abar
KEYS = jax.random.split(jax.random.key(0), 64)
POTTS = Potts(np.array([0.5, 0.2, 0.3]), np.array([[1.0, 0, 0.3], [0, 0.5, -1], [0.2, 0, 0]]), 5)


@pytest.fixture(scope="module")
def mixture():
    """Two modes, the lighter one rewarded."""
    parts = [
        LinearGaussian(np.array([m, 0.0]), np.array([[0.3, c], [c, 0.4]]), np.array([[1.0, 0.5]]),
                       np.array([2.0]), 0.8, ABAR)
        for m, c in ((-2.0, 0.1), (2.0, -0.1))
    ]  # fmt: skip
    return Mixture(np.array([0.8, 0.2]), tuple(parts))


def test_tilt_of_a_mixture_by_quadrature(mixture):
    grid = np.linspace(-6, 6, 241)
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    by_part = []
    for w, part in zip(mixture.weights, mixture.parts, strict=True):
        apart = x - part.mu
        z = np.einsum("...i,ij,...j->...", apart, np.linalg.inv(part.S), apart)
        by_part.append(w * np.exp(-z / 2) / (2 * np.pi * np.linalg.det(part.S) ** 0.5))
    r = -((2 - x @ np.array([1, 0.5])) ** 2) / 1.6
    masses = [(p * np.exp(r / 0.7)).sum() * 0.05**2 for p in by_part]
    assert mixture.log_Z(0.7) == pytest.approx(np.log(sum(masses)), abs=1e-6)
    np.testing.assert_allclose(mixture.tilted_weights(0.7), masses / np.sum(masses), atol=1e-6)
    with jax.enable_x64(True):
        at_start = mixture.value(0.7).score(
            None, jnp.zeros((1, 1, 2)), jnp.int32(20), jnp.array([0.7])
        )
    # at T almost nothing is known of x_0: the value is that of the prior
    assert float(at_start[0][0, 0]) == pytest.approx(0.7 * mixture.log_Z(0.7), abs=0.02)


def test_mixture_value_keeps_the_soft_bellman_equation(mixture):
    """exp(v_t / alpha) is the mean of exp(v_{t-1} / alpha) over the exact kernel."""
    process, value, alpha = mixture.process(), mixture.value(0.7), jnp.array([0.7])
    x, t = jnp.array([[[0.4, -0.3], [-1.0, 1.0]]]), jnp.int32(9)
    kernel = process.kernel(x, process.predict(x, t), t)
    y = kernel.draw(KEYS[:1], 50_000)
    v = value.score(None, y.reshape(1, -1, 2), t - 1, alpha)[0].reshape(1, 2, -1)
    backed = 0.7 * (jax.nn.logsumexp(v / 0.7, axis=2) - np.log(50_000))
    np.testing.assert_allclose(backed, value.score(None, x, t, alpha)[0], atol=0.02)


def test_mixture_kernel_and_its_tilt():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        root = jnp.asarray(np.array([[[0.5, 0], [0.2, 0.7]], [[1.0, 0], [-0.3, 0.4]]]))
        mean = jnp.asarray(rng.normal(size=(1, 1, 2, 2)))
        kernel = MixtureKernel(jnp.log(jnp.array([[[0.3, 0.7]]])), mean, root)
        shift = jnp.asarray(rng.normal(size=(1, 1, 2)))
        y, log_ratio = kernel.tilted(KEYS[:1], shift, 50_000)
        # E_q[p / q] = 1, and E_q[f p / q] = E_p f
        ratio = np.exp(log_ratio)[0, 0]
        want = 0.3 * mean[0, 0, 0] + 0.7 * mean[0, 0, 1]
        assert ratio.mean() == pytest.approx(1, abs=0.03)
        np.testing.assert_allclose((ratio[:, None] * y[0, 0]).mean(0), want, atol=0.05)
        drawn = kernel.draw(KEYS[:1], 50_000)
        np.testing.assert_allclose(drawn[0, 0].mean(0), want, atol=0.02)
        grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(-7, 7, 141)] * 2), -1).reshape(1, 1, -1, 2)
        assert np.exp(kernel.log_prob(grid)).sum() * 0.1**2 == pytest.approx(1, abs=1e-4)


def test_smc_keeps_both_modes_at_their_weights(mixture):
    config = Config(method="smc", alpha=0.7, particles=64)
    value = mixture.value(0.7)
    out = guide(KEYS, mixture.process(), value, mixture.reward(), config)
    # posterior responsibilities at the clean end
    log_p = mixture.process().predict(out.x0, jnp.int32(0))[1]
    right = np.exp(np.asarray(log_p))[..., 1].mean(1)
    want = mixture.tilted_weights(0.7)[1]
    assert 0.5 < want < 0.999
    assert right.mean() == pytest.approx(want, abs=float(4 * right.std() / 8 + 0.01))
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(mixture.log_Z(0.7))) < 4 * Z.std() / 8


def test_potts_chain_by_enumeration():
    x = np.array(list(product(range(3), repeat=5)))
    weight = POTTS.p[x].prod(1) * np.exp(POTTS.J[x[:, :-1], x[:, 1:]].sum(1) / 0.6)
    assert POTTS.log_Z(0.6) == pytest.approx(np.log(weight.sum()), abs=1e-12)
    last = np.bincount(x[:, -1], weight) / weight.sum()
    np.testing.assert_allclose(POTTS.last_marginal(0.6), last, atol=1e-12)
    np.testing.assert_allclose(
        POTTS.reward()(jnp.asarray(x[None])), [np.log(weight / POTTS.p[x].prod(1)) * 0.6], atol=1e-6
    )
    states = [(3, 3, 3, 3, 3), (0, 3, 2, 3, 3), (3, 1, 3, 3, 0), (2, 1, 0, 0, 1)]
    with jax.enable_x64(True):
        alpha = jnp.array([0.6])
        v, _ = POTTS.value().score(None, jnp.array([states]), jnp.int32(2), alpha)
    for got, state in zip(np.asarray(v)[0], states, strict=True):
        fits = ((x == state) | (np.array(state) == 3)).all(1)
        prior = POTTS.p[x[fits]].prod(1).sum()
        held = np.array(state) < 3
        want = 0.6 * np.log(weight[fits].sum() / prior)
        assert got == pytest.approx(want, abs=1e-9), (state, held)


def test_exact_guidance_of_a_long_chain_matches_its_transfer_matrices():
    long = POTTS._replace(length=24)
    config = Config(method="tds", alpha=0.6, particles=16)
    out = guide(KEYS, long.process(), long.value(), long.reward(), config)
    np.testing.assert_allclose(out.logZ, long.log_Z(0.6), atol=1e-3)
    last = np.bincount(np.asarray(out.x0)[..., -1].ravel(), minlength=3) / 1024
    np.testing.assert_allclose(last, long.last_marginal(0.6), atol=0.06)


def test_a_rare_event_is_found():
    event = RareEvent(3.0, ABAR)
    alpha = 0.1
    assert event.probability() < 2e-3 and event.tilted_probability(alpha) > 0.96
    config = Config(method="smc", alpha=alpha, particles=32)
    out = guide(KEYS, event.process(), event.value(), event.reward(), config)
    share = np.asarray(out.reward).mean(1)
    want = event.tilted_probability(alpha)
    assert share.mean() == pytest.approx(want, abs=float(4 * share.std() / 8 + 0.01))
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() / np.exp(event.log_Z(alpha)) - 1) < 4 * Z.std() / Z.mean() / 8 + 0.01
    # the value against sampling of the posterior
    with jax.enable_x64(True):
        x, t = jnp.array([[[2.0]]]), jnp.int32(5)
        v, _ = event.value().score(None, x, t, jnp.array([1.0]))
        offset, gain, C = event.bed().posterior()
        draws = (
            offset[5]
            + 2.0 * gain[5, 0]
            + np.sqrt(C[5, 0, 0]) * np.random.default_rng(0).normal(size=400_000)
        )
    assert float(v[0, 0]) == pytest.approx(np.log(np.mean(np.exp(draws > 3.0))), abs=5e-3)
