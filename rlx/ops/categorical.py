"""Return distributions on fixed atoms (Bellemare et al. 2017, arXiv 1707.06887)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def project(
    probs: jax.Array, reward: jax.Array, discount: jax.Array, atoms: jax.Array
) -> jax.Array:
    """Return the distribution of `reward + discount * Z` on `atoms`, Z having `probs` there.

    Args: one row: probs [K], reward [], discount [] (gamma**k * (1 - terminated)), atoms [K] evenly
      spaced; values beyond the ends go to the ends.
    Returns: [K], of the same sum as `probs`. Each atom takes the share of a moved one by the hat
      function of one spacing, which needs no scatter.
    References: Bellemare et al. 2017, algorithm 1.
    """
    chex.assert_equal_shape([probs, atoms])
    spacing = (atoms[-1] - atoms[0]) / (atoms.shape[0] - 1)
    moved = jnp.clip(reward + discount * atoms, atoms[0], atoms[-1])
    share = jnp.clip(1.0 - jnp.abs(moved[None, :] - atoms[:, None]) / spacing, 0.0, 1.0)
    return share @ probs


def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Return `-mean_k [t_k log p_k + (1 - t_k) log(1 - p_k)]`, p = softmax(logits); all `[K]`.

    Finite at probabilities of 0 and 1: log p is held above -100, 1 - p above 1e-7.
    Differs from torch's, which holds log(1 - p) above -100 and so has infinite slopes there.
    """
    chex.assert_equal_shape([logits, target])
    log_p = jax.nn.log_softmax(logits)
    log_rest = jnp.log1p(-jnp.minimum(jnp.exp(log_p), 1.0 - 1e-7))
    return -jnp.mean(target * jnp.maximum(log_p, -100.0) + (1.0 - target) * log_rest)
