"""Projections with low-rank updates (LoRA, Hu et al. 2021, arXiv 2106.09685).

    y = x W + scale x A B,   scale = alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732)

B starts at 0 and the scale holds for every projection, so a new LoRA computes exactly what its
base does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.types import PyTree

# Projections of a transformer as einsums of inputs and weights. b batch, s sequence, d width,
# n query heads, k key heads, h head size, f MLP; c stacks projections that share their input, and
# each of those has its own A and B.
PROJECTIONS = {
    "q": "bsd,ndh->bsnh",
    "kv": "bsd,ckdh->cbskh",
    "out": "bsnh,nhd->bsd",
    "gating": "bsd,cdf->cbsf",
    "up": "bsd,df->bsf",
    "linear": "bsf,fd->bsd",
}
STACK, RANK, LAYER = "c", "r", "l"


class Lora(NamedTuple):
    """rank and alpha of the updates; `rank_stabilized` divides by sqrt(rank) instead of rank."""

    rank: int
    alpha: float
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


class Projection(nn.Module):
    """The einsum `PROJECTIONS[kind]` with weights `w` of `shape`, and `lora_a`, `lora_b` if told.

    Parameters are float32 or what was loaded; the computation is in `dtype`.
    """

    kind: str
    shape: tuple[int, ...]
    lora: Lora | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, weights, output = letters(self.kind)
        w = self.param("w", _fan_in(weights, inputs), self.shape)
        x = x.astype(self.dtype)
        y = jnp.einsum(f"{inputs},{weights}->{output}", x, w.astype(self.dtype))
        if self.lora is None:
            return y
        size = dict(zip(weights, self.shape)) | {RANK: self.lora.rank}
        down, up = factors(self.kind)
        a = self.param("lora_a", _fan_in(down, inputs), tuple(size[i] for i in down))
        b = self.param("lora_b", nn.initializers.zeros, tuple(size[i] for i in up))
        narrow = "".join(i for i in inputs if i not in down) + RANK
        narrow = STACK + narrow if STACK in down else narrow
        u = jnp.einsum(f"{inputs},{down}->{narrow}", x, a.astype(self.dtype))
        return y + self.lora.scale * jnp.einsum(f"{narrow},{up}->{output}", u, b.astype(self.dtype))


def letters(kind: str) -> tuple[str, str, str]:
    """Return the letters of inputs, weights and output of a projection."""
    operands, output = PROJECTIONS[kind].split("->")
    inputs, weights = operands.split(",")
    return inputs, weights, output


def factors(kind: str) -> tuple[str, str]:
    """Return the letters of A (stack, contracted, rank) and of B (stack, rank, the others)."""
    inputs, weights, _ = letters(kind)
    stack = "".join(i for i in weights if i == STACK)
    contracted = "".join(i for i in weights if i in inputs)
    others = "".join(i for i in weights if i not in inputs and i != STACK)
    return stack + contracted + RANK, stack + RANK + others


def _fan_in(weights: str, inputs: str) -> nn.initializers.Initializer:
    """Truncated normal of variance 1 / (numbers summed per output)."""
    index = {i: axis for axis, i in enumerate(weights)}
    contracted = [index[i] for i in weights if i in inputs]
    stack = [index[i] for i in weights if i == STACK]
    others = [index[i] for i in weights if i not in inputs and i != STACK]
    return nn.initializers.lecun_normal(contracted, others, stack)


def merge_lora(params: PyTree, lora: Lora) -> PyTree:
    """Return `params` with every low-rank update added to its `w`, and without the updates.

    The result fits the same network built without LoRA. `params`: nested dicts; projections are
    stacked over layers or not.
    """

    def merged(name: str, node: PyTree) -> PyTree:
        if not isinstance(node, dict):
            return node
        if "lora_a" not in node:
            return {key: merged(key, value) for key, value in node.items()}
        down, up = factors(name)
        _, weights, _ = letters(name)
        layer = LAYER if node["w"].ndim > len(weights) else ""
        update = jnp.einsum(
            f"{layer}{down},{layer}{up}->{layer}{weights}",
            node["lora_a"].astype(jnp.float32),
            node["lora_b"].astype(jnp.float32),
        )
        return {"w": (node["w"] + lora.scale * update).astype(node["w"].dtype)}

    return merged("", params)
