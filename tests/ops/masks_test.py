"""Masks and positions against a loop over pairs of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.ops import masks

#         camera, missing camera, text, suffix, padding; then two packed texts
ROWS = {
    "camera missing": ([1, 1, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1, 1, 0]),
    "packed": ([1, 1, 1, 2, 2, 2, 2, 0, 0], [0, 0, 1, 0, 0, 1, 1, 0, 0]),
    "block causal": ([1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0, 0]),
    "padding only": ([0] * 9, [0, 1, 0, 0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", ROWS)
def test_against_loops(name):
    segment, ar = (np.array(x) for x in ROWS[name])
    order = np.cumsum(ar)
    see = np.zeros((9, 9), bool)
    for i in range(9):
        for j in range(9):
            see[i, j] = segment[i] > 0 and segment[i] == segment[j] and order[j] <= order[i]
    np.testing.assert_array_equal(masks.prefix_lm(ar == 1, segment), see)
    got = np.asarray(masks.positions(segment))
    for i in np.flatnonzero(segment):
        assert got[i] == sum(segment[:i] == segment[i])
    last = masks.last(segment)
    assert last == (max(np.flatnonzero(segment)) if segment.any() else 0)
    want = [segment[i] > 0 and not ar[: i + 1].any() for i in range(9)]
    np.testing.assert_array_equal(masks.prefix(ar == 1, segment), want)


def test_batches_are_rows():
    segment = np.stack([np.array(x[0]) for x in ROWS.values()])
    ar = np.stack([np.array(x[1]) for x in ROWS.values()]) == 1
    for i in range(len(ROWS)):
        np.testing.assert_array_equal(
            masks.prefix_lm(ar, segment)[i], masks.prefix_lm(ar[i], segment[i])
        )
        np.testing.assert_array_equal(masks.positions(segment)[i], masks.positions(segment[i]))


def test_the_suffix_is_never_seen_by_the_prefix():
    segment, ar = np.ones(6, int), np.arange(6) >= 3
    see = np.asarray(masks.prefix_lm(ar, segment))
    assert see[:3, :3].all() and not see[:3, 3:].any()
    np.testing.assert_array_equal(see[3:, 3:], np.tril(np.ones((3, 3), bool)))
