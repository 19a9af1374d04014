"""Networks by name, for learners that leave the choice to their config."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn

from rlx.names import nearest
from rlx.nn import simba
from rlx.nn.bronet import BroNet
from rlx.nn.mlp import MLP
from rlx.types import PyTree

RESIDUAL = {"bronet": BroNet, "simba": simba.SimBa, "simba_v2": simba.SimbaV2}
NAMES = ("mlp", *RESIDUAL)


def make(name: str, hidden: Sequence[int], out: int, layer_norm: bool = False) -> nn.Module:
    """Return the network `name`: `[..., I] -> [..., out]`.

    hidden: the widths of an `mlp`; residual networks have one block per entry, of equal widths.
    Raises ValueError for an unknown name, unequal widths, or LayerNorm asked of another than `mlp`.
    """
    if name == "mlp":
        return MLP(hidden, out, layer_norm)
    if name not in RESIDUAL:
        near = ", ".join(nearest(name, NAMES))
        raise ValueError(f"unknown network {name!r}; nearest: {near}; all: {', '.join(NAMES)}")
    if len(set(hidden)) != 1:
        raise ValueError(
            f"network {name!r} takes one width per residual block, all the same, such as "
            f"(256, 256) for two blocks; got {tuple(hidden)}"
        )
    if layer_norm:
        raise ValueError(f"layer_norm is an option of network 'mlp'; {name!r} brings its own")
    return RESIDUAL[name](hidden[0], len(hidden), out)


def projection(name: str) -> Callable[[PyTree], PyTree]:
    """Return what network `name` does to its parameters after each gradient step."""
    return simba.project if name == "simba_v2" else lambda params: params
