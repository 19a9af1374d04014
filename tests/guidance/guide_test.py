"""What holds for every method: batches are single runs, bad rewards and collapsed problems stay
where they are. One program a method serves all of it: rewards, values, temperatures are arrays.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rlx.guidance import METHODS, Config, function, guide
from rlx.guidance.guide import compiled
from rlx.guidance.testbeds import markov_chain
from rlx.guidance.testbeds.markov_chain import look_up

BED = markov_chain.reference()
PROCESS = BED.process()
TABLE, MEANS = BED.r[None].astype(np.float32), BED.mean()[None].astype(np.float32)
ALPHAS = np.array([0.3, 2.0])
VALUELESS = ("none", "bon", "soft_bon", "ga")
KEYS = jax.random.split(jax.random.key(0), 2)


def reward_of(table, spoilt, broken, x):
    """r + spoilt `[B, 1]`, and `broken` in place of 0 for sequences that begin with 1."""
    return look_up(table, x) + spoilt + jnp.where(x[..., 0] == 1, broken, 0.0)


def value_of(table, spoilt, x, t, alpha):
    return look_up(table, x) + spoilt


def run(method, keys=KEYS, alpha=ALPHAS, spoilt=0.0, broken=0.0, on_collapse="flag"):
    wide = np.broadcast_to(np.asarray(spoilt, np.float32), (len(keys),))[:, None]
    reward = Partial(reward_of, TABLE, wide, np.float32(broken))
    config = Config(
        method=method, alpha=np.broadcast_to(alpha, len(keys)), particles=8, children=4,
        simulations=5, rounds=2, fraction=0.34,
    )  # fmt: skip
    value = None if method in VALUELESS else function(Partial(value_of, MEANS, wide))
    return guide(keys, PROCESS, value, reward, config, on_collapse)


@cache
def plain(method):
    return run(method)


def same(a, b, i, j):
    """Problem i of one result is problem j of another, bit for bit."""
    for name in ("x0", "logw", "reward", "logZ", "n_bad_reward"):
        if getattr(a, name) is not None:
            np.testing.assert_array_equal(getattr(a, name)[i], getattr(b, name)[j], err_msg=name)
    for name in ("ess", "resampled", "ancestors", "moves"):
        if getattr(a, name) is not None:
            x, y = getattr(a, name)[:, i], getattr(b, name)[:, j]
            np.testing.assert_array_equal(x, y, err_msg=name)


def no_nan(out):
    for leaf in jax.tree.leaves(out):
        assert not np.isnan(np.asarray(leaf)).any()


@pytest.mark.parametrize("method", METHODS)
def test_samples_come_with_their_own_rewards_and_diagnostics(method):
    out = plain(method)
    no_nan(out)
    x = np.asarray(out.x0)
    assert x.dtype == np.int32 and x.max() < 4 and x.shape[0] == 2 and x.shape[2:] == (6,)
    np.testing.assert_allclose(out.reward, BED.r[tuple(np.moveaxis(x, -1, 0))], atol=1e-6)
    assert out.ess.shape[1] == 2 and (out.ess >= 1 - 1e-4).all() and (out.ess <= 8 + 1e-3).all()
    assert all(type(calls) in (int, float) and calls >= 0 for calls in out.nfe)
    assert not out.collapsed.any() and (out.n_bad_reward == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_problem_depends_on_its_own_key_and_settings_alone(method):
    """In another place of the batch, beside another problem, with its own temperature."""
    swapped = run(method, KEYS[::-1], ALPHAS[::-1])
    for i in range(2):
        same(plain(method), swapped, i, 1 - i)


@pytest.mark.parametrize("method", ["smc", "svdd", "tds", "rerd"])
def test_a_batch_of_two_problems_equals_two_runs(method):
    for i in range(2):
        same(plain(method), run(method, KEYS[i : i + 1], ALPHAS[i]), i, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_reward_drops_its_sample_and_is_counted(method, bad):
    """Sequences that begin with 1 are broken; none is kept where there was a choice."""
    out = run(method, broken=bad)
    no_nan(out)
    begins = np.asarray(out.x0)[..., 0] == 1
    np.testing.assert_array_equal(np.isneginf(out.reward), begins)
    assert not out.collapsed.any()
    if method not in ("cg", "svdd"):  # whose few children may all be good, or bad
        assert out.n_bad_reward.sum() > 0
    if method in ("smc", "fk", "nested", "tds", "bon", "soft_bon"):
        assert not begins.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_collapsed_problem_is_flagged_and_never_touches_its_neighbour(method):
    """Every reward and value of problem 1 is NaN: problem 0 is bit for bit what it was."""
    spoilt = np.array([0.0, np.nan])
    out = run(method, spoilt=spoilt)
    no_nan(out)
    same(plain(method), out, 0, 0)
    assert np.asarray(out.collapsed).tolist() == [False, True]
    assert int(out.n_bad_reward[1]) > 0
    np.testing.assert_array_equal(out.logw[1], 0.0)
    np.testing.assert_array_equal(np.asarray(out.x0[1]) < 4, True)
    with pytest.raises(
        RuntimeError, match=r"problems \[1\]: at some step no particle had a finite"
    ):
        run(method, spoilt=spoilt, on_collapse="raise")


@pytest.mark.parametrize("method", METHODS)
def test_where_every_problem_collapsed_all_are_flagged(method):
    out = run(method, KEYS[:1], ALPHAS[:1], spoilt=np.nan)
    no_nan(out)
    assert np.asarray(out.collapsed).tolist() == [True]


@pytest.mark.parametrize("method", METHODS)
def test_all_that_compiled_once(method):
    """Other tables, rewards and temperatures are no new program."""
    before = compiled._cache_size()
    run(method, spoilt=1.0, alpha=0.7)
    assert compiled._cache_size() == before
