"""A vision transformer in the style of SigLIP (arXiv 2303.15343): every patch becomes one token of
a decoder; no class token, no pooling.

    x = patches W + b + positions;   x <- x + MHSA(LN(x));   x <- x + MLP(LN(x));   y = LN(x) W_head
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.names import nearest
from rlx.nn.attention import attend


class ViTVariant(NamedTuple):
    """The shape of an encoder and the square images it reads."""

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int  # pixels
    image: int  # pixels, height and width

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return (self.image // self.patch) ** 2


VARIANTS = {
    "so400m": ViTVariant(1152, 27, 4304, 16, 14, 224),
    "tiny": ViTVariant(64, 2, 256, 2, 8, 32),
    "mu": ViTVariant(32, 1, 128, 2, 14, 224),
    "mu32": ViTVariant(32, 1, 128, 2, 8, 32),  # mu on small images
}


def variant(name: str) -> ViTVariant:
    """Return the variant of this name; ValueError with the nearest names if there is none."""
    if name not in VARIANTS:
        near = ", ".join(nearest(name, VARIANTS))
        raise ValueError(f"unknown vit {name!r}; nearest: {near}; all: {', '.join(VARIANTS)}")
    return VARIANTS[name]


class ViTBlock(nn.Module):
    """One layer, in the form that a scan wants."""

    variant: ViTVariant
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        v = self.variant
        head_dim = v.width // v.heads
        init = nn.initializers.xavier_uniform()

        def heads(name: str) -> nn.Module:
            return nn.DenseGeneral((v.heads, head_dim), dtype=self.dtype, name=name)

        y = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        q, k, value = (heads(name)(y) for name in ("query", "key", "value"))
        everything = jnp.ones((x.shape[0], x.shape[1], x.shape[1]), bool)
        y = attend(q * head_dim**-0.5, (k, value), everything)
        x = x + nn.DenseGeneral(v.width, axis=(-2, -1), dtype=self.dtype, name="out")(y)
        y = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(x)
        y = nn.Dense(v.mlp, dtype=self.dtype, kernel_init=init, name="up")(y)
        y = nn.gelu(y, approximate=True)
        return x + nn.Dense(v.width, dtype=self.dtype, kernel_init=init, name="down")(y), None


class ViT(nn.Module):
    """images `[B, image, image, 3]` float in [-1, 1] -> `[B, tokens, out]`, row by row of patches.

    The patches are embedded in float32, the rest computed in `dtype`. The output is NOT multiplied
    by sqrt(width), as embeddings of text are.
    """

    variant: ViTVariant
    out: int  # width of the decoder
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        v = self.variant
        patch = (v.patch, v.patch)
        conv = nn.Conv(v.width, patch, strides=patch, padding="VALID", name="embedding")
        x = conv(images.astype(jnp.float32))
        x = x.reshape(x.shape[0], v.tokens, v.width)
        places = nn.initializers.normal(v.width**-0.5)
        x = x + self.param("positions", places, (v.tokens, v.width)).astype(jnp.float32)
        block = nn.remat(ViTBlock, prevent_cse=False) if self.remat else ViTBlock
        layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=v.depth,
        )
        x, _ = layers(v, self.dtype, name="layers")(x.astype(self.dtype), None)
        x = nn.LayerNorm(dtype=self.dtype, name="final_norm")(x)
        return nn.Dense(self.out, dtype=self.dtype, name="head")(x)
