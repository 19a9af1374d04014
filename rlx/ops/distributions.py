"""The tanh-squashed diagonal Gaussian of SAC (Haarnoja et al. 2018, appendix C)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Return log N(x; mean, exp(log_std)**2) summed over the last axis: `[..., A] -> [...]`."""
    chex.assert_equal_shape([x, mean, log_std])
    z = (x - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def tanh_log_det(u: jax.Array) -> jax.Array:
    """Return log |d tanh(u) / du| summed over the last axis: `[..., A] -> [...]`.

    log(1 - tanh(u)**2) = 2 (log 2 - u - softplus(-2u)), which stays finite where 1 - tanh**2 rounds
    to 0.
    """
    return jnp.sum(2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u)), axis=-1)


def tanh_gaussian(
    noise: jax.Array, mean: jax.Array, log_std: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Turn standard-normal `noise` into an action and its log-density.

    Args: all `[..., A]`.
    Returns: `a = tanh(mean + exp(log_std) * noise)` `[..., A]` and `log pi(a)` `[...]`.
    """
    u = mean + jnp.exp(log_std) * noise
    return jnp.tanh(u), gaussian_log_prob(u, mean, log_std) - tanh_log_det(u)
