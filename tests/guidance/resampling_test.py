"""Resampling: expected offspring, their spread, edge cases; effective sample size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance.resampling import KINDS, ess
from rlx.guidance.resampling import resample as resample_eagerly

resample = jax.jit(resample_eagerly, static_argnums=2)

N, B = 8, 3000
W = np.array([0.3, 0.0, 0.21, 0.01, 0.17, 0.0, 0.31, 0.0])


@pytest.fixture(scope="module")
def offspring():
    """Counts `[B, N]` of every kind."""
    keys = jax.random.split(jax.random.key(3), B)
    with np.errstate(divide="ignore"):
        logw = jnp.broadcast_to(jnp.log(W) + 7.0, (B, N))
    counts = {}
    for kind in KINDS:
        index = np.asarray(resample(keys, logw, kind))
        assert index.dtype == np.int32 and index.min() >= 0 and index.max() < N
        counts[kind] = (index[:, :, None] == np.arange(N)).sum(1)
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_expected_offspring_is_proportional_to_weight(offspring, kind):
    counts = offspring[kind]
    assert (counts.sum(1) == N).all()
    assert (counts[:, W == 0] == 0).all()
    error = np.sqrt(N * W * (1 - W) / B) + 1e-9  # of the multinomial kind, the widest
    assert (np.abs(counts.mean(0) - N * W) < 4.5 * error).all()


@pytest.mark.parametrize("kind", ["systematic", "residual", "ssp"])
def test_nobody_gets_less_than_the_whole_part_of_the_share(offspring, kind):
    counts, share = offspring[kind], N * W
    assert (counts >= np.floor(share + 1e-6)).all()
    if kind != "residual":
        assert (counts <= np.floor(share + 1e-6) + 1).all()


def test_spread_of_offspring_by_kind(offspring):
    spread = {kind: counts.var(0).sum() for kind, counts in offspring.items()}
    want = (N * W * (1 - W)).sum()
    assert spread["multinomial"] == pytest.approx(want, rel=0.05)
    assert spread["residual"] < spread["multinomial"]
    assert spread["stratified"] < spread["multinomial"]
    share = N * W % 1  # one more or not: a coin of this chance
    assert spread["ssp"] == pytest.approx((share * (1 - share)).sum(), rel=0.05)
    assert spread["systematic"] == pytest.approx((share * (1 - share)).sum(), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_edges_of_resampling(kind):
    keys = jax.random.split(jax.random.key(0), 3)
    logw = jnp.array([[0.0] * 4, [-jnp.inf, 0.0, -jnp.inf, -jnp.inf], [3e8, -3e8, 0.0, -jnp.inf]])
    index = np.asarray(resample(keys, logw, kind))
    if kind in ("systematic", "residual", "ssp"):  # n equal weights, also where 1 / n is no float
        assert (np.sort(resample(keys, jnp.zeros((3, 49)), kind)) == np.arange(49)).all()
    if kind != "multinomial" and kind != "stratified":
        assert sorted(index[0]) == [0, 1, 2, 3]  # equal weights: everyone stays
    assert index[1].tolist() == [1] * 4 and index[2].tolist() == [0] * 4
    alone = resample(keys[1:2], logw[1:2], kind)
    np.testing.assert_array_equal(index[1:2], alone)  # populations of a batch do not mix


def test_effective_sample_size():
    logw = jnp.log(jnp.array([[1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]]))
    want = [4.0, 2.0, 1 / (0.49 + 0.03)]
    np.testing.assert_allclose(ess(logw + 123.0), want, rtol=1e-4)
    np.testing.assert_allclose(ess(logw * 1e7)[0], 4.0, rtol=1e-6)
