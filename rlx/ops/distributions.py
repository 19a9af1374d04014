"""Diagonal Gaussians, plain and tanh-squashed as in SAC (Haarnoja et al. 2018, appendix C)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Return log N(x; mean, exp(log_std)**2) summed over the last axis: `[..., A] -> [...]`."""
    chex.assert_equal_shape([x, mean, log_std])
    return jnp.sum(gaussian_log_densities(x, mean, log_std), axis=-1)


def gaussian_log_densities(
    x: jax.Array, mean: jax.Array, log_std: jax.Array | float = 0.0
) -> jax.Array:
    """The same entry by entry, constant included: `[..., A] -> [..., A]`."""
    z = (x - mean) * jnp.exp(-log_std)
    return -0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)


def tanh_log_det(u: jax.Array) -> jax.Array:
    """Return log |d tanh(u) / du| summed over the last axis: `[..., A] -> [...]`.

    log(1 - tanh(u)**2) = 2 (log 2 - u - softplus(-2u)), which stays finite where 1 - tanh**2 rounds
    to 0.
    """
    return jnp.sum(tanh_log_slopes(u), axis=-1)


def tanh_log_slopes(u: jax.Array) -> jax.Array:
    """The same entry by entry: `[..., A] -> [..., A]`."""
    return 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def tanh_gaussian_log_densities(
    action: jax.Array, mean: jax.Array, log_std: jax.Array, margin: float = 1e-5
) -> jax.Array:
    """Return the log-density of given actions, entry by entry: all `[..., A]`.

    margin: actions are clipped to 1 - margin, where the inverse of tanh is finite.
    """
    u = jnp.arctanh(jnp.clip(action, -1.0 + margin, 1.0 - margin))
    return gaussian_log_densities(u, mean, log_std) - tanh_log_slopes(u)


def tanh_gaussian(
    noise: jax.Array, mean: jax.Array, log_std: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Turn standard-normal `noise` into an action and its log-density.

    Args: all `[..., A]`.
    Returns: `a = tanh(mean + exp(log_std) * noise)` `[..., A]` and `log pi(a)` `[...]`.
    """
    u = mean + jnp.exp(log_std) * noise
    return jnp.tanh(u), gaussian_log_prob(u, mean, log_std) - tanh_log_det(u)
