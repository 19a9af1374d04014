"""A data set samples its rows uniformly and does not grow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from toys import keys

from rlx.data.dataset import make_dataset
from rlx.types import Transition

ROWS = 12


def transitions(**changes) -> Transition:
    index = np.arange(ROWS, dtype=np.float32)
    rows = dict(
        obs=index[:, None],
        action=-index[:, None],
        reward=2 * index,
        next_obs=index[:, None] + 1,
        terminated=index % 3 == 0,
        truncated=index % 3 == 1,
    )
    return Transition(**{**rows, **changes})


def test_rows_stay_together_and_are_drawn_uniformly():
    dataset, data = make_dataset(transitions())
    assert dataset.capacity == ROWS
    batch = jax.jit(dataset.sample, static_argnums=3)(data, jnp.int32(0), keys(1, 4), 24_000, 0.9)
    index = np.asarray(batch.obs)[:, 0]
    np.testing.assert_array_equal(batch.action[:, 0], -index)
    np.testing.assert_array_equal(batch.reward, 2 * index)
    np.testing.assert_array_equal(batch.next_obs[:, 0], index + 1)
    np.testing.assert_array_equal(batch.truncated, index % 3 == 1)
    np.testing.assert_allclose(
        batch.extras["discount"], np.where(index % 3 == 0, 0.0, 0.9), rtol=1e-6
    )
    counts = np.bincount(index.astype(int), minlength=ROWS)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_it_does_not_grow():
    dataset, data = make_dataset(transitions())
    with pytest.raises(ValueError, match="a data set does not grow"):
        dataset.add(data, 0, transitions())


@pytest.mark.parametrize(
    "changes, lengths",
    [
        ({"reward": np.zeros(ROWS - 1, np.float32)}, "11, 12"),
        ({name: np.zeros((0, 1), np.float32) for name in ("obs", "next_obs")}, "0, 12"),
    ],
)
def test_leaves_of_different_lengths_are_refused(changes, lengths):
    with pytest.raises(ValueError) as caught:
        make_dataset(transitions(**changes))
    assert str(caught.value) == (
        f"a data set needs leaves with one common length >= 1, got lengths [{lengths}]"
    )
