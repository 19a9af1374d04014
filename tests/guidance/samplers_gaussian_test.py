"""Samplers on the linear-Gaussian bed: the table of biases, T = 50, against closed forms."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from rlx.guidance import Config, guide, posterior_mean
from rlx.guidance.testbeds import linear_gaussian

B = 100
BED = linear_gaussian.reference()
PROCESS, REWARD = BED.process(), BED.reward()
M, C = BED.tilt(1.0)
VALUES = {"exact": BED.value(1.0), "posterior_mean": BED.value(1.0, "posterior_mean")}


def run(method, kind, particles, **settings):
    keys = jax.random.split(jax.random.key(0), B)
    config = Config(method=method, alpha=1.0, particles=particles, **settings)
    return guide(keys, PROCESS, VALUES.get(kind), REWARD, config)


def errors(out):
    """Of mean, covariance (Frobenius), and E r."""
    x = np.asarray(out.x0, np.float64).reshape(-1, 2)
    r = -((2 - x[:, 0]) ** 2)
    np.testing.assert_allclose(np.asarray(out.reward).ravel(), r, rtol=1e-3, atol=1e-4)
    return np.linalg.norm(x.mean(0) - M), np.linalg.norm(np.cov(x.T) - C), r.mean()


def test_the_chain_without_guidance_is_the_prior():
    mean, covariance, r = errors(run("none", None, 128))
    assert mean == pytest.approx(np.linalg.norm(M), abs=0.04)
    assert covariance == pytest.approx(0.813, abs=0.06)
    assert r == pytest.approx(-5.0, abs=0.2)


@pytest.mark.parametrize(
    ("kind", "mean", "reward"), [("exact", 0.043, -0.841), ("posterior_mean", 0.543, -0.336)]
)
def test_classifier_guidance_overshoots_with_the_posterior_mean(kind, mean, reward):
    got, covariance, r = errors(run("cg", kind, 128))
    assert got == pytest.approx(mean, abs=0.04)
    assert covariance < 0.05 if kind == "exact" else covariance == pytest.approx(0.131, abs=0.03)
    assert r == pytest.approx(reward, abs=0.05)
    assert kind == "exact" or r > BED.mean_reward(M, C) + 0.3  # reward alone would call it better


@pytest.mark.parametrize(
    ("kind", "mean", "reward"), [("exact", 0.054, -0.864), ("posterior_mean", 0.505, -0.361)]
)
def test_svdd_has_the_bias_of_its_value(kind, mean, reward):
    got, _, r = errors(run("svdd", kind, 64, children=16))
    assert got == pytest.approx(mean, abs=0.05)
    assert r == pytest.approx(reward, abs=0.05)


@pytest.mark.parametrize("kind", ["exact", "posterior_mean"])
def test_smc_is_right_with_either_value(kind):
    out = run("smc", kind, 64)
    mean, covariance, r = errors(out)
    assert mean < 0.1 and covariance < 0.08
    assert r == pytest.approx(BED.mean_reward(M, C), abs=0.08)
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(-1.8826394777)) < 4 * Z.std() / B**0.5


@pytest.mark.parametrize("at", ["x_t", "mu"])
def test_twisting_needs_few_particles_if_the_value_is_good(at):
    out = run("tds", "exact", 8, at=at)
    mean, covariance, r = errors(out)
    assert mean < 0.1 and covariance < 0.1
    assert r == pytest.approx(BED.mean_reward(M, C), abs=0.12)
    assert np.std(out.logZ) < 0.15  # plain SMC at N = 8: 0.7
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(-1.8826394777)) < 4 * Z.std() / B**0.5 + 0.003


def test_posterior_mean_through_the_process_is_the_closed_form_value():
    """The same samples whether r(x0hat) is a table or one model call carried along."""
    keys = jax.random.split(jax.random.key(0), B)
    config = Config(method="svdd", alpha=1.0, particles=64, children=16)
    carried = guide(keys, PROCESS, posterior_mean(PROCESS, REWARD), REWARD, config)
    table = run("svdd", "posterior_mean", 64, children=16)
    same = np.isclose(np.asarray(carried.x0), np.asarray(table.x0), atol=1e-3).all(-1)
    assert same.mean() > 0.98  # rounding flips a draw now and then
    assert carried.nfe.model == 1 + 49 * 16 and carried.nfe.reward == 50 * 16
