"""A decoder in the style of Gemma (arXiv 2403.08295), scanned over its layers.

    x <- x + attention(norm(x));   x <- x + W_d (gelu(norm(x) W_g) * norm(x) W_u);   y = norm(x)

Norms are RMS with weight 1 + scale. With `adaptive` norms (adaRMS of pi0.5) a condition gives each
its scale, shift and gate,  y = norm(x) (1 + scale) + shift,  x <- x + gate f(y),  all 0 at first:
such a network starts as the identity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.names import nearest
from rlx.nn.attention import Attention, KeyValue
from rlx.nn.lora import Lora, Projection


class Variant(NamedTuple):
    """The shape of a decoder; all but the first six are for small experiments."""

    width: int
    depth: int
    mlp: int
    heads: int
    kv: int  # heads of keys and values; 1 = shared by all queries
    head_dim: int
    gated: bool = True  # GeGLU, or a plain GELU MLP
    max_positions: int = 0  # of learned positions; 0 = rotary
    tied: bool = True  # the output head is the table of embeddings


VARIANTS = {
    "gemma_2b": Variant(2048, 18, 16384, 8, 1, 256),
    "gemma_300m": Variant(1024, 18, 4096, 8, 1, 256),  # pi0's action expert
    "small": Variant(512, 8, 2048, 8, 1, 64),
    "tiny": Variant(128, 4, 512, 4, 1, 32),
    "tiny_expert": Variant(64, 4, 256, 4, 1, 32),  # fits beside tiny
    "small_expert": Variant(256, 8, 1024, 8, 1, 64),  # beside small
    "micro": Variant(64, 2, 256, 4, 1, 16),  # minutes on a CPU
    "micro_expert": Variant(32, 2, 128, 4, 1, 16),  # beside micro
    "dummy": Variant(64, 4, 128, 8, 1, 16),
}


def variant(name: str) -> Variant:
    """Return the variant of this name; ValueError with the nearest names if there is none."""
    if name not in VARIANTS:
        near = ", ".join(nearest(name, VARIANTS))
        raise ValueError(f"unknown decoder {name!r}; nearest: {near}; all: {', '.join(VARIANTS)}")
    return VARIANTS[name]


class RMSNorm(nn.Module):
    """x / rms(x), scaled; statistics in float32.  Returns (y, gate), gate None if not adaptive.

    With a condition `cond [B, C]` scale, shift and gate are linear in it, starting at 0.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, cond: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        wide = x.astype(jnp.float32)
        y = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + 1e-6)
        if cond is None:
            scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
            return (y * (1.0 + scale.astype(jnp.float32))).astype(x.dtype), None
        zero = nn.initializers.zeros
        dense = nn.Dense(3 * x.shape[-1], kernel_init=zero, name="modulation")
        scale, shift, gate = jnp.split(dense(cond.astype(jnp.float32))[:, None], 3, axis=-1)
        return (y * (1.0 + scale) + shift).astype(x.dtype), gate.astype(x.dtype)


class MLP(nn.Module):
    """GeGLU, or GELU if not `gated`: x `[B, S, D]` -> `[B, S, D]`."""

    hidden: int
    gated: bool = True
    lora: Lora | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        if self.gated:
            shape = (2, width, self.hidden)
            gate, up = Projection("gating", shape, self.lora, self.dtype, name="gating")(x)
            hidden = nn.gelu(gate, approximate=True) * up
        else:
            shape = (width, self.hidden)
            up = Projection("up", shape, self.lora, self.dtype, name="up")(x)
            hidden = nn.gelu(up, approximate=True)
        shape = (self.hidden, width)
        return Projection("linear", shape, self.lora, self.dtype, name="linear")(hidden)


class Block(nn.Module):
    """One layer, in the form that a scan wants; returns x and the layer's keys and values."""

    variant: Variant
    lora: Lora | None
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: KeyValue | None,
        positions: jax.Array,
        mask: jax.Array,
        cond: jax.Array | None,
    ) -> tuple[jax.Array, KeyValue]:
        v = self.variant
        rotary = v.max_positions == 0
        attention = Attention(
            v.heads, v.kv, v.head_dim, rotary, self.lora, self.dtype, name="attention"
        )
        y, gate = RMSNorm(name="attention_norm")(x, cond)
        y, kv = attention(y, positions, mask, memory)
        x = x + gated(y, gate)
        y, gate = RMSNorm(name="mlp_norm")(x, cond)
        y = MLP(v.mlp, v.gated, self.lora, self.dtype, name="mlp")(y)
        return x + gated(y, gate), kv


def gated(y: jax.Array, gate: jax.Array | None) -> jax.Array:
    return y if gate is None else gate * y


class Decoder(nn.Module):
    """`depth` layers over embeddings; with `vocab` > 0 also a table of tokens and an output head.

    dtype: of the computation; parameters are created in float32, norms computed in it.
    remat: keep only each layer's input for the backward pass.
    """

    variant: Variant
    vocab: int = 0
    lora: Lora | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        v = self.variant
        table = nn.initializers.normal(v.width**-0.5)
        if self.vocab:
            self.table = self.param("embedding", table, (self.vocab, v.width))
            if not v.tied:
                self.untied = self.param("head", table, (self.vocab, v.width))
        if v.max_positions:
            self.places = self.param("positions", table, (v.max_positions, v.width))
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=v.depth,
        )(v, self.lora, self.dtype)
        self.final_norm = RMSNorm()

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Tokens `[...]` int32 -> `[..., D]`, of about unit size: the table times sqrt(width)."""
        return (self.table[tokens] * self.variant.width**0.5).astype(self.dtype)

    def head(self) -> jax.Array:
        """The output head `[V, D]`: logits are `y @ head.T`."""
        return self.table if self.variant.tied else self.untied

    def logits(self, y: jax.Array) -> jax.Array:
        """y `[..., D]` -> float32 `[..., V]`."""
        head = self.head().astype(self.dtype)
        return jnp.einsum("...d,vd->...v", y, head, preferred_element_type=jnp.float32)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        mask: jax.Array,
        memory: KeyValue | None = None,
        cond: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        """Run the layers on embeddings.

        Args: x `[B, S, D]`; positions `[B, S]` int32; mask `[B, S, M + S]` bool, who sees whom:
        keys of `memory`, then own ones; memory: keys and values `[depth, B, M, K, H]` of earlier
        tokens; cond `[B, C]` makes all norms adaptive.
        Returns: y `[B, S, D]` after the final norm; keys and values `[depth, B, S, K, H]`.
        """
        x = x.astype(self.dtype)
        if self.variant.max_positions:
            x = x + (self.places[positions] * self.variant.width**0.5).astype(self.dtype)
        x, kv = self.layers(x, memory, positions, mask, cond)
        return self.final_norm(x, cond)[0], kv
