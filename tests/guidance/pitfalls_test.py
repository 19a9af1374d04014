"""Sixteen defects of public code for guided sampling: each test fails on code that has it."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance import Config, function, guide, masked, one_token, posterior_mean
from rlx.guidance.core import score, split
from rlx.guidance.diagnostics import diversity, summary, unique_fraction
from rlx.guidance.kernels import PerToken
from rlx.guidance.svdd import choose_child
from rlx.guidance.testbeds import linear_gaussian, markov_chain

BED = markov_chain.reference()
PROCESS, REWARD = BED.process(), BED.reward()
GAUSS = linear_gaussian.reference(12)


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def run(method, value, alpha, n=4, **settings):
    settings = {"particles": 8, "children": 4} | settings
    return guide(keys(n), PROCESS, value, REWARD, Config(method=method, alpha=alpha, **settings))


@pytest.mark.filterwarnings("ignore:effective sample size")
def test_pitfall_01_values_see_the_move_they_score():
    """The published mask is of x_t: a token revealed in this very step was overwritten by argmax.

    The network insists on token 0 everywhere; the value must still see the 2 that was just set.
    """
    stubborn = one_token(
        lambda x, t: jnp.broadcast_to(jnp.array([9.0, 0, 0, 0]), (*x.shape, 4)), 3, 4
    )
    count_2 = lambda x: jnp.sum(x == 2, -1) * 1.0  # noqa: E731
    value = posterior_mean(stubborn, count_2, samples=0)
    y = jnp.array([[[4, 2, 4], [4, 4, 4]]])
    v, prediction = score(value, count_2, keys(1), y, jnp.int32(2), jnp.ones(1))
    np.testing.assert_array_equal(v, [[1.0, 0.0]])
    np.testing.assert_array_equal(stubborn.clean(y, prediction, 2)[0, 0], [0, 2, 0])
    # and in SMC: the increments are v(y) - v(x) of the table, along each line of descent
    out = run("smc", BED.value(0.5), 0.5, ess_fraction=0.0, last_resample=False)
    np.testing.assert_allclose(out.moves.sum(0), out.reward - 1.2627781490, atol=1e-5)


def test_pitfall_02_alpha_has_a_default_that_works_and_is_not_ignored():
    assert np.isfinite(run("smc", BED.value(0.5), None).logZ).all()
    same = guide(keys(4), PROCESS, BED.value(0.5), REWARD, Config(particles=8, alpha=0.5))
    np.testing.assert_array_equal(run("smc", BED.value(0.5), None).x0, same.x0)
    assert (run("smc", BED.value(0.5), 50.0).x0 != same.x0).any()
    with pytest.raises(ValueError, match="alpha = 0 has no limit in smc: greedy methods are svdd"):
        run("smc", BED.value(0.5), 0.0)
    with pytest.raises(TypeError, match="repeats"):
        Config(repeats=3)


@pytest.mark.parametrize("method", ["smc", "svdd", "nested", "tds", "soft_bon"])
def test_pitfall_03_small_temperatures_stay_finite(method):
    out = run(method, BED.value(1e-3), 1e-3)  # exp(3 / 0.001) is no float
    for leaf in jax.tree.leaves(out):
        assert not np.isnan(np.asarray(leaf)).any()
    assert np.isfinite(out.reward).all() and np.isfinite(out.ess).all()
    assert out.reward.mean() > (1.2 if method == "soft_bon" else 2.0)


@pytest.mark.parametrize("method", ["smc", "beam"])
def test_pitfall_04_problems_do_not_compete(method):
    """A neighbour worth a thousand more takes nobody's place."""
    rich = lambda x: REWARD(x) + jnp.array([[0.0], [1000.0]])  # noqa: E731
    config = Config(method=method, alpha=0.5, particles=4, children=2, rounds=2)
    both = guide(keys(2), PROCESS, BED.value(0.5, "mean"), rich, config)
    alone = guide(keys(2)[:1], PROCESS, BED.value(0.5, "mean"), REWARD, config)
    np.testing.assert_array_equal(both.x0[0], alone.x0[0])


@pytest.mark.parametrize("at", ["x_t", "mu"])
def test_pitfall_05_guidance_does_not_depend_on_the_batch_size(at):
    process, value = GAUSS.process(), posterior_mean(GAUSS.process(), GAUSS.reward())
    config = Config(method="cg", alpha=1.0, particles=2, at=at)
    many = guide(keys(16), process, value, GAUSS.reward(), config)
    few = guide(keys(16)[:1], process, value, GAUSS.reward(), config)
    np.testing.assert_allclose(many.x0[:1], few.x0, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(many.slope[:, :1], few.slope, rtol=1e-3)


@pytest.mark.parametrize("method", ["smc", "svdd", "beam", "cg"])
def test_pitfall_06_what_is_returned_is_what_was_sampled(method):
    """Not the argmax prediction of the state before: that one would lose the last selection."""
    out = run(method, BED.value(0.5, "mode"), 0.5)
    x = np.asarray(out.x0)
    np.testing.assert_allclose(out.reward, BED.r[tuple(np.moveaxis(x, -1, 0))], atol=1e-6)
    if method != "beam":  # without guidance all tokens occur, not the most likely ones alone
        free = run(method, BED.value(0.5), 1e6)
        assert len(np.unique(free.x0)) == 4


def test_pitfall_07_slopes_move_log_probabilities():
    """Probabilities stay probabilities however large the slope, and guidance does something."""
    logits = jax.nn.log_softmax(jnp.array([[[[0.1, 0.2, -3.0]]]]))
    for size in (1.0, 1e4):
        shift = size * jnp.array([[[[1.0, -2.0, 0.5]]]])
        y, log_ratio = PerToken(logits).tilted(keys(1), shift, 500)
        q = np.exp(np.asarray(logits + shift - jax.nn.logsumexp(logits + shift, -1, keepdims=True)))
        assert np.isfinite(log_ratio).all() and q.min() >= 0 and q.sum() == pytest.approx(1)
        seen = np.bincount(np.asarray(y).ravel(), minlength=3) / 500
        np.testing.assert_allclose(seen, q[0, 0, 0], atol=0.09)
    plain = run("none", None, 0.5, n=32).reward.mean()
    relaxed = lambda soft, t, alpha: 2.0 * jnp.sum(soft[..., 1], -1)  # noqa: E731
    value = function(lambda x, t, alpha: 2.0 * jnp.sum(x == 1, -1), relaxed)
    ones = lambda x: jnp.sum(x == 1, -1) * 1.0  # noqa: E731
    config = Config(method="cg", alpha=1.0, particles=8)
    guided = guide(keys(32), PROCESS, value, ones, config)
    assert guided.reward.mean() > 2 * 6 * 0.3 * 0.8 and plain < 1.0


def test_pitfall_08_twisted_sampling_twists_its_proposals():
    """Not plain SMC under another name: with a good value the weights hardly spread."""
    process, value = GAUSS.process(), GAUSS.value(1.0)
    size = {
        method: guide(
            keys(32), process, value, GAUSS.reward(), Config(method=method, alpha=1.0, particles=8)
        ).ess.mean()
        for method in ("smc", "tds")
    }
    assert size["tds"] > 6.5 > size["smc"]


def test_pitfall_09_children_are_drawn_by_their_weights_not_by_argmax():
    """Chances of the first token, of many children, against exp(v / alpha)."""
    x = jnp.full((1, 4000, 6), 4, jnp.int32)
    prediction = PROCESS.predict(x, jnp.int32(6))
    config = Config(alpha=jnp.array([0.5]), children=32)
    chosen = jax.jit(
        lambda key: choose_child(
            split(key, 3), PROCESS, BED.value(0.5), REWARD, config, x, prediction, jnp.int32(6)
        )
    )(keys(1))
    first = np.asarray(chosen.x)[0, :, 0]
    seen = np.bincount(first[first < 4], minlength=4) / (first < 4).sum()
    want = (0.63566922, 0.23519775, 0.09640731, 0.03272572)  # the target's marginal
    np.testing.assert_allclose(seen, want, atol=0.07)
    assert seen.min() > 0


@pytest.mark.filterwarnings("ignore:effective sample size")
@pytest.mark.parametrize("potential", ["diff", "max", "add", "rt"])
def test_pitfall_10_weights_are_carried_when_nothing_is_resampled(potential):
    """And the end is the reward of the sample, not the running maximum: then log w is r / alpha."""
    out = run("fk", BED.value(0.5), 0.5, potential=potential, ess_fraction=0.0, last_resample=False)
    r = np.asarray(REWARD(out.x0), np.float64) / 0.5
    np.testing.assert_allclose(out.reward, REWARD(out.x0), atol=1e-6)
    np.testing.assert_allclose(out.logw - out.logw[:, :1], r - r[:, :1], atol=1e-3)
    np.testing.assert_allclose(np.exp(out.logw).mean(1), 1.0, rtol=1e-4)


def test_pitfall_11_resampling_waits_for_uneven_weights():
    """By default systematic, and only below half of the particles: not multinomial every step."""
    assert Config().resampling == "systematic" and Config().ess_fraction == 0.5
    out = run("smc", BED.value(0.5), 0.5, n=32, last_resample=False)
    np.testing.assert_array_equal(out.resampled[:-1], np.asarray(out.ess < 4.0)[:-1])
    assert 0 < np.asarray(out.resampled).mean() < 0.7
    idle = np.asarray(out.ancestors)[~np.asarray(out.resampled)]
    np.testing.assert_array_equal(idle, np.broadcast_to(np.arange(8), idle.shape))


def test_pitfall_12_diversity_leaves_out_the_diagonal():
    x = jnp.array([[0, 1, 2], [0, 1, 2], [3, 1, 0]])
    pairs = [np.mean(np.asarray(x[i] != x[j])) for i in range(3) for j in range(i)]
    assert float(diversity(x)) == pytest.approx(np.mean(pairs))
    assert float(diversity(jnp.array([[0, 0], [1, 1]]))) == 1.0  # with the diagonal: 0.5
    assert float(unique_fraction(x)) == pytest.approx(2 / 3)


def test_pitfall_13_there_is_no_report_without_a_held_out_reward():
    assert inspect.signature(summary).parameters["held_out"].default is inspect.Parameter.empty
    exploit = lambda x: REWARD(x) + 3.0 * (x[..., 2] == 3)  # noqa: E731  an oracle's mistake
    out = guide(keys(8), PROCESS, None, exploit, Config(method="bon", particles=64))
    report = summary(out, REWARD)
    assert report["hacking"].mean() > 2 and report["reward"].mean() > report["held_out"].mean()
    honest = summary(run("bon", None, 0.0, n=8, particles=64), REWARD)
    np.testing.assert_allclose(honest["hacking"], 0, atol=1e-6)


def test_pitfall_14_the_posterior_is_sampled_not_only_its_mode():
    """The mode of a flat prediction is worth 3.0 where the value is 1.26."""
    state = jnp.full((1, 500, 6), 4, jnp.int32)
    mode = posterior_mean(PROCESS, REWARD, samples=0)
    default = posterior_mean(PROCESS, REWARD)
    assert default.samples == 4
    top, _ = mode.score(keys(1), state[:, :1], jnp.int32(6), jnp.array([0.5]))
    v, _ = default.score(keys(1), state, jnp.int32(6), jnp.array([0.5]))
    assert float(top[0, 0]) >= 2.5
    assert abs(v.mean() - 1.26) < 0.9 < abs(float(top[0, 0]) - 1.26)


def test_pitfall_15_the_mask_channel_is_cut_before_the_softmax():
    logits = jnp.array([0.3, -1.0, 2.0, 50.0])  # the mask's own column would take all
    process = masked(
        lambda x, t: jnp.broadcast_to(logits, (*x.shape, 4)), np.linspace(0, 1, 3), 2, 3
    )
    p = np.exp(process.predict(jnp.full((1, 1, 2), 3), jnp.int32(2)))
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(p[0, 0, 0], np.exp(logits[:3]) / np.exp(logits[:3]).sum(), rtol=1e-5)


def test_pitfall_16_draws_of_half_precision_networks_are_in_single_precision():
    logits = jnp.log(jnp.array([0.9, 0.0999, 1e-4], jnp.float32)).astype(jnp.bfloat16)
    process = masked(
        lambda x, t: jnp.broadcast_to(logits, (*x.shape, 3)), np.linspace(0, 1, 2), 1, 3
    )
    x = process.start(keys(1), 1)
    prediction = process.predict(x, jnp.int32(1))
    assert prediction.dtype == jnp.float32
    y = process.kernel(x, prediction, jnp.int32(1)).draw(keys(1), 200_000)
    seen = np.bincount(np.asarray(y).ravel(), minlength=4) / 200_000
    want = np.append(np.exp(np.asarray(jax.nn.log_softmax(logits.astype(jnp.float32)))), 0)
    np.testing.assert_allclose(seen, want, atol=3e-3)
    assert 0 < seen[2] < 5e-4  # rare tokens are drawn, as rarely as they should
