"""Shifts of guided kernels: sizes and options, edits one by one, first order, ascent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance import (
    Config,
    function,
    guide,
    masked,
    one_token,
    posterior_mean,
    uniform_diffusion,
)
from rlx.guidance.core import plan
from rlx.guidance.gradient import Sloped, ascended, exact, sized
from rlx.guidance.testbeds import linear_gaussian

KEYS = jax.random.split(jax.random.key(0), 2)
ALPHA = jnp.array([0.5, 2.0])
CONFIG = Config(alpha=ALPHA, guidance=jnp.array([1.0, 3.0]), ascent_rate=0.1)
GAUSS = linear_gaussian.reference(8)
MOVE = np.linspace(0, 1, 4)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 4))  # of tokens at positions


def flat_logits(x, t):
    return jnp.zeros((*x.shape, 4))


PROCESSES = {
    "masked": masked(flat_logits, MOVE, 3, 4),
    "one_token": one_token(flat_logits, 3, 4),
    "uniform": uniform_diffusion(flat_logits, np.array([1, 0.7, 0.4, 0.1]), 3, 4),
}


def test_shift_is_guidance_times_slope_over_alpha_clipped_by_rows():
    delta = jnp.array([[[3.0, 4.0], [0.3, 0.4]], [[jnp.nan, 1.0], [jnp.inf, 0.0]]])
    v = jnp.array([[-2.0, -8.0], [-0.5, -1.0]])
    plain = sized(delta, v, CONFIG)
    np.testing.assert_allclose(plain[0], np.array([[3, 4], [0.3, 0.4]]) / 0.5, rtol=1e-6)
    np.testing.assert_allclose(plain[1], [[0, 1.5], [0, 0]])  # what is not finite has no slope
    clipped = sized(delta, v, CONFIG.replace(clip_norm=1.0))
    np.testing.assert_allclose(clipped[0], np.array([[0.6, 0.8], [0.3, 0.4]]) / 0.5, rtol=1e-6)
    by_residual = sized(delta, v, CONFIG.replace(by_residual=True))
    np.testing.assert_allclose(by_residual[0, 1], np.array([0.3, 0.4]) / 4 / 0.5, rtol=1e-6)
    no_residual = jnp.array([[0.0, jnp.nan], [-0.5, jnp.inf]])
    dead = sized(jnp.zeros_like(delta), no_residual, CONFIG.replace(by_residual=True))
    np.testing.assert_array_equal(dead, 0.0)
    forbidden = sized(jnp.array([[[-jnp.inf, 1.0]]]), None, Config(alpha=ALPHA[:1], guidance=1.0))
    np.testing.assert_array_equal(forbidden, [[[-np.inf, 2.0]]])


def table_value(x, t, alpha):
    """Linear in the tokens that are set; the mask is worth -1, and time counts."""
    weights = jnp.concatenate([jnp.asarray(WEIGHTS), -jnp.ones((3, 1))], axis=1)
    return jnp.sum(jnp.take_along_axis(weights[None, None], x[..., None], axis=-1)[..., 0], -1) + t


def relaxed_value(soft, t, alpha):
    weights = jnp.concatenate([jnp.asarray(WEIGHTS), -jnp.ones((3, 1))], axis=1)
    return jnp.sum(soft * weights[:, : soft.shape[-1]], axis=(-2, -1)) + t


@pytest.mark.parametrize("kind", PROCESSES)
def test_edits_one_by_one_against_numpy(kind):
    process = PROCESSES[kind]
    x = (
        jnp.array([[[4, 1, 4]], [[4, 4, 0]]])
        if process.masked
        else jnp.array([[[2, 1, 3]], [[0, 0, 0]]])
    )
    value = function(table_value)
    reward = lambda x: table_value(jnp.minimum(x, 3), 100.0, None)  # noqa: E731
    delta = np.asarray(exact(KEYS, process, value, reward, CONFIG, x, jnp.int32(2)))
    padded = np.concatenate([WEIGHTS, -np.ones((3, 1))], axis=1)
    for b in range(2):
        tokens = np.asarray(x)[b, 0]
        want = WEIGHTS - padded[np.arange(3), tokens][:, None]
        if process.masked:
            want[tokens != 4] = 0.0
        if kind == "one_token":  # a common part is no choice
            want[tokens != 4] = -np.inf
            want -= want.max()
        if kind == "masked":
            want = np.concatenate([want, np.zeros((3, 1))], axis=1)
        np.testing.assert_allclose(delta[b, 0], want, atol=1e-5)


@pytest.mark.parametrize("kind", ["masked", "uniform"])
def test_first_order_is_exact_for_a_linear_value(kind):
    process = PROCESSES[kind]
    x = (
        jnp.array([[[4, 1, 4]], [[4, 4, 0]]])
        if process.masked
        else jnp.array([[[2, 1, 3]], [[0, 0, 0]]])
    )
    value = function(table_value, relaxed_value)
    _, (_, shift) = Sloped(value, process, CONFIG).score(KEYS, x, jnp.int32(2), ALPHA)
    delta = exact(KEYS, process, value, None, CONFIG, x, jnp.int32(2))
    want = sized(delta, None, CONFIG)
    free = np.asarray(x == 4)[..., None] if process.masked else True
    np.testing.assert_allclose(np.where(free, shift, 0), np.where(free, want, 0), atol=1e-4)


@pytest.mark.parametrize("kind", PROCESSES)
def test_guided_discrete_kernels_raise_the_reward(kind):
    process = PROCESSES[kind]
    reward = lambda x: table_value(x, 0.0, None)  # noqa: E731
    value = function(table_value)
    keys = jax.random.split(jax.random.key(1), 16)
    guided, plain = (
        guide(keys, process, value, reward, Config(method=method, alpha=0.3, particles=16))
        for method in ("cg", "none")
    )
    assert guided.reward.mean() > plain.reward.mean() + 0.5
    assert guided.slope.shape == (3, 16) and (guided.slope[0] > 0).all()


def test_ascent_moves_the_clean_prediction_up_the_reward():
    process, reward = GAUSS.process(), GAUSS.reward()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2)), jnp.float32)
    t = jnp.int32(5)
    prediction = process.predict(x, t)
    got = ascended(process, reward, CONFIG.replace(ascent_steps=2), x, prediction, t)
    x0 = np.asarray(prediction, np.float64)
    for _ in range(2):  # r = -(2 - x_1)**2, so its slope is 2 (2 - x_1)
        step = 0.1 / np.asarray(ALPHA, np.float64)[:, None] * 2 * (2 - x0[..., 0])
        x0 = x0 + np.stack([step, 0 * step], -1)
    np.testing.assert_allclose(got, x0, rtol=1e-5)
    assert ascended(process, reward, CONFIG, x, prediction, t) is prediction


@pytest.mark.parametrize(
    "options", [dict(clip_norm=0.5), dict(by_residual=True), dict(ascent_steps=1)]
)
def test_options_of_classifier_guidance_run_and_pull_the_right_way(options):
    process, reward = GAUSS.process(), GAUSS.reward()
    config = Config(method="cg", alpha=1.0, particles=32, **options)
    keys = jax.random.split(jax.random.key(0), 8)
    out = guide(keys, process, posterior_mean(process, reward), reward, config)
    assert out.reward.mean() > -4.0  # unguided: -5
    assert np.isfinite(out.x0).all()
    if "clip_norm" in options:
        assert out.slope.max() <= 0.5 + 1e-5


def test_plan_gives_every_step_its_own_keys():
    first, steps = plan(KEYS, 2, 3, 4)
    assert first.shape == (2, 2) and steps.shape == (3, 4, 2)
    everything = np.concatenate([
        np.asarray(jax.random.key_data(k)).reshape(-1, 2) for k in (first, steps)
    ])  # fmt: skip
    assert len(np.unique(everything, axis=0)) == (2 + 12) * 2


def test_a_masked_position_whose_every_token_is_forbidden_is_not_guided():
    process = PROCESSES["masked"]
    value = function(lambda x, t, alpha: jnp.where(jnp.all(x == 4, -1), 0.0, -jnp.inf))
    x = jnp.full((1, 2, 3), 4)
    key = jax.random.split(jax.random.key(0), 1)
    shift = exact(key, process, value, None, CONFIG.replace(alpha=ALPHA[:1]), x, jnp.int32(1))
    np.testing.assert_array_equal(shift, 0.0)
