"""The decoder of `experiments.fast_toy`: four points in, one curve out, as tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.fast_toy_data import POINTS, TRAIN
from rlx.nn.decoding import decode_step, prefill
from rlx.nn.transformer import Decoder
from rlx.ops import masks
from rlx.ops.generate import generate
from rlx.ops.token_loss import token_scores

BATCH = 32


def scores(net: Decoder, params: Any, y: jax.Array, tokens: jax.Array) -> tuple:
    """Negative log-likelihood `[B, L]` of `tokens [B, L]` (-1: none), and where there are any."""
    out, counted = outputs(net, params, y, tokens), tokens >= 0
    head = net.apply(params["net"], method="head")
    return token_scores(out, head, jnp.maximum(tokens, 0), counted).nll, counted


def outputs(net: Decoder, params: Any, y: jax.Array, tokens: jax.Array) -> jax.Array:
    """What predicts each token, `[B, L, D]`, the earlier ones given."""
    before = net.apply(params["net"], jnp.maximum(tokens[:, :-1], 0), method="embed")
    x = jnp.concatenate([y[..., None] * params["points"], before], axis=1)
    seen = jnp.concatenate([jnp.ones_like(y, bool), tokens[:, :-1] >= 0], axis=1)
    later = jnp.arange(x.shape[1]) >= POINTS
    see = masks.prefix_lm(jnp.broadcast_to(later, seen.shape), seen.astype(jnp.int32))
    places = jnp.broadcast_to(jnp.arange(x.shape[1]), seen.shape)
    return net.apply(params["net"], x, places, see)[0][:, POINTS - 1 :]


@partial(jax.jit, static_argnums=(0, 1, 2))
def say(net: Decoder, longest: int, end: int, params: Any, y: jax.Array) -> jax.Array:
    """The likeliest tokens one by one, `[B, longest]`, -1 after the end."""
    x, ones = y[..., None] * params["points"], jnp.ones(y.shape, jnp.int32)
    logits = lambda out: net.apply(params["net"], out, method="logits")  # noqa: E731

    def step(cache: Any, token: jax.Array, s: jax.Array) -> tuple:
        new = net.apply(params["net"], token, method="embed")
        cache, out = decode_step(net, params["net"], cache, new, s)
        return cache, logits(out)

    cache, out = prefill(net, params["net"], x, jnp.zeros_like(ones, bool), ones, longest)
    return generate((cache, logits(out)), step, end=end, max_new=longest).tokens


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def learn(net: Decoder, steps: int, end: int, state: tuple, y: Any, tokens: Any, keys: Any):
    """Take a gradient step per key; returns the state and the losses."""

    def one(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        params, opt = state
        rows = jax.random.randint(key, (BATCH,), 0, TRAIN)

        def loss(params: Any) -> jax.Array:
            nll, counted = scores(net, params, y[rows], tokens[rows])
            return nll.sum() / counted.sum()

        value, grads = jax.value_and_grad(loss)(params)
        step, opt = optimiser(steps).update(grads, opt, params)
        return (optax.apply_updates(params, step), opt), value

    return jax.lax.scan(one, state, keys)


def optimiser(steps: int) -> optax.GradientTransformation:
    """Adam, 1e-3 after a twentieth of the steps, then a cosine to a hundredth of it."""
    lr = optax.warmup_cosine_decay_schedule(0.0, 1e-3, max(1, steps // 20), steps, 1e-5)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr))
