"""Gradients of a large batch, slice by slice."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlx.types import PyTree


def accumulated(grad: Callable[..., PyTree], slices: int, *batch: PyTree) -> PyTree:
    """Return the mean over `slices` slices of what `grad(*slice)` returns.

    Slice i has the rows i, i + slices, ...: with rows spread over devices in blocks, each device
    has its share of every slice and no row moves.   ValueError if the rows do not divide.
    """
    rows = len(jax.tree.leaves(batch)[0])
    if rows % slices:
        raise ValueError(f"accumulate = {slices} does not divide the batch of {rows} rows")
    if slices == 1:
        return grad(*batch)

    def cut(x: jax.Array) -> jax.Array:
        return x.reshape(rows // slices, slices, *x.shape[1:]).swapaxes(0, 1)

    def body(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(lambda a, b: a + b / slices, total, grad(*part)), None

    parts = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(lambda: grad(*jax.tree.map(lambda x: x[0], parts)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(body, zeros, parts)[0]
