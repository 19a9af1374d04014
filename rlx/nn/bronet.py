"""BroNet, the residual network of BRO (Nauman et al. 2024, arXiv 2405.16158, section 3)."""

from __future__ import annotations

import flax.linen as nn
import jax

from rlx.nn.init import orthogonal

ORTHOGONAL = orthogonal(2**0.5)  # everywhere, the output layer too


class BroNet(nn.Module):
    """relu(LN(Dense(x))), then `blocks` times x + LN(Dense(relu(LN(Dense(x))))), then Dense.

    `[..., I] -> [..., out]`; no activation after a residual sum.
    out_init, out_bias: of the last layer (the optimistic shift of BRO starts near 0, without bias).
    """

    width: int
    blocks: int
    out: int
    out_init: nn.initializers.Initializer = ORTHOGONAL
    out_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def dense_norm(x: jax.Array) -> jax.Array:
            return nn.LayerNorm()(nn.Dense(self.width, kernel_init=ORTHOGONAL)(x))

        x = nn.relu(dense_norm(x))
        for _ in range(self.blocks):
            x = x + dense_norm(nn.relu(dense_norm(x)))
        return nn.Dense(self.out, kernel_init=self.out_init, use_bias=self.out_bias)(x)
