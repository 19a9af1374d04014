"""IMPALA encoders of images (Espeholt et al. 2018), in the sizes that OGBench and FQL use."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.names import nearest
from rlx.types import Spec

SIZES = {  # channels of the stacks, residual blocks per stack, width of the last layer
    "impala_small": ((16, 32, 32), 1, 512),
    "impala": ((16, 32, 32), 2, 512),
    "impala_large": ((64, 128, 128), 2, 1024),
    "impala_debug": ((4, 4), 1, 512),
}


class Impala(nn.Module):
    """uint8 images `[B, H, W, C]` -> features `[B, width]`.

    Each stack: 3x3 convolution, 3x3 max-pool of stride 2, then `blocks` of
    x + conv(relu(conv(relu(x)))); at the end ReLU, flatten, Dense, GELU.
    """

    channels: Sequence[int]
    blocks: int
    width: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        def conv(x: jax.Array, channels: int) -> jax.Array:
            init = nn.initializers.xavier_uniform()
            return nn.Conv(channels, (3, 3), padding="SAME", kernel_init=init)(x)

        x = image.astype(jnp.float32) / 255.0
        for channels in self.channels:
            x = nn.max_pool(conv(x, channels), (3, 3), strides=(2, 2), padding="SAME")
            for _ in range(self.blocks):
                x = x + conv(nn.relu(conv(nn.relu(x), channels)), channels)
        x = nn.relu(x).reshape(x.shape[0], -1)
        return nn.gelu(nn.Dense(self.width, kernel_init=nn.initializers.xavier_uniform())(x))


def make(name: str) -> Impala | None:
    """Return a new encoder, None for the name ""; ValueError with the nearest names if unknown."""
    if not name:
        return None
    if name not in SIZES:
        near = ", ".join(nearest(name, SIZES))
        raise ValueError(
            f"unknown learner.encoder {name!r}; nearest: {near}; all: {', '.join(SIZES)}"
        )
    return Impala(*SIZES[name])


def width(name: str, obs: Spec) -> int:
    """Length of what the encoder makes of `obs`, or of `obs` itself without one."""
    encoder = make(name)
    return obs.shape[0] if encoder is None else encoder.width
