"""Monte-Carlo tree search over the reverse chain (Uehara et al. 2025, section 7).

From a state at t a tree of `depth` levels grows by `simulations` walks. At a node of n visits one
  widens    draws one more child of p_t while it has fewer than ceil(sqrt(n + 1)), at most M, or
  selects   the child of largest  q~ + exploration sqrt(n) / (1 + n_child),
            q~ its value scaled to [0, 1] over the tree below the root,
and at the bottom backs up v there: q is the mean or the maximum of what came back, or the soft mean
alpha log mean exp(q_child / alpha). Then the walk of most visits, or with alpha > 0 of chances
~ exp(q / alpha), is taken for `depth` steps, and a new tree grows where it ends.
All walks of all particles are at the same level, so a level is one model call on B N rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlx.guidance.core import cost, finite, given, gumbel, plan, score, soft_mean
from rlx.guidance.types import Calls, Config, GuidedOut, Process, Reward, Value, levels
from rlx.types import PyTree


class Tree(NamedTuple):
    """Nodes by level and by the walk that made them, leaves `[B, N, depth + 1, S, ...]`."""

    x: jax.Array
    prediction: PyTree
    v: jax.Array
    q: jax.Array
    visits: jax.Array
    parent: jax.Array  # node of the level above, -1 = no node here


def mcts(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Grow trees for N particles of each key `[B]`."""
    D, S, steps = config.depth, config.simulations, levels(process)[:: config.depth]
    (start_key,), step_keys = plan(keys, 1, len(steps), 2 * D * S + D)
    x = process.start(start_key, config.particles)
    prediction = process.predict(x, jnp.int32(process.steps)) if value.predicts else None

    def step(state: tuple[jax.Array, PyTree], now: tuple[Any, jax.Array]):
        t, keys = now
        walk_keys, commit_keys = keys[:-D].reshape(S, D, 2, -1), keys[-D:]
        tree = planted(*state, config)

        def walk(state: tuple[Tree, jax.Array], now: tuple[jax.Array, jax.Array]):
            (tree, bad), (s, keys) = state, now
            tree, more = walked(keys, process, value, reward, config, tree, t, s)
            return (tree, bad + more), None

        none_bad = jnp.zeros(keys.shape[1], jnp.int32)
        (tree, bad), _ = jax.lax.scan(walk, (tree, none_bad), (jnp.arange(S), walk_keys))
        x, prediction, v = committed(commit_keys, tree, config)
        counts = tree.visits[:, :, 1]
        size = jnp.sum(counts, -1) ** 2 / jnp.maximum(jnp.sum(counts**2, -1), 1)
        return (x, prediction), (v, jnp.mean(size, axis=1), bad, jnp.all(jnp.isneginf(v), axis=1))

    (x, _), (v, size, bad, dead) = jax.lax.scan(step, (x, prediction), (steps, step_keys))
    return GuidedOut(
        x0=x,
        logw=jnp.zeros_like(v[-1]),
        reward=v[-1],
        ess=jnp.repeat(size, D, axis=0),
        n_bad_reward=jnp.sum(bad, axis=0),
        collapsed=jnp.any(dead, axis=0),
        nfe=calls(process, value, config),
    )


def planted(x: jax.Array, prediction: PyTree, config: Config) -> Tree:
    """A tree of its root alone, at level 0, walk 0."""
    size = (config.depth + 1, config.simulations)
    rows = lambda leaf: jnp.zeros((*leaf.shape[:2], *size, *leaf.shape[2:]), leaf.dtype)  # noqa: E731
    plant = lambda leaf: rows(leaf).at[:, :, 0, 0].set(leaf)  # noqa: E731
    numbers = jnp.zeros((*x.shape[:2], *size), config.alpha.dtype)
    return Tree(
        x=plant(x),
        prediction=jax.tree.map(plant, prediction),
        v=numbers,
        q=numbers,
        visits=jnp.zeros(numbers.shape, jnp.int32),
        parent=jnp.full(numbers.shape, -1, jnp.int32),
    )


def walked(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    tree: Tree,
    t: jax.Array,
    s: jax.Array,
) -> tuple[Tree, jax.Array]:
    """Walk `s` from the root at t to the bottom, and back, with keys `[depth, 2, B]`.

    Returns the tree and how many values were not finite, `[B]`.
    """

    def down(state: tuple[Tree, jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]):
        (tree, node, bad), (d, (draw_key, value_key)) = state, now
        x, prediction, n = taken((tree.x, tree.prediction, tree.visits), d, node)
        prediction = given(process, value, prediction, x, t - d)
        y = process.kernel(x, prediction, t - d).draw(draw_key, 1)[:, :, 0]
        v, at_y = score(value, reward, value_key, y, t - d - 1, config.alpha)
        v, more = finite(v)
        children = tree.parent[:, :, d + 1] == node[:, :, None]
        allowed = jnp.minimum(jnp.ceil(jnp.sqrt(n + 1.0)), config.children)
        widen = jnp.sum(children, axis=2) < allowed
        rank = puct(tree, d + 1, n, config)
        best = jnp.argmax(jnp.where(children, rank, -jnp.inf), axis=2)
        new = Tree(y, at_y, v, v, jnp.zeros_like(n), jnp.where(widen, node, -1))
        tree = jax.tree.map(lambda leaf, made: leaf.at[:, :, d + 1, s].set(made), tree, new)
        return (tree, jnp.where(widen, s, best), bad + more), node

    root = jnp.zeros(tree.q.shape[:2], jnp.int32)
    begin = (tree, root, jnp.zeros(keys.shape[2], jnp.int32))
    (tree, leaf, bad), path = jax.lax.scan(down, begin, (jnp.arange(config.depth), keys))
    path = jnp.concatenate([path, leaf[None]])
    return backed_up(tree, jnp.moveaxis(path, 0, 2), config), bad


def taken(tree: PyTree, level: jax.Array | int, node: jax.Array) -> PyTree:
    """Leaves `[B, N, depth + 1, S, ...]` at a level and nodes `[B, N]`."""
    row = jax.vmap(jax.vmap(lambda nodes, i: nodes[i]))
    return jax.tree.map(lambda leaf: row(leaf[:, :, level], node), tree)


def puct(tree: Tree, level: jax.Array, n: jax.Array, config: Config) -> jax.Array:
    """Selection score `[B, N, S]` of the nodes of a level; their parents have n visits `[B, N]`."""
    real = (tree.parent >= 0) & jnp.isfinite(tree.q)
    low = jnp.min(jnp.where(real, tree.q, jnp.inf), axis=(2, 3))[..., None]
    high = jnp.max(jnp.where(real, tree.q, -jnp.inf), axis=(2, 3))[..., None]
    apart = jnp.where(high > low, high - low, 1.0)
    scaled = jnp.where(real[:, :, level], (tree.q[:, :, level] - low) / apart, 0.0)
    bonus = jnp.sqrt(n * 1.0)[:, :, None] / (1 + tree.visits[:, :, level])
    return scaled + config.exploration * bonus


def backed_up(tree: Tree, path: jax.Array, config: Config) -> Tree:
    """Visits and q after a walk along nodes path `[B, N, depth + 1]`."""
    D, S = config.depth, config.simulations
    hit = path[..., None] == jnp.arange(S)
    value = taken(tree.v, D, path[:, :, D])[:, :, None, None]
    visits = tree.visits + hit
    if config.backup == "mean":
        first = (visits == 1) | jnp.isneginf(tree.q)
        mean = jnp.where(first, value, tree.q + (value - tree.q) / jnp.maximum(visits, 1))
        q = jnp.where(hit & jnp.isfinite(value), mean, tree.q)
    elif config.backup == "max":
        first = (visits == 1) & hit
        q = jnp.where(hit, jnp.maximum(jnp.where(first, -jnp.inf, tree.q), value), tree.q)
    else:
        q = tree.q
        for d in range(D - 1, -1, -1):
            children = tree.parent[:, :, d + 1] == path[:, :, d, None]
            among = soft_mean(jnp.where(children, q[:, :, d + 1], -jnp.inf), config.alpha)
            missing = jnp.log(S / jnp.maximum(jnp.sum(children, axis=2), 1))
            soft = among + config.alpha[:, None] * missing
            q = q.at[:, :, d].set(jnp.where(hit[:, :, d], soft[:, :, None], q[:, :, d]))
    return tree._replace(q=q, visits=visits)


def committed(keys: jax.Array, tree: Tree, config: Config) -> tuple[jax.Array, PyTree, jax.Array]:
    """The state at the bottom, its prediction and value, by most visits or by exp(q / alpha)."""
    node = jnp.zeros(tree.q.shape[:2], jnp.int32)
    alpha = config.alpha[:, None, None]
    for d in range(config.depth):
        children = tree.parent[:, :, d + 1] == node[:, :, None]
        q, visits = tree.q[:, :, d + 1], tree.visits[:, :, d + 1]
        top = jnp.max(jnp.where(children, q, -jnp.inf), axis=2, keepdims=True)
        apart = jnp.where(jnp.isneginf(top), 0.0, q - top)
        noise = alpha * gumbel(keys[d], q.shape[1:])
        by_visits = visits + 0.5 * jnp.exp(apart)  # of as many visits the best
        rank = jnp.where(alpha > 0, apart + noise, by_visits)
        node = jnp.argmax(jnp.where(children, rank, -jnp.inf), axis=2)
    return taken((tree.x, tree.prediction, tree.v), config.depth, node)


def calls(process: Process, value: Value, config: Config) -> Calls:
    """Of one particle: every level of every walk scores one row."""
    T = process.steps
    walks = cost(value, range(T), config.simulations)
    parents = 1 if value.predicts else T * config.simulations
    return walks + Calls(model=parents)
