"""Trains the FSQ tokenizer on normalised chunks, small enough for a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rlx.agents import fsq
from rlx.nn.fsq import CODEBOOKS
from rlx.tokenizers.fsq import FsqTokenizer
from rlx.types import EnvSpec, Keys, Spec, Transition

SMALL = {"width": 64, "layers": 1, "heads": 2, "batch_size": 64, "lr": 2e-3}


def train(chunks: np.ndarray, tokens: int, steps: int, seed: int) -> FsqTokenizer:
    """Return the tokenizer after `steps` gradient steps of `rlx.agents.fsq` on `[B, T, A]`."""
    config = fsq.get_config()
    config.update(SMALL | {"tokens": tokens})
    chunk = Spec(chunks.shape[1:])
    learner = fsq.make(config, EnvSpec(chunk, chunk))
    data = jnp.asarray(chunks)

    @jax.jit
    def run(key: jax.Array) -> dict:
        hp = {name: jnp.float32(value) for name, value in learner.hp.items()}

        def step(state, key):
            picked = jax.random.randint(key, (config.batch_size,), 0, len(data))
            batch = data[picked]
            keys = Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)
            none = jnp.zeros(config.batch_size)
            rows = Transition(batch, batch, none, batch, none > 0, none > 0)
            state, metrics = learner.update(state, rows, keys)
            return state, metrics["loss"]

        begin, rest = jax.random.split(key)
        return jax.lax.scan(step, learner.init(begin, hp), jax.random.split(rest, steps))[0].params

    params = jax.tree.map(np.asarray, run(jax.random.key(seed)))["fsq"]["params"]
    return FsqTokenizer(params, CODEBOOKS[config.codebook], config.heads)
