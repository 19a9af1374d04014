"""One training of `experiments.fast_toy`, and how well it says curves that it has not seen."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.fast_toy_data import POINTS, TRAIN, Run, curves, tokenizer
from experiments.fast_toy_model import learn, optimiser, outputs, say
from rlx.infra.random import key_for
from rlx.nn.transformer import Decoder, Variant

PER_CALL = 50  # gradient steps


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
