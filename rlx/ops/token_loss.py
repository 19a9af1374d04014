"""Cross-entropy over large vocabularies: no one-hot target and never all logits at once."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

CHUNK = 64  # positions whose logits are alive at once


class TokenScores(NamedTuple):
    """Per predicted token, `[B, L]`, moved to the front of each row; 0 where not `counted`."""

    nll: jax.Array  # f32, -log p(target)
    log_z: jax.Array  # f32, logsumexp of the logits
    correct: jax.Array  # f32, 1 where the target has the largest logit
    counted: jax.Array  # bool


def token_scores(
    hidden: jax.Array, head: jax.Array, targets: jax.Array, mask: jax.Array, chunk: int = CHUNK
) -> TokenScores:
    """Score `targets` under softmax(hidden head^T), at the positions of `mask` only.

    The masked positions are gathered to the front of each row and read in chunks, whose logits are
    recomputed in the backward pass; chunks after the longest row's last one are skipped.

    Args: hidden `[B, L, D]`; head `[V, D]`; targets `[B, L]` int32 in [0, V) where mask
    `[B, L]` bool holds.
    """
    chex.assert_equal_shape([targets, mask])
    chex.assert_equal_shape_prefix([hidden, targets], 2)
    B, L = targets.shape
    chunk = min(chunk, L)
    count = -(-L // chunk)
    order = jnp.argsort(~mask, axis=1, stable=True)
    head = head.astype(hidden.dtype)

    def chunks(x: jax.Array) -> jax.Array:
        order_x = order.reshape(B, L, *[1] * (x.ndim - 2))
        x = jnp.take_along_axis(x, order_x, axis=1)
        x = jnp.pad(x, [(0, 0), (0, count * chunk - L)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(B, count, chunk, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def score(h: jax.Array, target: jax.Array, counted: jax.Array) -> TokenScores:
        logits = jnp.einsum("bcd,vd->bcv", h, head, preferred_element_type=jnp.float32)
        target = jnp.where(counted, target, 0)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        chosen = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        correct = logits.argmax(-1) == target
        zero = lambda x: jnp.where(counted, x.astype(jnp.float32), 0.0)  # noqa: E731
        return TokenScores(zero(log_z - chosen), zero(log_z), zero(correct), counted)

    def skip(h: jax.Array, target: jax.Array, counted: jax.Array) -> TokenScores:
        nothing = jnp.zeros(target.shape, jnp.float32)
        return TokenScores(nothing, nothing, nothing, counted)

    def body(carry: None, part: tuple) -> tuple[None, TokenScores]:
        return carry, jax.lax.cond(part[2].any(), score, skip, *part)

    _, scores = jax.lax.scan(body, None, (chunks(hidden), chunks(targets), chunks(mask)))
    flat = lambda x: jnp.moveaxis(x, 0, 1).reshape(B, -1)[:, :L]  # noqa: E731
    return jax.tree.map(flat, scores)


def row_mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    """Mean of `x [B, L]` over the counted tokens of each row, `[B]`; 0 for a row without any."""
    return jnp.sum(x * counted, axis=-1) / jnp.maximum(counted.sum(-1), 1)


def tallies(scores: TokenScores, positions: int) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Return what is counted as {name: (sum, over)}, so that slices of a batch add up.

    accuracy: of all predicted tokens; accuracy_1 ...: of the first `positions` of each row, one by
    one; tokens: predicted per row.
    """
    counted = scores.counted.astype(jnp.float32)
    out = {"accuracy": (scores.correct.sum(), counted.sum())}
    for i in range(min(positions, counted.shape[1])):
        out[f"accuracy_{i + 1}"] = (scores.correct[:, i].sum(), counted[:, i].sum())
    return out | {"tokens": (counted.sum(), jnp.float32(len(counted)))}
