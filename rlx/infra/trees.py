"""Pytrees by key path: comparing them readably, and saving them as flat dicts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rlx.infra.sharding import put
from rlx.types import PyTree


def paths(tree: PyTree) -> list[tuple[str, Any]]:
    """Return [(key path such as "learner.params.actor.bias", leaf)] in the order of the leaves."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def shapes_of(tree: PyTree) -> dict[str, str]:
    """Return {key path: shape and dtype} of every leaf."""
    return {path: f"{tuple(leaf.shape)} {leaf.dtype}" for path, leaf in paths(tree)}


def as_dict(tree: PyTree) -> dict[str, Any]:
    """Return {key path: leaf} without leaves of size zero, which MJX has and orbax refuses."""
    return {path: leaf for path, leaf in paths(tree) if leaf.size}


def from_dict(saved: dict[str, Any], template: PyTree) -> PyTree:
    """Put the leaves of `as_dict` back into the structure of `template`."""

    def leaf(path: str, like: jax.ShapeDtypeStruct) -> jax.Array:
        if like.size:
            return saved[path]
        return put(np.zeros(like.shape, like.dtype), like.sharding)

    leaves = [leaf(path, like) for path, like in paths(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
