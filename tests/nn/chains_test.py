"""Networks as reverse chains: kernels, draws, likelihoods and losses against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tilted_toys as toys
from ml_collections import ConfigDict

from rlx.nn import chains

N = 5


@pytest.fixture(scope="module")
def gauss():
    return toys.gaussian(4)


@pytest.fixture(scope="module")
def problem():
    return toys.tokens(heat=0.7)


def test_a_gaussian_kernel_is_the_posterior_of_the_predicted_clean_sample(gauss):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, N, 2))
    t = np.array([1, 2, 3, 4, 2])
    law = gauss.chain.kernel(gauss.params, None, jnp.float32(x), jnp.asarray(t))
    now, before = gauss.abar[t][:, None], gauss.abar[t - 1][:, None]
    x0 = gauss.slope[t - 1] * x
    # by conditioning q(x_{t-1} | x_0) on x_t, not by the formula of the code
    a = now / before
    gain = (1 - before) * np.sqrt(a) / (1 - now)
    mean = np.sqrt(before) * x0 + gain * (x - np.sqrt(now) * x0)
    np.testing.assert_allclose(law["mean"], mean, rtol=1e-5, atol=1e-6)
    std = np.sqrt(gauss.var)[t - 1]
    log_p = (-0.5 * ((y - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))).sum(1)
    np.testing.assert_allclose(gauss.chain.log_prob(law, jnp.float32(y)), log_p, rtol=1e-5)
    other = law | {"mean": law["mean"] + 0.3}
    np.testing.assert_allclose(gauss.chain.kl(law, other), (0.09 / (2 * std**2)).sum(1), rtol=1e-5)
    z = jnp.float32(y)
    np.testing.assert_allclose(gauss.chain.draw(law, z), mean + std * y, rtol=1e-5, atol=1e-6)


def test_the_default_spread_is_the_posteriors_and_the_last_step_has_a_density():
    abar = np.array([1.0, 0.9, 0.5, 0.1])
    chain = chains.gaussian(lambda p, o, x, t: x, abar, 1)
    law = chain.kernel(None, None, jnp.zeros((3, 1)), jnp.arange(1, 4))
    a, before = abar[1:] / abar[:-1], abar[:-1]
    want = np.sqrt((1 - a) * (1 - before) / (1 - abar[1:]))
    np.testing.assert_allclose(law["std"][1:, 0], want[1:], rtol=1e-6)
    assert law["std"][0] == law["std"][1] > 0


def test_the_exact_gaussian_chain_draws_the_prior(gauss):
    noise = chains.path_noise(gauss.chain, jax.random.key(0), 20_000)
    x, kept = chains.sample(gauss.chain, gauss.params, toys.nothing(20_000), noise)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(np.asarray(x).T), np.diag(gauss.S), atol=0.03)
    assert kept["path"].shape == (20_000, 5, 2) and kept["log_prob"].shape == (20_000, 4)
    np.testing.assert_array_equal(kept["path"][:, -1], x)


def test_the_denoising_loss_is_the_error_of_the_noise(gauss):
    rng = np.random.default_rng(1)
    x0, eps = rng.normal(size=(2, N, 2))
    t = np.array([1, 2, 3, 4, 2])
    keep = np.sqrt(gauss.abar[t])[:, None]
    x = keep * x0 + np.sqrt(1 - keep**2) * eps
    eps_hat = (x - keep * gauss.slope[t - 1] * x) / np.sqrt(1 - keep**2)
    got = gauss.chain.loss(gauss.params, None, jnp.float32(x0), jnp.asarray(t), jnp.float32(eps))
    np.testing.assert_allclose(got, ((eps_hat - eps) ** 2).mean(1), rtol=1e-4)


def test_tokens_one_per_step_draw_the_prior_and_their_likelihood_is_the_tables(problem):
    n = 20_000
    noise = chains.path_noise(problem.chain, jax.random.key(1), n)
    x, kept = chains.sample(problem.chain, problem.params, toys.nothing(n), noise)
    found = np.bincount(problem.clean(x), minlength=27) / n
    assert 0.5 * np.abs(found - problem.p).sum() < 0.02
    path = np.asarray(kept["path"])
    assert ((path == toys.V).sum(2) == np.arange(toys.L, -1, -1)).all()  # one more at each step
    want = np.log(problem.p[problem.clean(x)])  # whatever the order: the conditionals are exact
    np.testing.assert_allclose(kept["log_prob"].sum(1), want, rtol=1e-4)


def test_the_divergence_of_token_kernels_is_the_expected_log_ratio(problem):
    rng = np.random.default_rng(2)
    other = jnp.float32(0.5 * rng.normal(size=problem.params.shape))
    x, t = jnp.asarray([[3, 1, 3], [3, 3, 3], [0, 1, 2]]), jnp.asarray([2, 3, 1])
    laws = [problem.chain.kernel(p, toys.nothing(3), x, t) for p in (other, problem.params)]
    n = 4_000
    ratio = np.zeros(3)
    for key in jax.random.split(jax.random.key(0), n // 100):
        noise = jax.vmap(lambda k: problem.chain.noise(k, 3))(jax.random.split(key, 100))
        y = jax.vmap(lambda z: problem.chain.draw(laws[0], z))(noise)
        log_p = [jax.vmap(lambda y, law=law: problem.chain.log_prob(law, y))(y) for law in laws]
        ratio += np.asarray(log_p[0] - log_p[1]).sum(0) / n
    np.testing.assert_allclose(problem.chain.kl(*laws), ratio, atol=0.02)
    assert problem.chain.kl(*laws)[2] == 0  # nothing left to reveal


def test_the_mean_token_loss_is_the_cross_entropy_of_the_order_agnostic_model(problem):
    """Over all masks of t positions: L times the mean of -log p of a masked token, Hoogeboom."""
    x0 = jnp.tile(jnp.asarray([[0, 2, 1]]), (30_000, 1))
    t = jnp.full(30_000, 2)
    noise = problem.chain.noise(jax.random.key(0), 30_000)
    got = problem.chain.loss(problem.params, toys.nothing(30_000), x0, t, noise)
    table = problem.table.reshape(4, 4, 4, 3, 3)
    states = [(0, 3, 3), (3, 2, 3), (3, 3, 1)]
    want = []
    for state in states:
        for place in range(3):
            if state[place] == 3:
                want.append(-table[(*state, place, int(x0[0, place]))])
    np.testing.assert_allclose(got.mean(), 3 * np.mean(want), rtol=0.01)


def test_parallel_steps_reveal_each_position_with_chance_one_over_t(problem):
    chain = toys.tokens(steps=4).chain
    n = 20_000
    noise = chains.path_noise(chain, jax.random.key(3), n)
    _, kept = chains.sample(chain, problem.params, toys.nothing(n), noise)
    share = (np.asarray(kept["path"]) == toys.V).mean((0, 2))
    np.testing.assert_allclose(share, [1, 0.75, 0.5, 0.25, 0], atol=0.01)


def test_a_draw_is_a_corner_whose_slope_is_that_of_the_soft_draw(problem):
    x, t = jnp.asarray([[3, 1, 3]]), jnp.asarray([2])
    noise = problem.chain.noise(jax.random.key(4), 1)
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4)), jnp.float32)

    def drawn(params):
        law = problem.chain.kernel(params, toys.nothing(1), x, t)
        return problem.chain.draw(law, noise), law

    y, law = drawn(problem.params)
    assert set(np.unique(np.asarray(y))) == {0.0, 1.0} and y[0, 1, 1] == 1
    place = int(np.asarray(noise["order"] * law["hidden"]).argmax())

    def soft(params):
        logits = drawn(params)[1]["log_p"][0, place] + noise["gumbel"][0, place]
        return (jax.nn.softmax(logits / 0.7) * weight[0, place, :3]).sum()

    got = jax.grad(lambda p: (drawn(p)[0] * weight).sum())(problem.params)
    want = jax.grad(soft)(problem.params)
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.abs(np.asarray(want)).max() > 1e-3


REFUSED = [
    (lambda: chains.gaussian(None, np.array([1.0, 0.5]), 2), "in two steps at least"),
    (lambda: chains.gaussian(None, np.array([0.9, 0.5, 0.1]), 2), "abar falls from 1"),
    (lambda: chains.gaussian(None, np.array([1.0, 0.5, 0.6]), 2), "abar falls from 1"),
    (lambda: chains.masked(None, 0, 3), "tokens, length and steps are whole numbers >= 1"),
    (lambda: chains.masked(None, 4, 3, 0), "steps are whole numbers >= 1"),
    (lambda: chains.masked(None, 4, 3, heat=0.0), "heat > 0"),
    (lambda: chains.settings(ConfigDict({"alpha": 0.0, "lr": 1.0}), ("alpha",)), "got 0"),
    (lambda: chains.settings(ConfigDict({"alpha": float("nan")}), ("alpha",)), "got nan"),
]


@pytest.mark.parametrize("call, text", REFUSED)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
