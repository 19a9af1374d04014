"""Rotary positions against complex numbers, and the property they exist for."""

from __future__ import annotations

import numpy as np

from rlx.ops.rope import rotate


def test_against_complex_rotation():
    rng = np.random.default_rng(0)
    x, positions = rng.normal(size=(2, 5, 3, 8)), rng.integers(0, 300, size=(2, 5))
    z = x[..., :4] + 1j * x[..., 4:]
    angle = positions[..., None, None] * 10_000.0 ** (-2 * np.arange(4) / 8)
    turned = z * np.exp(1j * angle)
    want = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotate(np.float32(x), positions), want, atol=2e-4)


def test_products_depend_on_the_distance_only():
    rng = np.random.default_rng(1)
    q, k = np.float32(rng.normal(size=(2, 1, 1, 1, 16)))
    at = lambda x, p: np.asarray(rotate(x, np.full((1, 1), p)))  # noqa: E731
    near, far = np.vdot(at(q, 7), at(k, 3)), np.vdot(at(q, 107), at(k, 103))
    np.testing.assert_allclose(near, far, atol=1e-4)
    assert abs(near - np.vdot(at(q, 8), at(k, 3))) > 1e-3
    np.testing.assert_array_equal(at(q, 0), q)
