"""Kernels and processes against closed forms and brute force, in float64."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rlx.guidance import ddpm, flow, masked, one_token, uniform_diffusion
from rlx.guidance.kernels import Gaussian, PerToken, SingleSite
from rlx.ops import diffusion

X = np.random.default_rng(0).normal(size=(2, 3, 2))
KEYS = (0, 1)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def keys():
    return jax.vmap(jax.random.key)(jnp.array(KEYS))


# Kernels.


@pytest.mark.parametrize("scale", [0.7, np.array([[0.8, 0.0], [0.5, 0.3]])])
def test_gaussian_kernel(scale):
    kernel = Gaussian(jnp.asarray(X), jnp.asarray(scale))
    y = kernel.draw(keys(), 4000)
    root = scale * np.eye(2) if np.ndim(scale) == 0 else scale
    covariance = root @ root.T
    for b, k in product(range(2), range(3)):
        cloud = np.asarray(y[b, k])
        np.testing.assert_allclose(cloud.mean(0), X[b, k], atol=0.06)
        np.testing.assert_allclose(np.cov(cloud.T), covariance, atol=0.06)
        want = stats.multivariate_normal(X[b, k], covariance).logpdf(cloud[:5])
        np.testing.assert_allclose(kernel.log_prob(y[:, :, :5])[b, k], want, atol=1e-9)


@pytest.mark.parametrize("scale", [0.7, np.array([[0.8, 0.0], [0.5, 0.3]])])
def test_tilted_gaussian_is_moved_by_the_covariance_times_the_slope(scale):
    kernel = Gaussian(jnp.asarray(X), jnp.asarray(scale))
    g = np.random.default_rng(1).normal(size=X.shape)
    y, log_ratio = kernel.tilted(keys(), jnp.asarray(g), 6)
    root = scale * np.eye(2) if np.ndim(scale) == 0 else scale
    other = Gaussian(jnp.asarray(X + g @ (root @ root.T)), jnp.asarray(scale))
    np.testing.assert_allclose(log_ratio, kernel.log_prob(y) - other.log_prob(y), atol=1e-9)
    np.testing.assert_allclose(y - other.mean[:, :, None], kernel.draw(keys(), 6) - X[:, :, None])


def test_tilted_gaussian_without_noise_has_no_ratio():
    kernel = Gaussian(jnp.asarray(X), jnp.asarray(0.0))
    y, log_ratio = kernel.tilted(keys(), jnp.full(X.shape, 1e9), 2)
    np.testing.assert_array_equal(log_ratio, 0.0)
    np.testing.assert_array_equal(y[:, :, 0], X)


def logits_of(shape, axes):
    logits = jnp.asarray(np.random.default_rng(2).normal(size=shape) * 2)
    return logits - jax.nn.logsumexp(logits, axis=axes, keepdims=True)


def test_per_token_kernel():
    kernel = PerToken(logits_of((2, 1, 3, 4), -1))
    y = kernel.draw(keys(), 20000)
    assert y.dtype == jnp.int32
    for b, position in product(range(2), range(3)):
        seen = np.bincount(np.asarray(y[b, 0, :, position]), minlength=4) / 20000
        np.testing.assert_allclose(seen, np.exp(kernel.logits[b, 0, position]), atol=0.02)
    chosen = np.asarray(kernel.logits)[0, 0][np.arange(3), np.asarray(y[0, 0, 5])]
    assert float(kernel.log_prob(y)[0, 0, 5]) == pytest.approx(chosen.sum())
    shift = jnp.asarray(np.random.default_rng(3).normal(size=(2, 1, 3, 4)) * 50)
    y, log_ratio = kernel.tilted(keys(), shift, 7)
    other = PerToken(jax.nn.log_softmax(kernel.logits + shift))
    np.testing.assert_allclose(log_ratio, kernel.log_prob(y) - other.log_prob(y), atol=1e-9)


def test_single_site_kernel_sets_one_masked_position():
    V, x = 3, jnp.array([[[3, 1, 3, 3]], [[3, 3, 0, 2]]])
    logits = jnp.where((x == V)[..., None], logits_of((2, 1, 4, V), -1), -jnp.inf)
    logits = logits - jax.nn.logsumexp(logits, axis=(2, 3), keepdims=True)
    kernel = SingleSite(logits, x)
    y = np.asarray(kernel.draw(keys(), 20000))
    changed = y != np.asarray(x)[:, :, None]
    assert (changed.sum(-1) == 1).all()
    assert ((np.asarray(x)[:, :, None] == V) | ~changed).all()
    for b in range(2):
        site, token = changed[b, 0].argmax(-1), y[b, 0][changed[b, 0]]
        seen = np.zeros((4, V))
        np.add.at(seen, (site, token), 1 / 20000)
        np.testing.assert_allclose(seen, np.exp(logits[b, 0]), atol=0.02)
        want = np.asarray(logits)[b, 0][site[:9], token[:9]]
        np.testing.assert_allclose(kernel.log_prob(jnp.asarray(y[:, :, :9]))[b, 0], want)
    shift = jnp.asarray(np.random.default_rng(3).normal(size=logits.shape) * 3)
    y, log_ratio = kernel.tilted(keys(), shift, 5)
    total = jax.nn.logsumexp(logits + shift, axis=(2, 3), keepdims=True)
    other = SingleSite(logits + shift - total, x)
    np.testing.assert_allclose(log_ratio, kernel.log_prob(y) - other.log_prob(y), atol=1e-9)


# Continuous processes.

ABAR = np.append(1.0, diffusion.schedule("vp", 5).abar)


@pytest.mark.parametrize("predicts", ["eps", "x0"])
def test_ddpm_kernel_is_the_posterior_of_the_forward_process(predicts):
    process = ddpm(lambda x, t: jnp.tanh(x) + 0.1 * t, ABAR, (2,), predicts=predicts)
    how = diffusion.schedule("vp", 5)
    for t in (5, 3, 1):
        out = np.tanh(X) + 0.1 * t
        abar, beta, before = ABAR[t], how.beta[t - 1], ABAR[t - 1]
        x0 = out if predicts == "x0" else (X - np.sqrt(1 - abar) * out) / np.sqrt(abar)
        mean = np.sqrt(before) * beta / (1 - abar) * x0
        mean += np.sqrt(1 - beta) * (1 - before) / (1 - abar) * X
        prediction = process.predict(jnp.asarray(X), jnp.int32(t))
        kernel = process.kernel(jnp.asarray(X), prediction, jnp.int32(t))
        np.testing.assert_allclose(process.clean(X, prediction, t), x0, atol=1e-12)
        np.testing.assert_allclose(kernel.mean, mean, atol=1e-10)
        assert float(kernel.scale) ** 2 == pytest.approx(
            beta * (1 - before) / (1 - abar), abs=1e-12
        )


def test_ddim_is_deterministic_and_clips_if_told():
    process = ddpm(lambda x, t: -5 * x, ABAR, (2,), eta=0.0, clip=0.5)
    assert not process.stochastic
    prediction = process.predict(jnp.asarray(X), jnp.int32(3))
    assert np.abs(prediction).max() == 0.5
    kernel = process.kernel(jnp.asarray(X), prediction, jnp.int32(3))
    eps = (X - np.sqrt(ABAR[3]) * prediction) / np.sqrt(1 - ABAR[3])
    np.testing.assert_allclose(
        kernel.mean, np.sqrt(ABAR[2]) * prediction + np.sqrt(1 - ABAR[2]) * eps
    )
    assert float(kernel.scale) == 0


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.0])
def test_flow_keeps_the_marginals_of_its_path_for_any_noise(eta):
    """Data N(3, 0.5): the exact velocity carries variances along whatever eta is."""
    mu, s = 3.0, 0.5

    def variance(tau):
        return (1 - tau) ** 2 + tau**2 * s**2

    def velocity(x, tau):
        slope = (tau * s**2 - (1 - tau)) / variance(tau)
        return mu + slope * (x - tau * mu)

    process = flow(velocity, 200, (1,), eta=eta)
    probe = jnp.array([[[0.0], [1.0]]])
    kernel_at = jax.jit(lambda t: process.kernel(probe, process.predict(probe, t), t))
    mean, spread = 0.0, 1.0
    for t in range(200, 0, -1):
        kernel = jax.device_get(kernel_at(t))
        offset, slope = kernel.mean[0, 0, 0], kernel.mean[0, 1, 0] - kernel.mean[0, 0, 0]
        mean, spread = offset + slope * mean, slope**2 * spread + float(kernel.scale) ** 2
        if t == 101:
            assert spread == pytest.approx(variance(0.5), rel=0.03)
    assert mean == pytest.approx(mu, rel=1e-2) and spread == pytest.approx(s**2, rel=0.06)


def test_clean_prediction_of_a_flow_and_back():
    process = flow(lambda x, tau: jnp.sin(x) + tau, 10, (2,))
    x, t = jnp.asarray(X), jnp.int32(4)
    prediction = process.predict(x, t)
    clean = process.clean(x, prediction, t)
    np.testing.assert_allclose(clean, X + 0.4 * (np.sin(X) + 0.6), atol=1e-12)
    np.testing.assert_allclose(process.with_clean(x, clean, t), prediction, atol=1e-12)
    assert float(process.signal(t)) == pytest.approx(0.6)


def test_forward_noise_of_continuous_processes():
    x0 = jnp.full((1, 4000, 1), 2.0)
    for process, signal, sd in (
        (ddpm(lambda x, t: x, ABAR, (1,)), np.sqrt(ABAR[3]), np.sqrt(1 - ABAR[3])),
        (flow(lambda x, t: x, 5, (1,)), 0.4, 0.6),
    ):
        x = np.asarray(process.noise(keys()[:1], x0, jnp.int32(3)))
        assert x.mean() == pytest.approx(2 * signal, abs=5 * sd / 63)
        assert x.std() == pytest.approx(sd, rel=0.06)
        assert float(process.signal(jnp.int32(3))) == pytest.approx(signal)


# Discrete processes.

LOGITS = np.random.default_rng(5).normal(size=(4, 3))


def test_masked_kernel_reveals_with_the_right_chances():
    move = np.array([0.0, 0.3, 0.7, 1.0])
    process = masked(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, 3)), move, 4, 3)
    x = jnp.array([[[3, 1, 3, 0]]])
    assert (process.start(keys(), 2) == 3).all()
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    for t in (3, 2, 1):
        q = np.exp(process.kernel(x, process.predict(x, jnp.int32(t)), jnp.int32(t)).logits[0, 0])
        stay = move[t - 1] / move[t]
        np.testing.assert_allclose(q.sum(-1), 1.0)
        np.testing.assert_allclose(q[0], [*(p[0] * (1 - stay)), stay])
        np.testing.assert_allclose(q[1], [0, 1, 0, 0])
    assert q[2, 3] == 0  # the last step leaves no mask


def test_one_token_kernel_and_noise_levels():
    process = one_token(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, 3)), 4, 3)
    x = jnp.array([[[3, 1, 3, 3]]])
    logits = process.kernel(x, process.predict(x, jnp.int32(3)), jnp.int32(3)).logits
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(logits[0, 0, 2]), p[2] / 3)
    assert np.exp(logits).sum() == pytest.approx(1) and (np.exp(logits[0, 0, 1]) == 0).all()
    noised = np.asarray(process.noise(keys(), jnp.zeros((2, 3000, 4), jnp.int32), jnp.int32(2)))
    assert ((noised == 3).sum(-1) == 2).all()
    np.testing.assert_allclose((noised == 3).mean((0, 1)), 0.5, atol=0.04)


def test_uniform_kernel_against_bayes():
    abar, V, t = np.array([1.0, 0.8, 0.45, 0.1]), 3, 2
    process = uniform_diffusion(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, V)), abar, 4, V)
    x = jnp.array([[[2, 0, 1, 1]]])
    q = np.exp(process.kernel(x, process.predict(x, jnp.int32(t)), jnp.int32(t)).logits[0, 0])
    p0 = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    to_s, to_t = (a * np.eye(V) + (1 - a) / V for a in (abar[t - 1], abar[t] / abar[t - 1]))
    for i, x_t in enumerate(np.asarray(x)[0, 0]):
        want = np.zeros(V)
        for x_0 in range(V):
            joint = to_s[x_0] * to_t[:, x_t]
            want += p0[i, x_0] * joint / joint.sum()
        np.testing.assert_allclose(q[i], want, atol=1e-12)
    noised = np.asarray(process.noise(keys(), jnp.zeros((2, 3000, 4), jnp.int32), jnp.int32(t)))
    assert (noised == 0).mean() == pytest.approx(0.45 + 0.55 / 3, abs=0.02)


def test_masked_noise_hides_at_its_level():
    process = masked(lambda x, t: None, np.array([0.0, 0.3, 1.0]), 4, 3)
    noised = np.asarray(process.noise(keys(), jnp.zeros((2, 3000, 4), jnp.int32), jnp.int32(1)))
    assert (noised == 3).mean() == pytest.approx(0.3, abs=0.02)
    assert set(np.unique(noised)) == {0, 3}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ddpm(None, np.array([1.0, 0.5, 0.6]), (2,)), "abar is [T + 1] numbers that fall"),
        (lambda: ddpm(None, np.array([0.9, 0.5]), (2,)), "from abar[0] = 1"),
        (lambda: ddpm(None, np.array([1.0, 0.0]), (2,)), "abar ends at 0.0"),
        (lambda: ddpm(None, ABAR, (2,), eta=1.5), "eta is in [0, 1], got 1.5"),
        (lambda: ddpm(None, ABAR, (2,), predicts="v"), "predicts is eps or x0, got 'v'"),
        (lambda: flow(None, 0, (2,)), "steps is a whole number >= 1, got 0"),
        (lambda: flow(None, 5, (2,), eta=-1.0), "eta is >= 0, got -1.0"),
        (lambda: masked(None, np.array([0.1, 1.0]), 4, 3), "rise from 0 to 1"),
        (lambda: uniform_diffusion(None, np.array([1.0, 1.0]), 4, 3), "fall from 1 to >= 0"),
        (
            lambda: one_token(lambda x, t: jnp.zeros((*x.shape, 9)), 4, 3).predict(
                jnp.zeros((1, 1, 4), jnp.int32), jnp.int32(1)
            ),
            "logits of the model have 9 classes, expected 3, or 4 with the mask",
        ),
    ],
)
def test_processes_that_cannot_be(make, says):
    with pytest.raises(ValueError) as error:
        make()
    assert says in str(error.value)
