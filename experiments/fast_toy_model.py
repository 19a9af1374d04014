"""The decoder of `experiments.fast_toy`: four points in, one curve out, as tokens."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlx.infra.random import key_for
from rlx.nn.decoding import decode_step, prefill
from rlx.nn.transformer import Decoder, Variant
from rlx.ops import masks
from rlx.ops.generate import generate
from rlx.ops.token_loss import token_scores
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.fast import FastTokenizer

TRAIN, TEST, POINTS, BATCH, PER_CALL = 20_000, 512, 4, 32, 50
ALL = 1024  # `extra` from here on is the whole vocabulary


class Run(NamedTuple):
    """One training: `extra` tokens beyond FAST's alphabet, or in all; of naive the bins."""

    variant: str
    T: int
    extra: int
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """What tells runs apart in the table."""
        return "_".join(map(str, self))


@cache
def curves(T: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[N, 4]` in [-1, 1] and the cubics through them at T times `[N, T]`, in [-1, 1]."""
    y = np.random.default_rng(seed).uniform(-1, 1, (TRAIN + TEST, POINTS))
    fit = np.linalg.inv(np.vander(np.linspace(0, 1, POINTS)))
    x = y @ fit.T @ np.vander(np.linspace(0, 1, T), POINTS).T
    return y.astype(np.float32), np.clip(x / 1.5, -1, 1).astype(np.float32)


@cache
def tokenizer(variant: str, T: int, extra: int, seed: int) -> Any:
    """Fitted on the training curves, which are normalised already."""
    x = curves(T, seed)[1][:TRAIN, :, None]
    if variant == "naive":
        return BinningTokenizer.fit(x, n_bins=extra, norm_mode=None)
    alone = FastTokenizer.fit(x, vocab_size=None, norm_mode=None)
    size = extra if extra >= ALL else alone.vocab_size + extra
    return FastTokenizer.fit(x, vocab_size=size, norm_mode=None)


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


def train(run: Run) -> dict[str, Any]:
    """Train one run; a row of the table."""
    start, cpu = time.perf_counter(), time.process_time()
    y, x = curves(run.T, run.seed)
    kind = tokenizer(run.variant, run.T, run.extra, run.seed)
    ids = kind.encode(x[..., None], normalized=True)
    ends, V = run.variant == "fast", kind.vocab_size
    longest = max(map(len, ids)) + ends
    tokens = np.full((len(ids), longest), -1, np.int32)
    for row, own in zip(tokens, ids, strict=True):
        row[: len(own) + ends] = [*own, V][: len(own) + ends]
    shape = Variant(64, 2, 256, 2, 2, 32, False, POINTS + longest, False)
    net, end = Decoder(shape, V + ends), V  # naive has no end token: `end` is never chosen
    keys = jax.random.split(key_for(run.seed, 0, "sample"), run.steps)
    state = begin(net, run)
    losses = []
    for first in range(0, run.steps, PER_CALL):
        part = keys[first : first + PER_CALL]
        state, loss = learn(net, run.steps, end, state, y[:TRAIN], tokens[:TRAIN], part)
        losses.append(loss)
    found = judge(net, run, state[0], kind, y[TRAIN:], x[TRAIN:], tokens[TRAIN:])
    return {
        "run": run.name,
        **run._asdict(),
        "vocabulary": V,
        "tokens": float(np.mean([len(own) for own in ids])),
        **found,
        "train_nll": float(losses[-1].mean()),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }


def begin(net: Decoder, run: Run) -> tuple:
    """Parameters and optimiser before the first step."""
    net_key, point_key = jax.random.split(key_for(run.seed, 0, "init"))
    one = jnp.ones((1, 1), jnp.int32)
    D = net.variant.width
    args = jnp.zeros((1, 1, D)), one, jnp.ones((1, 1, 1), bool)
    params = {"net": net.init(net_key, *args), "points": jax.random.normal(point_key, (POINTS, D))}
    return params, optimiser(run.steps).init(params)


def judge(net: Decoder, run: Run, params: Any, kind: Any, y: Any, x: Any, tokens: Any) -> dict:
    """Errors of what the model says on held-out curves, beside what costs nothing."""
    said = np.asarray(say(net, tokens.shape[1], kind.vocab_size, params, y))
    shape = {"horizon": run.T, "action_dim": 1, "normalized": True}
    mse = lambda ids: float(np.mean((kind.decode(ids, **shape)[0][..., 0] - x) ** 2))  # noqa: E731
    truth = np.where(tokens == kind.vocab_size, -1, tokens)
    found = {
        "mse": mse(said),
        "reconstruction_mse": mse(truth),
        "copy_mse": float(np.mean((x[:, :1] - x) ** 2)),
        "variance": float(x.var()),
        "next_step_mse": None,
    }
    if run.variant == "naive":
        out = jax.jit(partial(outputs, net))(params, y, tokens)
        likeliest = net.apply(params["net"], out, method="logits").argmax(-1)
        found["next_step_mse"] = mse(np.asarray(likeliest))
    return found
