"""Draws and means that do not depend on how many devices share the work.

Rows of a batch belong to logical shards; a device holds one key per shard it owns
(`rlx.types.Keys`).
All maths runs flat on the local rows, only the draws are made shard by shard.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from rlx.types import Keys, PyTree


def rows(draw: Callable[[jax.Array], PyTree], keys: Keys) -> PyTree:
    """Draw `[rows / s, ...]` with each of the `s` shard keys and concatenate to `[rows, ...]`.

    Never draw `normal(key, [B, A])` from one key: under `shard_map` every device would get the same
    noise.
    """
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.vmap(draw)(keys.keys))


def pmean_if(x: PyTree, axis_name: str | None) -> PyTree:
    """Average over the mesh axis `axis_name`; identity when it is None.

    A loss must end in this call *inside* the differentiated function: under `shard_map` the
    gradient with respect to replicated parameters arrives already summed, so a mean taken
    afterwards would be too late.
    """
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def psum_if(x: PyTree, axis_name: str | None) -> PyTree:
    """Add up over the mesh axis `axis_name`; identity when it is None."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)
