"""Samplers on the Markov chain against its exact aligned law, every sample a whole run of the code.

A hundred independent problems give the standard errors; laws, not particles, are compared.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from rlx.guidance import Calls, Config, guide, posterior_mean
from rlx.guidance.testbeds import markov_chain

ALPHA, B = 0.5, 100
BED = markov_chain.reference()
PROCESS, REWARD, TILT = BED.process(), BED.reward(), BED.tilt(ALPHA)


def run(method, value, particles, seed=0, **settings):
    keys = jax.random.split(jax.random.key(seed), B)
    config = Config(method=method, alpha=ALPHA, particles=particles, **settings)
    return guide(keys, PROCESS, value, REWARD, config)


def facts(out):
    """E r with its standard error over problems, and the distance of the law from the target."""
    x = np.asarray(out.x0)
    r = BED.r[tuple(np.moveaxis(x, -1, 0))]
    np.testing.assert_allclose(out.reward, r, atol=1e-5)  # of the samples returned, not of others
    weights = np.exp(np.asarray(out.logw))
    means = (weights * r).sum(1) / weights.sum(1)
    law = BED.law_of(x, weights)
    return means.mean(), means.std() / B**0.5, 0.5 * np.abs(law - TILT).sum()


def noise_floor(n):
    """Distance that n independent exact samples have."""
    draws = np.random.default_rng(0).multinomial(n, TILT.ravel(), 20) / n
    return 0.5 * np.abs(draws - TILT.ravel()).sum(1).mean()


@pytest.fixture(scope="module")
def smc_runs():
    return {kind: run("smc", BED.value(ALPHA, kind), 64) for kind in ("exact", "mean", "mode")}


@pytest.mark.parametrize("kind", ["exact", "mean", "mode"])
def test_smc_finds_the_truth_with_any_value(smc_runs, kind):
    out = smc_runs[kind]
    mean, error, distance = facts(out)
    # with 64 particles self-normalisation leaves a bias of about 0.03, as the reference measures
    assert abs(mean - BED.mean_reward(TILT)) < 4 * error + 0.04
    assert distance < noise_floor(64 * B) + 0.08
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(2.5255562980)) < 4 * Z.std() / B**0.5
    assert not out.collapsed.any() and (out.n_bad_reward == 0).all()
    assert out.nfe == Calls(model=6, value=6, reward=1)


def test_better_values_leave_less_spread_of_log_Z(smc_runs):
    spread = {kind: np.std(smc_runs[kind].logZ) for kind in ("exact", "mean", "mode")}
    assert spread["exact"] < spread["mode"]
    assert spread["exact"] == pytest.approx(0.25, abs=0.08)
    assert spread["mode"] == pytest.approx(0.49, abs=0.15)


@pytest.fixture(scope="module")
def svdd_runs():
    kinds = ("exact", "mean", "mode")
    return {k: run("svdd", BED.value(ALPHA, k), 64, children=16) for k in kinds}


@pytest.mark.parametrize(
    ("kind", "reward", "limit"),
    [("exact", 1.905, 1.9627988905), ("mean", 1.762, 1.8354229816), ("mode", None, 2.0962089528)],
)
def test_svdd_keeps_the_bias_of_its_value(svdd_runs, kind, reward, limit):
    mean, error, distance = facts(svdd_runs[kind])
    if reward is not None:
        assert abs(mean - reward) < 4 * error + 0.01
    assert mean < limit + 4 * error  # few children are biased toward the pre-trained law
    table = {"exact": BED.exact(ALPHA), "mean": BED.mean(), "mode": BED.mode()}[kind]
    law = BED.svdd_law(table, ALPHA)
    own = 0.5 * np.abs(BED.law_of(svdd_runs[kind].x0) - law).sum()
    assert own < noise_floor(64 * B) + 0.06
    assert distance > 0.5 * np.abs(law - TILT).sum() - 0.03
    assert svdd_runs[kind].nfe == Calls(model=6, value=80, reward=16)


def test_posterior_mean_values_cost_one_model_call_for_each_child():
    """81, not 102: the chosen child's prediction is carried, and nothing runs at the clean end."""
    value = posterior_mean(PROCESS, REWARD, samples=0)
    out = run("svdd", value, 16, children=16)
    assert out.nfe == Calls(model=1 + 5 * 16, reward=6 * 16)
    mean, error, _ = facts(out)
    assert mean == pytest.approx(2.1, abs=4 * error + 0.03)


def test_exact_single_site_guidance_is_the_soft_optimal_kernel():
    out = run("cg", BED.value(ALPHA), 64)
    mean, error, distance = facts(out)
    assert abs(mean - BED.mean_reward(TILT)) < 4 * error
    assert distance < noise_floor(64 * B) + 0.01
    assert out.nfe == Calls(model=6, value=5 * 24, reward=24 + 1)


def test_best_of_n_and_its_soft_form():
    best, soft = run("bon", None, 4), run("soft_bon", None, 16)
    mean, error, _ = facts(best)
    assert abs(mean - 1.4065152957) < 4 * error
    assert best.nfe == Calls(model=24, reward=4) and best.x0.shape == (B, 1, 6)
    mean, error, _ = facts(soft)
    assert abs(mean - 1.665) < 4 * error + 0.03
    Z = np.exp(np.asarray(soft.logZ, np.float64))
    assert abs(Z.mean() - np.exp(2.5255562980)) < 4 * Z.std() / B**0.5


def test_nested_smc_removes_the_bias_that_svdd_keeps():
    """Children and particles together end at the target, with the same biased value."""
    out = run("nested", BED.value(ALPHA, "mode"), 32, children=4)
    mean, error, distance = facts(out)
    assert abs(mean - BED.mean_reward(TILT)) < 4 * error + 0.06
    assert distance < noise_floor(32 * B) + 0.09  # particles of a problem are relatives
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(2.5255562980)) < 4 * Z.std() / B**0.5


def test_twisted_proposals_with_the_true_value_leave_no_spread_at_all():
    """The proposal is the soft-optimal kernel: every weight is the same, Z-hat is Z."""
    out = run("tds", BED.value(ALPHA), 8)
    np.testing.assert_allclose(out.logZ, 2.5255562980, atol=2e-5)
    np.testing.assert_allclose(out.ess, 8, atol=1e-3)
    mean, error, _ = facts(out)
    assert abs(mean - BED.mean_reward(TILT)) < 4 * error


@pytest.mark.filterwarnings("ignore:effective sample size")
@pytest.mark.parametrize("potential", ["max", "add", "rt"])
def test_any_potential_ends_at_the_target(potential):
    """Weighted, never resampled: potentials telescope to exp(r / alpha)."""
    out = run(
        "fk", BED.value(ALPHA), 64, potential=potential, ess_fraction=0.0, last_resample=False
    )
    r = np.asarray(out.reward, np.float64) / ALPHA
    want = (
        r - np.log(np.exp(r - r.max(1, keepdims=True)).mean(1, keepdims=True)) - r.max(1)[:, None]
    )
    np.testing.assert_allclose(out.logw, want, atol=1e-3)
    Z = np.exp(np.asarray(out.logZ, np.float64))
    assert abs(Z.mean() - np.exp(2.5255562980)) < 4 * Z.std() / B**0.5
    assert not out.resampled.any()
