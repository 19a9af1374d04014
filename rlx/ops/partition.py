"""Which parameters learn: names are paths joined by '/', and a pattern that is found in a path
freezes the leaf.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from rlx.types import PyTree


def paths(tree: PyTree) -> dict[str, jax.Array]:
    """Return {"a/b/c": leaf} of nested dicts."""
    flat: Any = flatten_dict(tree, sep="/")  # its types know nothing of the separator
    return flat


def tree_of(flat: dict[str, jax.Array]) -> PyTree:
    """Return the nested dicts of {"a/b/c": leaf}."""
    return unflatten_dict(flat, sep="/")


def split(tree: PyTree, freeze: str, learn: str = "") -> tuple[PyTree, PyTree]:
    """Return (what learns, what is frozen), two trees without common paths.

    Frozen is a path in which the pattern `freeze` is found and `learn` is not; an empty pattern is
    found nowhere.
    """
    held, freed = (re.compile(p) if p else None for p in (freeze, learn))

    def frozen(path: str) -> bool:
        return bool(held and held.search(path)) and not (freed and freed.search(path))

    flat = paths(tree)
    parts = [{p: x for p, x in flat.items() if frozen(p) == side} for side in (False, True)]
    return tree_of(parts[0]), tree_of(parts[1])


def merge(learned: PyTree, frozen: PyTree) -> PyTree:
    """Undo `split`."""
    return tree_of(paths(learned) | paths(frozen))


def cast(tree: PyTree, dtype: jnp.dtype) -> PyTree:
    """Return the tree with its leaves in `dtype`."""
    return jax.tree.map(lambda x: x.astype(dtype), tree)
