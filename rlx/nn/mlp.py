"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

LECUN_UNIFORM = nn.initializers.lecun_uniform()
GLOROT_UNIFORM = nn.initializers.glorot_uniform()


class MLP(nn.Module):
    """Dense layers with an activation between them: `[..., I] -> [..., out]`.

    hidden: widths.   out: width of the last, linear layer.   layer_norm: before each activation, or
    after it with `norm_last`.   kernel_init, out_init: of the kernels, and of the last one where it
    differs; biases start at 0.
    """

    hidden: Sequence[int]
    out: int
    layer_norm: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Callable = LECUN_UNIFORM
    norm_last: bool = False
    out_init: Callable | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=self.kernel_init)(x)
            if self.layer_norm and not self.norm_last:
                x = nn.LayerNorm()(x)
            x = self.activation(x)
            if self.layer_norm and self.norm_last:
                x = nn.LayerNorm()(x)
        return nn.Dense(self.out, kernel_init=self.out_init or self.kernel_init)(x)


def gelu_mlp(
    hidden: Sequence[int], out: int, layer_norm: bool = False, out_init: Callable | None = None
) -> MLP:
    """Return the layers of OGBench's and FQL's networks: GELU, then LayerNorm if on, Glorot."""
    return MLP(hidden, out, layer_norm, nn.gelu, GLOROT_UNIFORM, norm_last=True, out_init=out_init)
