"""Attention with shared keys (grouped queries, Ainslie et al. 2023) over two sets of keys: what
was computed before, and the tokens' own.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.lora import Lora, Projection
from rlx.ops.rope import rotate

HIDDEN = -2.38e38  # logit of a key that is not seen; finite, or a row without keys would be NaN

KeyValue = tuple[jax.Array, jax.Array]  # keys and values, each [B, S, K, H]


def attend(
    q: jax.Array, own: KeyValue, mask: jax.Array, memory: KeyValue | None = None
) -> jax.Array:
    """Return softmax(q k^T) v over the keys of `memory` followed by `own`; logits in float32.

    The two sets are joined at their logits, so a cache is read where it lies and never copied. A
    query that sees nothing gets 0.

    Args: q `[B, S, N, H]`, scaled already; own, memory `[B, T, K, H]` and `[B, M, K, H]` with
    N a multiple of K; mask `[B, S, M + T]` bool.   Returns: `[B, S, N, H]`.
    """
    B, S, N, H = q.shape
    sets = [own] if memory is None else [memory, own]
    grouped = q.reshape(B, S, own[0].shape[2], -1, H)
    logits = [
        jnp.einsum("bskgh,btkh->bkgst", grouped, k, preferred_element_type=jnp.float32)
        for k, _ in sets
    ]
    seen = mask[:, None, None]
    logits = jnp.where(seen, jnp.concatenate(logits, axis=-1), HIDDEN)
    weight = jnp.where(seen, jax.nn.softmax(logits, axis=-1), 0.0).astype(q.dtype)
    ends = [sum(k.shape[1] for k, _ in sets[: i + 1]) for i in range(len(sets) - 1)]
    parts = jnp.split(weight, ends, axis=-1)
    out: Any = sum(jnp.einsum("bkgst,btkh->bskgh", w, v) for w, (_, v) in zip(parts, sets))
    return out.reshape(B, S, N, H)


class Attention(nn.Module):
    """One layer's attention: x `[B, S, D]` -> (`[B, S, D]`, its keys and values `[B, S, K, H]`).

    rotary: turn queries and keys by `positions [B, S]`. The keys returned are turned already, so
    they can be the `memory` of later calls.
    """

    heads: int
    kv: int
    head_dim: int
    rotary: bool = True
    lora: Lora | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: jax.Array, mask: jax.Array, memory: KeyValue | None
    ) -> tuple[jax.Array, KeyValue]:
        width = x.shape[-1]
        q_shape = (self.heads, width, self.head_dim)
        q = Projection("q", q_shape, self.lora, self.dtype, name="q")(x)
        kv_shape = (2, self.kv, width, self.head_dim)
        k, v = Projection("kv", kv_shape, self.lora, self.dtype, name="kv")(x)
        if self.rotary:
            q, k = rotate(q, positions), rotate(k, positions)
        mixed = attend(q * self.head_dim**-0.5, (k, v), mask, memory)
        out_shape = (self.heads, self.head_dim, width)
        return Projection("out", out_shape, self.lora, self.dtype, name="out")(mixed), (k, v)
