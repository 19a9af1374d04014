"""Shifts of the value, limits of alpha, methods that are each other, chunks, callbacks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rlx.guidance import Config, function, guide, nested_mc, posterior_mean
from rlx.guidance.population import schedule
from rlx.guidance.testbeds import linear_gaussian, markov_chain

CHAIN = markov_chain.reference()
PROCESS, REWARD = CHAIN.process(), CHAIN.reward()
GAUSS = linear_gaussian.reference(12)


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def shifted(fn, height, x, t, alpha):
    return fn(x, t, alpha) + height * (1.0 + t**2)


@pytest.mark.parametrize(("bed", "method"), [
    (CHAIN, "smc"), (GAUSS, "smc"), (CHAIN, "nested"), (GAUSS, "svdd"), (GAUSS, "tds"),
])  # fmt: skip
def test_a_shift_of_the_value_by_any_function_of_time_changes_nothing(bed, method):
    """In float64: in float32 rounding flips a draw now and then."""
    with jax.enable_x64(True):
        value = bed.value(0.5, "mean")
        config = Config(method=method, alpha=0.5, particles=16, children=3)
        a, b = (
            guide(
                keys(3),
                bed.process(),
                function(Partial(shifted, value.fn, jnp.asarray(height))),
                bed.reward(),
                config,
            )
            for height in (0.0, -7.3)
        )
    assert a.reward.dtype == np.float64
    np.testing.assert_allclose(a.x0, b.x0, atol=0 if bed is CHAIN else 1e-9)
    if a.ancestors is not None:
        np.testing.assert_array_equal(a.ancestors, b.ancestors)
        np.testing.assert_array_equal(a.resampled, b.resampled)
        assert a.resampled.any() and not a.resampled[:-1].all()
        np.testing.assert_allclose(a.logZ, b.logZ, atol=1e-9)


@pytest.mark.parametrize("method", ["smc", "svdd", "soft_bon", "nested"])
def test_alpha_from_nothing_to_infinity_is_finite_and_ends_at_the_pre_trained_law(method):
    small = dict(particles=16, children=4)
    rewards = []
    for alpha in (1e-20, 1e-6, 0.01, 1.0, 1e6, 1e20):
        value = CHAIN.value(0.5, "mean")
        out = guide(keys(64), PROCESS, value, REWARD, Config(method=method, alpha=alpha, **small))
        for name in ("reward", "ess", "logZ", "moves"):
            if getattr(out, name) is not None:
                assert np.isfinite(np.asarray(getattr(out, name))).all(), (alpha, name)
        rewards.append(float(out.reward.mean()))
    error = 0.95 / (64 * out.x0.shape[1]) ** 0.5  # the reward of p_pre has this spread
    assert abs(rewards[-1] - 0.4885215) < 4 * error
    assert rewards[0] > rewards[-1] + 0.5 and rewards[0] == pytest.approx(rewards[1], abs=0.2)
    if method in ("smc", "nested"):
        np.testing.assert_allclose(out.ess, 16, rtol=1e-5)
        np.testing.assert_allclose(out.logZ, 0, atol=1e-5)


def run(method, particles, children, value=None, alpha=0.5, **more):
    value = CHAIN.value(0.5, "mean") if value is None else value
    config = Config(method=method, alpha=alpha, particles=particles, children=children, **more)
    return guide(keys(6), PROCESS, value, REWARD, config)


def test_greedy_svdd_is_the_limit_of_cold_svdd():
    config = Config(method="svdd", particles=2, children=8)
    greedy, cold = (
        guide(keys(4), GAUSS.process(), GAUSS.value(0.5), GAUSS.reward(), config.replace(alpha=a))
        for a in (0.0, 1e-12)
    )
    np.testing.assert_array_equal(greedy.x0, cold.x0)
    np.testing.assert_array_equal(greedy.ess, 1.0)


def test_nested_with_one_child_is_smc_and_with_one_particle_is_svdd():
    a, b = run("nested", 8, 1), run("smc", 8, 1)
    np.testing.assert_array_equal(a.x0, b.x0)
    np.testing.assert_array_equal(a.ancestors, b.ancestors)
    np.testing.assert_allclose(a.logZ, b.logZ, atol=1e-5)
    np.testing.assert_array_equal(run("nested", 1, 8).x0, run("svdd", 1, 8).x0)


def test_the_published_variant_of_nested_depends_on_no_unit_of_the_reward():
    """Argmax children, weights exp(s / max |s|), multinomial at every step."""
    times_ten = CHAIN._replace(r=10 * CHAIN.r)
    config = Config(method="nested", alpha=0.5, particles=8, children=3, local="argmax_scaled")
    a, b = (
        guide(keys(6), PROCESS, bed.value(0.5, "mode"), bed.reward(), config)
        for bed in (CHAIN, times_ten)
    )
    np.testing.assert_array_equal(a.x0, b.x0)
    assert a.resampled.all()
    assert a.reward.mean() > 1.8  # the pre-trained law: 0.49


def test_chunks_of_children_change_nothing_and_come_by_themselves_when_memory_asks():
    value = posterior_mean(PROCESS, REWARD, samples=0)
    whole = run("svdd", 4, 6, value)
    parts = run("svdd", 4, 6, value, child_chunk=3)
    np.testing.assert_array_equal(whole.x0, parts.x0)
    np.testing.assert_allclose(whole.ess, parts.ess, rtol=1e-6)
    assert whole.nfe == parts.nfe
    each = 6 * 4 * 4 * (6 + 6 * 4)  # problems, particles, bytes of tokens and log-probabilities
    with pytest.warns(UserWarning, match=rf"take {6 * each:,} bytes.*they are scored 3 at a time"):
        small = run("svdd", 4, 6, value, child_bytes=3.5 * each)
    np.testing.assert_array_equal(whole.x0, small.x0)


def test_schedule_names_the_steps_that_may_resample():
    """Ten steps t = 10 ... 1: every second one, not in the first three tenths nor the last two."""
    steps = np.arange(10, 0, -1)
    allowed = schedule(steps, 10, Config(every=2, first=0.3, last=0.8))
    assert steps[allowed].tolist() == [7, 5, 3]
    out = run("smc", 8, 1, alpha=0.2, every=3, ess_fraction=1.0, last_resample=False)
    np.testing.assert_array_equal(out.resampled[:, 0], [False, False, True, False, False, False])


def test_guide_works_inside_jit_and_over_a_row_of_temperatures():
    value = CHAIN.value(0.5, "mean")

    def sample(alpha):
        config = Config(method="smc", alpha=alpha, particles=8)
        return guide(keys(6), PROCESS, value, REWARD, config).x0

    row = jax.jit(jax.vmap(sample))(jnp.array([0.5, 5.0]))
    np.testing.assert_array_equal(row[0], sample(0.5))
    np.testing.assert_array_equal(row[1], sample(5.0))


def test_nested_roll_outs_serve_as_a_value():
    out = run("svdd", 2, 2, nested_mc(PROCESS, REWARD, 2))
    assert out.nfe.model == 6 + sum(2 * 2 * t for t in range(1, 6))
    assert out.nfe.reward == 2 * 2 * 5 + 2


def zeros_in_python(x):
    """Not a jax function at all."""
    return np.array([[float(list(row).count(0)) for row in rows] for rows in np.asarray(x)], "f4")


def test_a_reward_in_plain_python_through_a_callback():
    def reward(x):
        like = jax.ShapeDtypeStruct(x.shape[:2], jnp.float32)
        return jax.pure_callback(zeros_in_python, like, x)

    out = guide(keys(3), PROCESS, None, reward, Config(method="bon", particles=8))
    np.testing.assert_array_equal(out.reward[:, 0], (np.asarray(out.x0) == 0).sum(-1)[:, 0])
    assert out.reward.mean() > 1.9


@pytest.mark.slow
def test_problems_over_eight_devices_equal_one_device(run_python):
    code = """
import jax, numpy as np
from rlx.guidance import Config, guide, over_devices
from rlx.guidance.population import schedule
from rlx.guidance.testbeds import markov_chain
bed = markov_chain.reference()
keys = jax.random.split(jax.random.key(0), 8)
config = Config(alpha=0.5, particles=4)
run = lambda keys: guide(keys, bed.process(), bed.value(0.5), bed.reward(), config)
split = run(over_devices(keys, jax.devices()))
assert len(split.x0.sharding.device_set) == 8
np.testing.assert_array_equal(split.x0, run(keys).x0)
try:
    over_devices(keys[:6], jax.devices())
except ValueError as error:
    assert "6 problems do not divide over 8 devices: take 8" in str(error)
else:
    raise AssertionError
"""
    run_python(code, devices=8)
