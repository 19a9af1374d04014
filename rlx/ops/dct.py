"""The orthonormal DCT-II along time, for NumPy and for JAX arrays; nothing of JAX is imported here.

  C[k] = s_k sum_t x[t] cos(pi (2 t + 1) k / (2 T)),   s_0 = sqrt(1 / T), s_k = sqrt(2 / T)
In matrix form C = D x with D D^T = I, so the inverse is x = D^T C. Up to `MATRIX` steps the matrix
is faster; beyond it the same numbers come from one FFT.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

MATRIX = 1024  # longest horizon done as a matrix product

Array = Any  # np.ndarray or jax.Array


@lru_cache(maxsize=32)
def basis(horizon: int, dtype: str = "float32") -> np.ndarray:
    """Return D `[T, T]`, row k the k-th cosine; read-only, since it is shared."""
    if horizon < 1:
        raise ValueError(f"horizon is a number of steps >= 1, got {horizon}")
    t = np.arange(horizon)
    D = np.sqrt(2.0 / horizon) * np.cos(np.pi * (2 * t + 1) * t[:, None] / (2 * horizon))
    D[0] = np.sqrt(1.0 / horizon)
    D = D.astype(dtype)
    D.flags.writeable = False
    return D


def dct(x: Array) -> Array:
    """Return the coefficients of `x [..., T, A]` along T, in its precision."""
    T = x.shape[-2]
    if T > MATRIX:
        return _by_fft(x)
    return matmul(basis(T, str(x.dtype)), x)


def inverse(coefficients: Array) -> Array:
    """Return x of `coefficients [..., T, A]`: the transpose of `dct`."""
    T = coefficients.shape[-2]
    if T > MATRIX:
        return _inverse_by_fft(coefficients)
    return matmul(basis(T, str(coefficients.dtype)).T, coefficients)


def matmul(matrix: Array, x: Array) -> Array:
    """Return `matrix @ x` in full precision: bfloat16 or TF32 would flip rounded coefficients."""
    if isinstance(x, np.ndarray):
        return np.matmul(matrix, x)
    return x.__array_namespace__().matmul(matrix, x, precision="highest")


def _by_fft(x: Array) -> Array:
    """The even extension of x has a real spectrum after half a step of shift."""
    xp, T = x.__array_namespace__(), x.shape[-2]
    shift, scale = _turn(T, x.dtype)
    mirrored = xp.concatenate([x, xp.flip(x, axis=-2)], axis=-2)
    half = xp.fft.rfft(mirrored, axis=-2)[..., :T, :]
    return (xp.real(half * shift) * (scale / 2)).astype(x.dtype)


def _inverse_by_fft(coefficients: Array) -> Array:
    xp, T = coefficients.__array_namespace__(), coefficients.shape[-2]
    shift, scale = _turn(T, coefficients.dtype)
    half = coefficients * (2 / scale) * xp.conj(shift)
    last = xp.zeros_like(half[..., :1, :])
    mirrored = xp.fft.irfft(xp.concatenate([half, last], axis=-2), n=2 * T, axis=-2)
    return mirrored[..., :T, :].astype(coefficients.dtype)


def _turn(horizon: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """exp(-i pi k / 2T) and s_k, both `[T, 1]`, of the precision of `dtype`."""
    k = np.arange(horizon)[:, None]
    scale = np.where(k == 0, np.sqrt(1.0 / horizon), np.sqrt(2.0 / horizon)).astype(dtype)
    return np.exp(-0.5j * np.pi * k / horizon).astype(np.result_type(dtype, np.complex64)), scale
