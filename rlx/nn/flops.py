"""Floating-point operations of the networks' matrix products, a multiply-add counted as two."""

from __future__ import annotations

from rlx.nn.transformer import Variant
from rlx.nn.vit import ViTVariant

TRAINING = 3  # forward, and twice as much for the gradients of inputs and of weights


def decoder(v: Variant, queries: int, keys: int, predicted: int = 0, vocab: int = 0) -> float:
    """One row forward: `queries` tokens that attend over `keys` (masked ones counted: they are
    computed), and the logits over `vocab` of `predicted` of them.
    """
    heads = v.heads * v.head_dim
    projections = v.width * (2 * heads + 2 * v.kv * v.head_dim)
    mlp = (3 if v.gated else 2) * v.width * v.mlp
    layer = queries * (projections + mlp) + 2 * queries * keys * heads
    return 2.0 * (v.depth * layer + predicted * v.width * vocab)


def vit(v: ViTVariant, out: int) -> float:
    """One image forward, to tokens of width `out`."""
    layer = v.tokens * (4 * v.width**2 + 2 * v.width * v.mlp) + 2 * v.tokens**2 * v.width
    ends = v.tokens * v.width * (3 * v.patch**2 + out)
    return 2.0 * (v.depth * layer + ends)
