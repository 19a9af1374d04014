"""Temporal-difference targets, for one transition or one window of transitions."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def td_target(reward: jax.Array, discount: jax.Array, value: jax.Array) -> jax.Array:
    """Return `y = r + discount * V(s')`, any equal shapes.

    `discount` is gamma**k * (1 - terminated), as every sampled batch brings it in
    `extras["discount"]`:
    a truncated transition bootstraps, a terminated one does not.
    """
    chex.assert_equal_shape([reward, discount, value])
    return reward + discount * value


def n_step(
    reward: jax.Array, terminated: jax.Array, truncated: jax.Array, discount: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Fold a window of n consecutive steps into one transition.

    The sum runs until n, `terminated` or `truncated`, whichever comes first (k steps used).

    Args:
      reward, terminated, truncated: [n].   discount: gamma, scalar.
    Returns:
      R = sum_{i<k} gamma**i r_i;  gamma**k * (1 - terminated_{k-1});  k - 1, the last step used.
    """
    chex.assert_equal_shape([reward, terminated, truncated])
    n = reward.shape[0]
    done = terminated | truncated
    before = jnp.cumsum(done) - done  # episode ends strictly before step i
    used = before == 0
    powers = discount ** jnp.arange(n)
    last = jnp.sum(used) - 1
    bootstrap = discount ** (last + 1) * (1.0 - terminated[last])
    return jnp.sum(jnp.where(used, powers * reward, 0.0)), bootstrap, last


def aggregate(q: jax.Array, how: str) -> jax.Array:
    """Join the values of an ensemble `[K, ...] -> [...]` by "mean" or "min"."""
    return q.min(0) if how == "min" else q.mean(0)


def expectile_loss(error: jax.Array, expectile: jax.Array) -> jax.Array:
    """Return |expectile - 1[error < 0]| error**2 (Kostrikov et al. 2021), elementwise.

    `error` = target - prediction: an expectile near 1 makes the prediction an upper envelope.
    """
    return jnp.where(error < 0, 1.0 - expectile, expectile) * error**2
