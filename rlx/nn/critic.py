"""Ensembles of critics: independent parameters, one call."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.mlp import gelu_mlp


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


class Critic(nn.Module):
    """Q(s, a) of an ensemble: obs `[B, *O]`, action `[B, A]` -> `[size, B]`; N actions of each
    observation, `[B, N, A]` -> `[size, B, N]`, whose image is encoded once.

    GELU layers with LayerNorm after each, Glorot-uniform kernels (Park et al. 2025, arXiv
    2502.02538, appendix B). encoder: of images, shared by the members.
    """

    hidden: Sequence[int]
    size: int = 2
    layer_norm: bool = True
    encoder: nn.Module | None = None

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        features = obs if self.encoder is None else self.encoder(obs)
        *batch, A = action.shape
        if action.ndim > 2:
            features = jnp.repeat(features, batch[1], axis=0)
        member = gelu_mlp(self.hidden, 1, self.layer_norm)
        values = QEnsemble(member, self.size)(features, action.reshape(-1, A))
        return values.reshape(self.size, *batch)


class Value(nn.Module):
    """V(s): obs `[B, *O]` -> `[B]`; layers as those of `Critic`."""

    hidden: Sequence[int]
    layer_norm: bool = True
    encoder: nn.Module | None = None

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        features = obs if self.encoder is None else self.encoder(obs)
        return gelu_mlp(self.hidden, 1, self.layer_norm)(features).squeeze(-1)
