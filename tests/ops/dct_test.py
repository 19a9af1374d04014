"""The orthonormal DCT against SciPy, as a matrix and by FFT, in NumPy and in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from rlx.ops.dct import MATRIX, basis, dct, inverse

RNG = np.random.default_rng(0)


def test_two_steps_by_hand():
    x = np.array([[3.0], [1.0]])
    np.testing.assert_allclose(dct(x), [[4 / np.sqrt(2)], [2 / np.sqrt(2)]])


@pytest.mark.parametrize("T", [1, 2, 7, 50, MATRIX, MATRIX + 1, 1500])
def test_equals_scipy_and_is_undone(T):
    x = RNG.normal(size=(2, T, 3))
    want = scipy.fft.dct(x, axis=1, norm="ortho")
    np.testing.assert_allclose(dct(x), want, atol=1e-11)
    np.testing.assert_allclose(inverse(dct(x)), x, atol=1e-11)


@pytest.mark.parametrize("T", [50, 1500])
def test_jax_in_float32(T):
    x = RNG.normal(size=(2, T, 3)).astype(np.float32)
    want = scipy.fft.dct(x.astype(np.float64), axis=1, norm="ortho")
    got = jax.jit(dct)(jnp.asarray(x))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_allclose(jax.jit(inverse)(got), x, atol=2e-5)
    assert dct(x).dtype == np.float32  # NumPy keeps the precision too


@pytest.mark.parametrize("T", [1, 2, 33])
def test_basis_is_orthonormal_and_shared_read_only(T):
    D = basis(T, "float64")
    np.testing.assert_allclose(D @ D.T, np.eye(T), atol=1e-12)
    assert basis(T, "float64") is D
    with pytest.raises(ValueError, match="read-only"):
        D[0, 0] = 1


def test_energy_is_kept():
    x = RNG.normal(size=(1, 40, 2))
    np.testing.assert_allclose((dct(x) ** 2).sum(), (x**2).sum())


def test_no_steps():
    with pytest.raises(ValueError, match="horizon is a number of steps >= 1, got 0"):
        basis(0)
