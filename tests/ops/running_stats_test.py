"""Running statistics equal those of all rows at once, however the rows are split."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import running_stats


def merged(chunks, axis_name=None):
    state = running_stats.init(chunks[0].shape[1:])
    for chunk in chunks:
        state = running_stats.update(state, jnp.asarray(chunk), axis_name)
    return state


@pytest.mark.parametrize("sizes", [(60,), (1, 59), (7, 13, 40)])
def test_equals_numpy_over_the_concatenation(sizes):
    """Off-centre data (mean 100, spread 1): the textbook formula E[x^2] - E[x]^2 fails here."""
    data = np.random.default_rng(0).normal(100.0, [1.0, 0.1, 5.0], size=(60, 3)).astype(np.float32)
    state = merged(np.split(data, np.cumsum(sizes)[:-1]))
    assert float(state.count) == 60
    np.testing.assert_allclose(state.mean, data.mean(0, np.float64), rtol=1e-6)
    np.testing.assert_allclose(state.m2 / 60, data.var(0, dtype=np.float64), rtol=1e-3)


def test_a_batch_split_over_two_devices_is_the_whole_batch():
    data = np.random.default_rng(1).normal(3.0, 2.0, size=(3, 8, 2)).astype(np.float32)
    whole = merged(list(data))
    halves = data.reshape(3, 2, 4, 2).transpose(1, 0, 2, 3)  # [device, chunk, rows, O]
    split = jax.vmap(lambda chunks: merged(list(chunks), "data"), axis_name="data")(
        jnp.asarray(halves)
    )
    for side in range(2):
        part = jax.tree.map(lambda x, side=side: x[side], split)
        assert float(part.count) == 24
        np.testing.assert_allclose(part.mean, whole.mean, rtol=1e-6)
        np.testing.assert_allclose(part.m2, whole.m2, rtol=1e-5)


def test_normalize_centres_scales_and_clips():
    state = merged([np.array([[1.0], [3.0]], np.float32)])  # mean 2, standard deviation 1
    got = running_stats.normalize(state, jnp.array([[2.0], [3.5], [99.0], [-99.0]]))
    np.testing.assert_allclose(got[:, 0], [0.0, 1.5, 10.0, -10.0], rtol=1e-6)


def test_nothing_seen_or_nothing_kept_leaves_observations_as_they_are():
    x = jnp.array([[0.5, -3.0]])
    np.testing.assert_allclose(running_stats.normalize(running_stats.init((2,)), x), x, rtol=1e-6)
    assert running_stats.normalize(None, x) is x


def test_a_constant_observation_stays_finite():
    state = merged([np.full((5, 1), 7.0, np.float32)])
    got = running_stats.normalize(state, jnp.array([[7.0], [8.0]]))
    np.testing.assert_array_equal(got[:, 0], [0.0, 10.0])
