"""Sampling token by token: rows end on their own, and the loop ends with the longest row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlx.ops.shards import rows
from rlx.types import Keys, PyTree

PAD = -1  # in the tokens returned, after a row's end

Pick = Callable[[jax.Array, jax.Array], jax.Array]  # logits [B, V], step s -> tokens [B]
Step = Callable[[PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]]


class Rule(NamedTuple):
    """What may follow, as a small machine over the tokens of each row.

    start: its state, a pytree of `[B, ...]`
    allowed(state) -> bool `[B, V]`, which holds for at least one token of a row that goes on
    advance(state, tokens [B]) -> state; PAD in the rows that have ended
    """

    start: PyTree
    allowed: Callable[[PyTree], jax.Array]
    advance: Callable[[PyTree, jax.Array], PyTree]


class Generated(NamedTuple):
    tokens: jax.Array  # [B, max_new] int32 without the end marker, PAD after the row's end
    ended: jax.Array  # [B] bool, by the end marker or because nothing else was allowed
    steps: jax.Array  # int32[], tokens of the longest row, its end marker counted


def generate(
    first: tuple[PyTree, jax.Array],
    step: Step,
    *,
    end: int,
    max_new: int,
    pick: Pick | None = None,
    rule: Rule | None = None,
) -> Generated:
    """Choose up to `max_new` tokens for every row.

    A row that has chosen `end` stays ended; so does one to which the rule leaves nothing but `end`,
    without spending a step on it. The model runs `steps - 1` times.

    Args: first: the cache and the logits `[B, V]` after the prefix; step(cache, tokens [B], s) ->
    (cache, logits `[B, V]`) reads the s-th new token, s = 0, 1, ... (rows that have ended bring
    `end`); pick chooses from the logits, those not allowed at -inf (default: the largest).
    """
    pick = greedy if pick is None else pick
    cache, logits = first
    B, V = logits.shape

    def spent(state: PyTree) -> jax.Array:
        if rule is None:
            return jnp.zeros((B,), bool)
        return ~(rule.allowed(state) & (jnp.arange(V) != end)).any(-1)

    def choose(s: jax.Array, logits: jax.Array, state: PyTree, done: jax.Array):
        if rule is not None:
            logits = jnp.where(rule.allowed(state), logits, -jnp.inf)
        token = pick(logits, s).astype(jnp.int32)
        done = done | (token == end)
        kept = jnp.where(done, PAD, token)
        if rule is not None:
            state = rule.advance(state, kept)
        return kept, state, done | spent(state)

    def body(carry: tuple) -> tuple:
        s, cache, state, done, tokens = carry
        newest = tokens[:, s - 1]
        cache, logits = step(cache, jnp.where(newest == PAD, end, newest), s - 1)
        kept, state, done = choose(s, logits, state, done)
        return s + 1, cache, state, done, tokens.at[:, s].set(kept)

    def goes_on(carry: tuple) -> jax.Array:
        return ~carry[3].all() & (carry[0] < max_new)

    state = None if rule is None else rule.start
    done = spent(state)
    tokens = jnp.full((B, max_new), PAD, jnp.int32)
    kept, state, done = choose(jnp.int32(0), logits, state, done)
    carry = (jnp.int32(1), cache, state, done, tokens.at[:, 0].set(kept))
    steps, _, _, done, tokens = jax.lax.while_loop(goes_on, body, carry)
    return Generated(tokens, done, steps)


def greedy(logits: jax.Array, s: jax.Array) -> jax.Array:
    """Return the token of the largest logit, `[B]`."""
    del s
    return logits.argmax(-1)


def sampler(keys: Keys, temperature: jax.Array | float) -> Pick:
    """Return a `pick` that draws from softmax(logits / temperature), temperature > 0.

    Row b at step s has its own noise, drawn from the key of its logical shard.
    """

    def pick(logits: jax.Array, s: jax.Array) -> jax.Array:
        B, V = logits.shape
        shape = (B // keys.keys.shape[0], V)
        noise = rows(lambda key: jax.random.gumbel(jax.random.fold_in(key, s), shape), keys)
        return (logits / temperature + noise).argmax(-1)

    return pick
