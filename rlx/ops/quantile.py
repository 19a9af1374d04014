"""Quantile regression of return distributions (Dabney et al. 2018, arXiv 1710.10044)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def midpoints(count: int) -> jax.Array:
    """Return the quantile fractions `(i + 0.5) / count`, `[count]`."""
    return (jnp.arange(count) + 0.5) / count


def quantile_huber(quantiles: jax.Array, target: jax.Array, kappa: float = 1.0) -> jax.Array:
    """Return the quantile Huber loss of one row.

        mean_j sum_i |tau_i - 1[u_ij < 0]| * huber_kappa(u_ij) / kappa,   u_ij = target_j - z_i

    Args:
      quantiles: z [n], at the fractions `midpoints(n)`.   target: [m] samples of the target.
    References: Dabney et al. 2018, equation 10; summed over i as BRO does.
    """
    chex.assert_rank([quantiles, target], 1)
    error = target[None, :] - quantiles[:, None]
    size = jnp.abs(error)
    huber = jnp.where(size <= kappa, 0.5 * error**2, kappa * (size - 0.5 * kappa))
    weight = jnp.abs(midpoints(quantiles.shape[0])[:, None] - (error < 0))
    return jnp.sum(weight * huber, axis=0).mean() / kappa
