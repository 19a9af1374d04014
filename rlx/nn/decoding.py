"""A decoder read token by token: the prefix once, then one column of keys and values per step."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from flax import struct

from rlx.nn.attention import KeyValue
from rlx.nn.transformer import Decoder
from rlx.ops import masks
from rlx.types import PyTree


class Cache(struct.PyTreeNode):
    """Keys and values `[depth, B, P + M, K, H]`: P slots of the prefix, M of new tokens."""

    kv: KeyValue
    visible: jax.Array  # [B, P + M] bool, slots of the prefix that hold a token
    position: jax.Array  # [B] int32, of the first new token
    prefix: int = struct.field(pytree_node=False)  # P


def prefill(
    decoder: Decoder,
    params: PyTree,
    x: jax.Array,
    mask_ar: jax.Array,
    segment: jax.Array,
    max_new: int,
) -> tuple[Cache, jax.Array]:
    """Read a prefix, one segment per row, padding on the right (or where a camera is missing).

    Args: x `[B, P, D]` embeddings; mask_ar, segment `[B, P]`; max_new: M, slots for new tokens.
    Returns: the cache, and the output `[B, D]` at each row's last token, which predicts the next.
    """
    chex.assert_equal_shape([mask_ar, segment])
    positions, last = masks.positions(segment), masks.last(segment)
    y, kv = decoder.apply(params, x, positions, masks.prefix_lm(mask_ar, segment))
    room = [(0, 0), (0, 0), (0, max_new), (0, 0), (0, 0)]
    at_last = lambda a: jnp.take_along_axis(a, last[:, None], axis=1)[:, 0]  # noqa: E731
    cache = Cache(
        kv=jax.tree.map(lambda a: jnp.pad(a, room), kv),
        visible=jnp.pad(segment > 0, [(0, 0), (0, max_new)]),
        position=at_last(positions) + 1,
        prefix=x.shape[1],
    )
    return cache, jnp.take_along_axis(y, last[:, None, None], axis=1)[:, 0]


def decode_step(
    decoder: Decoder, params: PyTree, cache: Cache, x: jax.Array, s: jax.Array
) -> tuple[Cache, jax.Array]:
    """Read the s-th new token, at position `plen + s` of its row, into slot `P + s` of the cache.

    Args: x `[B, D]` its embedding; s int32[], from 0.   Returns: the cache, the output `[B, D]`.
    """
    slot = jnp.arange(cache.visible.shape[1])
    new = (slot >= cache.prefix) & (slot < cache.prefix + s)
    itself = jnp.ones((x.shape[0], 1), bool)
    mask = jnp.concatenate([cache.visible | new, itself], axis=1)[:, None]
    position = (cache.position + s)[:, None]
    y, column = decoder.apply(params, x[:, None], position, mask, cache.kv)
    write = lambda a, c: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
        a, c, cache.prefix + s, axis=2
    )
    return cache.replace(kv=jax.tree.map(write, cache.kv, column)), y[:, 0]
