"""Ensembles of critics: independent parameters, one call."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class QEnsemble(nn.Module):
    """`size` independent copies of `member`: obs `[B, O]`, action `[B, A]` -> `[size, B, out]`.

    member: a network `[B, O + A] -> [B, out]`; its parameters gain a leading axis `size`, so that
    every layer of all members is one batched product.
    """

    member: nn.Module
    size: int = 2

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        together = nn.vmap(
            lambda member, x: member(x),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=self.size,
        )
        return together(self.member, jnp.concatenate([obs, action], axis=-1))
