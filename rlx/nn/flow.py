"""Networks of flow policies: the velocity field, and one that maps noise to actions at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.mlp import GLOROT_UNIFORM, gelu_mlp
from rlx.ops.flow import integrate


class VectorField(nn.Module):
    """v(s, x, t): obs `[B, *O]`, x `[B, A]`, t `[B, 1]` in [0, 1] -> `[B, A]`.

    A GELU network on [s, x, t]. `condition` is what of the first layer depends on the observation
    alone: samplers compute it, and the encoder of images, once for all their steps.
    features: length of the observation, or of what `encoder` makes of it.
    fourier: features of t (cos and sin of pi k t, so that its two ends differ); 0 = t as it is.
    """

    features: int
    hidden: Sequence[int]
    action_dim: int
    layer_norm: bool = False
    fourier: int = 0
    encoder: nn.Module | None = None

    def setup(self) -> None:
        time = self.fourier or 1
        shape = (self.features + self.action_dim + time, self.hidden[0])
        self.kernel = self.param("kernel", GLOROT_UNIFORM, shape)
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.hidden[0],))
        self.norm = nn.LayerNorm() if self.layer_norm else lambda x: x
        self.rest = gelu_mlp(self.hidden[1:], self.action_dim, self.layer_norm)

    def condition(self, obs: jax.Array) -> jax.Array:
        """The share of the observations in the first layer, `[B, hidden[0]]`."""
        features = obs if self.encoder is None else self.encoder(obs)
        return features @ self.kernel[: self.features] + self.bias

    def velocity(self, condition: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        """v at `x` and `t`, given `condition(obs)`."""
        if self.fourier:
            angles = jnp.pi * jnp.arange(1, self.fourier // 2 + 1) * t
            t = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        moving = jnp.concatenate([x, t], axis=-1)
        first = condition + moving @ self.kernel[self.features :]
        return self.rest(self.norm(nn.gelu(first)))

    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        return self.velocity(self.condition(obs), x, t)


def flow_action(
    net: VectorField, steps: int, solver: str, params: Any, obs: jax.Array, noise: jax.Array
) -> jax.Array:
    """Where the flow leads from `noise`, clipped to [-1, 1] at the end only.

    Args: obs `[B, *O]`; noise `[B, A]`, or `[B, N, A]` for N actions per observation.
    """
    given = net.apply(params, obs, method="condition")
    if noise.ndim == 3:
        given = given[:, None]
    velocity = lambda x, t: net.apply(params, given, x, t, method="velocity")  # noqa: E731
    return jnp.clip(integrate(velocity, noise, steps, solver), -1, 1)


class NoiseToAction(nn.Module):
    """mu(s, z): obs `[B, *O]`, noise `[B, A]` -> `[B, A]`, not squashed."""

    hidden: Sequence[int]
    action_dim: int
    layer_norm: bool = False
    encoder: nn.Module | None = None

    @nn.compact
    def __call__(self, obs: jax.Array, noise: jax.Array) -> jax.Array:
        features = obs if self.encoder is None else self.encoder(obs)
        net = gelu_mlp(self.hidden, self.action_dim, self.layer_norm)
        return net(jnp.concatenate([features, noise], axis=-1))
