"""A small vision-language-action learner, its tokenizer and batches, for several tests."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlx.agents import vla
from rlx.ops.action_tokens import Slots
from rlx.tokenizers import FastTokenizer
from rlx.types import EnvSpec, Keys, Spec, TokenBatch

T, A, S, B, L = 5, 2, 3, 8, 24
VOCAB, TEXT = 200, 12  # text tokens are 3 ... 11

# Most of a test's time is compilation, and half of that LLVM's optimisations.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def tokenizer():
    chunks = np.cumsum(np.random.default_rng(0).normal(size=(300, T, A)), axis=1)
    return FastTokenizer.fit(chunks, vocab_size=96, scale=4.0)


@functools.cache
def slots():
    return Slots(first=TEXT, step=1, count=tokenizer().vocab_size, end=1, eos=2, pad=0)


def spec(cameras=()):
    obs = {"state": Spec((S,))} | {name: Spec((32, 32, 3), np.uint8) for name in cameras}
    return EnvSpec(obs, Spec((T, A)))


def config(**changes):
    small = dict(
        decoder="micro",
        expert_decoder="micro_expert",
        vit="mu32",
        vocab_size=VOCAB,
        warmup_steps=0,
        max_grad_norm=1e9,
    )
    settings = vla.get_config()
    settings.update({**small, **changes})
    return settings


def make(cameras=(), **changes):
    codec = tokenizer().codec(T, A)
    return vla.make(config(**changes), spec(cameras), slots=slots(), codec=codec)


def begin(learner, seed=0):
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    return jit(learner.init)(jax.random.key(seed), hp)


def keys(seed=0, shards=2):
    made = jax.random.split(jax.random.key(seed), shards)
    return Keys(made, jnp.arange(shards), jax.random.key(seed + 1), shards)


def batch(cameras=(), length=L, seed=0, rows=B):
    """Random prompts of 2 to 5 tokens, chunks of actions as their suffix, an end and an EOS."""
    rng = np.random.default_rng(seed)
    actions = np.float32(np.cumsum(rng.normal(size=(rows, T, A)), axis=1) / 2)
    tokens = np.zeros((rows, length), np.int32)
    segment, mask_ar = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
    for b, ids in enumerate(tokenizer().encode(actions)):
        prompt = rng.integers(3, TEXT, size=rng.integers(2, 6)).tolist()
        suffix = [slots().to_model(i) for i in ids] + [slots().end, slots().eos]
        row = prompt + suffix
        tokens[b, : len(row)], segment[b, : len(row)] = row, 1
        mask_ar[b, len(prompt) : len(row)] = True
    images = {
        name: rng.integers(0, 256, size=(rows, 32, 32, 3), dtype=np.uint8) for name in cameras
    }
    there = {name: np.arange(rows) % 3 > 0 for name in cameras}
    state = np.float32(rng.normal(size=(rows, S)))
    extras = {"actions": actions, "state": state}
    return TokenBatch(tokens, mask_ar, mask_ar, segment, images, there, extras)


def observation(batch):
    """What a policy sees of a batch: the prefixes."""
    width = int((~batch.mask_ar & (batch.segment > 0)).sum(1).max())
    prefix = (batch.segment > 0) & ~batch.mask_ar
    cut = lambda x: np.where(prefix, x, 0)[:, :width]  # noqa: E731
    return {
        "tokens": cut(batch.tokens),
        "segment": cut(batch.segment),
        "mask_ar": np.zeros((len(prefix), width), bool),
        "images": batch.images,
        "image_mask": batch.image_mask,
        "state": batch.extras["state"],
    }
