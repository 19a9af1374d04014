"""From a library's environment class to our `Env`: what playground and brax have in common.

Both keep one `State(obs, reward, done, metrics, info, ...)`. Two things stand between it and a loop
on device: their `step` writes into the dicts of the state that it was given, and its leaves may
come back with another type than `reset` gave them (Python scalars, weak types, literals that do
not vary over a mesh).
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rlx.types import Env, EnvSpec, EnvState, PyTree, Spec


def adapt(simulator: Any, *, name: str, action_size: int, dt: float, episode_length: int) -> Env:
    """Wrap a library environment with methods `reset(key)` and `step(state, action)`.

    Args:
      simulator: the library's environment, without any of its wrappers; actions are in [-1, 1].
      dt: seconds per physics frame.   episode_length: physics frames until truncation.

    The library's `done` becomes `terminated`. The library's own key stays inside `inner`.
    """

    def reset(key: jax.Array) -> EnvState:
        return to_state(jax.tree.map(strong, simulator.reset(key)))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        chex.assert_shape(action, (action_size,))
        copy = jax.tree.map(
            lambda leaf: leaf, state.inner
        )  # new dicts: the library writes into them
        return to_state(like(simulator.step(copy, action), state.inner, name))

    obs = jax.eval_shape(reset, jax.eval_shape(lambda: jax.random.key(0))).obs
    spec = EnvSpec(
        obs=jax.tree.map(lambda leaf: Spec(tuple(leaf.shape), np.dtype(leaf.dtype)), obs),
        action=Spec((action_size,), np.dtype(np.float32), -1.0, 1.0),
    )
    return Env(name, spec, dt, episode_length, reset, step)


def to_state(inner: Any) -> EnvState:
    return EnvState(
        inner=inner,
        obs=inner.obs,
        reward=inner.reward.astype(jnp.float32),
        terminated=inner.done.astype(bool),
    )


def strong(leaf: Any) -> jax.Array:
    """`leaf` as an array of its own dtype, never of a weak type."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):  # a typed key
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def like(new: PyTree, old: PyTree, name: str) -> PyTree:
    """`new` with the leaf types of `old`, or an error that names the first leaf that cannot be."""
    if jax.tree.structure(new) != jax.tree.structure(old):
        paths = [{key for key, _ in keyed(tree)} for tree in (new, old)]
        changed = sorted(paths[0] ^ paths[1]) or ["the structure of its dataclasses"]
        raise TypeError(f"{name}: step and reset disagree about {', '.join(changed)}")
    leaves = [cast(a, b, f"{name}{key}") for (key, a), (_, b) in zip(keyed(new), keyed(old))]
    return jax.tree.unflatten(jax.tree.structure(old), leaves)


def keyed(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of `tree` with their readable paths."""
    return [
        (jax.tree_util.keystr(p), leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def cast(new: Any, old: jax.Array, path: str) -> jax.Array:
    """`new` with the dtype and mesh axes of `old`; float to int is refused, as is another shape."""
    new, old = jnp.asarray(new), jnp.asarray(old)
    if new.shape != old.shape:
        raise TypeError(f"{path}: {old.shape} after reset, {new.shape} after step")
    if jnp.issubdtype(old.dtype, jax.dtypes.extended):
        return new
    if not np.can_cast(new.dtype, old.dtype, "same_kind"):
        raise TypeError(f"{path}: {old.dtype} after reset, {new.dtype} after step")
    new = jax.lax.convert_element_type(new, old.dtype)
    axes = getattr(jax.typeof(new), "vma", None)
    if axes is not None and axes == jax.typeof(old).vma:
        return new
    # Under shard_map a literal does not vary over the mesh but the loop's state does, and the loop
    # refuses that. A select by a constant gives `new` the axes of `old`; XLA removes it.
    return jnp.where((old != old) & False, old, new)
