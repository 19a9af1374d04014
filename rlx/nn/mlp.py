"""Multi-layer perceptrons and ensembles of them."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """Dense layers with ReLU: `[..., I] -> [..., out]`.

    hidden: widths.   out: width of the last, linear layer.   layer_norm: before each ReLU.
    """

    hidden: Sequence[int]
    out: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=nn.initializers.lecun_uniform())(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
        return nn.Dense(self.out, kernel_init=nn.initializers.lecun_uniform())(x)


class QEnsemble(nn.Module):
    """`size` independent critics in one call: obs `[B, O]`, action `[B, A]` -> `[size, B]`."""

    hidden: Sequence[int]
    size: int = 2
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        members = nn.vmap(
            MLP,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=self.size,
        )
        x = jnp.concatenate([obs, action], axis=-1)
        return members(self.hidden, 1, self.layer_norm, name="critic")(x).squeeze(-1)
