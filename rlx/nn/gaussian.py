"""Networks of Gaussian and deterministic policies."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.mlp import gelu_mlp

SMALL = nn.initializers.variance_scaling(1e-2, "fan_avg", "uniform")
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0  # as FQL's baselines clip them


class Mean(nn.Module):
    """obs `[B, *O]` -> mean `[B, A]`, not squashed; near 0 at the start."""

    hidden: Sequence[int]
    action_dim: int
    layer_norm: bool = False
    encoder: nn.Module | None = None

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        features = obs if self.encoder is None else self.encoder(obs)
        return gelu_mlp(self.hidden, self.action_dim, self.layer_norm, SMALL)(features)


class MeanAndStd(nn.Module):
    """obs `[B, *O]` -> mean and log standard deviation, `[B, A]` each."""

    hidden: Sequence[int]
    action_dim: int
    layer_norm: bool = False
    encoder: nn.Module | None = None

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = obs if self.encoder is None else self.encoder(obs)
        both = gelu_mlp(self.hidden, 2 * self.action_dim, self.layer_norm, SMALL)(features)
        mean, log_std = jnp.split(both, 2, axis=-1)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)
