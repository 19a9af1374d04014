"""The generator of DNA: exact conditionals of a Markov chain, or a transformer trained on it."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.guidance_dna import ROWS, START
from rlx import agents
from rlx.guidance.types import Fn
from rlx.infra.random import key_for, shard_keys
from rlx.nn import chains
from rlx.nn.timed import MaskedTransformer
from rlx.types import EnvSpec, PyTree, Spec, Transition


def exact(x: jax.Array, t: jax.Array) -> jax.Array:
    """log p(x_i | what is revealed elsewhere) `[..., L, 4]` up to a constant, x `[..., L]` with
    4 = masked, by messages from both sides.
    """
    del t
    rows, start = jnp.float32(ROWS), jnp.float32(START)
    fits = jnp.where((x == 4)[..., None], 1.0, jax.nn.one_hot(x, 4))
    by_place = jnp.moveaxis(fits, -2, 0)

    def passed(message: jax.Array, fit: jax.Array, along: jax.Array) -> tuple:
        seen = message * fit
        return (seen / seen.sum(-1, keepdims=True)) @ along, message

    first = jnp.broadcast_to(start, fits[..., 0, :].shape)
    _, left = jax.lax.scan(lambda m, f: passed(m, f, rows), first, by_place)
    last = jnp.ones_like(first)
    _, right = jax.lax.scan(lambda m, f: passed(m, f, rows.T), last, by_place, reverse=True)
    return jnp.moveaxis(jnp.log(left * right), 0, -2)


def log_likelihood(x: np.ndarray) -> np.ndarray:
    """log p of the chain per base, x `[..., L]`."""
    rows, start = np.log(ROWS), np.log(START)
    return (start[x[..., 0]] + rows[x[..., :-1], x[..., 1:]].sum(-1)) / x.shape[-1]


def draw(key: jax.Array, n: int, length: int) -> jax.Array:
    """Sequences of the chain, `[n, length]`."""
    first, rest = jax.random.split(key)
    begin = jax.random.categorical(first, jnp.log(jnp.float32(START)), shape=(n,))

    def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jax.random.categorical(key, jnp.log(jnp.float32(ROWS))[x])
        return y, y

    _, after = jax.lax.scan(step, begin, jax.random.split(rest, length - 1))
    return jnp.concatenate([begin[None], after]).T


def trained(config: ConfigDict, length: int, seed: int) -> Fn:
    """A masked transformer trained on the chain's sequences; logits `[B, K, L, 4]` of x, t."""
    net = MaskedTransformer(config.width, config.depth, config.heads, 4, jnp.dtype(config.dtype))
    nothing = lambda n: jnp.zeros((n, 0))  # noqa: E731
    blank = jnp.zeros((1, length, 5)), jnp.ones(1, jnp.int32)
    params = net.init(key_for(seed, 0, "init"), nothing(1), *blank)
    chain = chains.masked(lambda p, obs, x, t: net.apply(p, obs, x, t), 4, length)
    spec = EnvSpec(Spec((0,)), Spec((length,), np.int32, 0, 4))
    learner = agents.make(config.learner, spec, chain=chain, params=params)
    size = config.learner.batch_size

    def update(state: PyTree, i: jax.Array) -> tuple[PyTree, jax.Array]:
        x = draw(key_for(seed, i, "sample"), size, length)
        unread: Any = None
        batch = Transition(nothing(size), x, jnp.zeros(size), unread, unread, unread)
        keys = shard_keys(key_for(seed, i, "update"), 1)
        state, metrics = learner.update(state, batch, keys)
        return state, metrics["rwr_loss"]

    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    state = learner.init(key_for(seed, 0, "init"), hp)
    state, loss = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(config.steps)))(state)
    tail = float(loss[-max(1, config.steps // 10) :].mean()) / length
    print(f"trained for {config.steps:,} steps: {tail:.3f} nats per base", file=sys.stderr)
    model = state.params["model"]

    def network(model: PyTree, x: jax.Array, t: jax.Array) -> jax.Array:
        rows = jax.nn.one_hot(x.reshape(-1, length), 5)
        logits = net.apply(model, nothing(len(rows)), rows, jnp.full(len(rows), t))
        return logits.reshape(*x.shape, 4)

    return jax.tree_util.Partial(network, model)
