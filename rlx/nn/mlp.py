"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

LECUN_UNIFORM = nn.initializers.lecun_uniform()


class MLP(nn.Module):
    """Dense layers with an activation between them: `[..., I] -> [..., out]`.

    hidden: widths.   out: width of the last, linear layer.   layer_norm: before each activation.
    kernel_init: of the kernels; biases start at 0.
    """

    hidden: Sequence[int]
    out: int
    layer_norm: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Callable = LECUN_UNIFORM

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=self.kernel_init)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = self.activation(x)
        return nn.Dense(self.out, kernel_init=self.kernel_init)(x)
