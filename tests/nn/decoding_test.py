"""Reading token by token equals reading all at once, whatever the prefixes in the batch."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.nn.decoding import decode_step, prefill
from rlx.nn.transformer import Decoder, Variant
from rlx.ops import masks
from rlx.ops.generate import PAD, generate

V, P, M = 11, 6, 5
PLEN = np.array([6, 3, 4])
SEGMENT = np.int32(np.arange(P) < PLEN[:, None])
SEGMENT[2, 1] = 0  # a hole, as a missing camera leaves it
B = len(PLEN)


@pytest.fixture(scope="module")
def model():
    net = Decoder(Variant(16, 2, 24, 2, 1, 8), V)
    mask = jnp.ones((1, 1, 1), bool)
    params = net.init(jax.random.key(0), jnp.zeros((1, 1, 16)), jnp.zeros((1, 1), int), mask)
    return net, jax.tree.map(lambda x: 1.5 * x, params)


def tokens_of(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, size=(B, P)), rng.integers(0, V, size=(B, M))


def forced(model, prefix, new, row):
    """Logits `[M + 1, V]` after the prefix and after each new token, from one full pass."""
    net, params = model
    tokens = np.concatenate([prefix[row][SEGMENT[row] > 0], new[row]])[None]
    length = tokens.shape[1]
    segment = np.ones((1, length), np.int32)
    ar = np.arange(length)[None] >= length - M
    x = net.apply(params, tokens, method="embed")
    y, _ = net.apply(params, x, masks.positions(segment), masks.prefix_lm(ar, segment))
    return np.asarray(net.apply(params, y, method="logits"))[0, length - M - 1 :]


def cached(model, prefix, new, shift=0):
    """The same logits `[B, M + 1, V]` through the cache; `shift` moves the new positions."""
    net, params = model
    x = net.apply(params, prefix, method="embed")
    cache, y = prefill(net, params, x, np.zeros((B, P), bool), SEGMENT, M)
    cache = cache.replace(position=cache.position + shift)
    read = jax.jit(lambda cache, x, s: decode_step(net, params, cache, x, s))
    out = [y]
    for s in range(M):
        cache, y = read(cache, net.apply(params, new[:, s], method="embed"), s)
        out.append(y)
    return np.asarray(net.apply(params, jnp.stack(out, 1), method="logits"))


def largest_error(model, shift):
    prefix, new = tokens_of()
    got = cached(model, prefix, new, shift)
    return max(np.abs(got[b] - forced(model, prefix, new, b)).max() for b in range(B))


def test_cached_logits_are_the_teacher_forced_ones(model):
    assert largest_error(model, shift=0) < 1e-4


def test_positions_off_by_one_would_be_seen(model):
    assert largest_error(model, shift=1) > 1e-2


def decode(model, prefix, segment, end=0, max_new=M):
    net, params = model

    def step(cache, token, s):
        cache, y = decode_step(net, params, cache, net.apply(params, token, method="embed"), s)
        return cache, net.apply(params, y, method="logits")

    x = net.apply(params, prefix, method="embed")
    cache, y = prefill(net, params, x, np.zeros(prefix.shape, bool), segment, max_new)
    first = cache, net.apply(params, y, method="logits")
    return generate(first, step, end=end, max_new=max_new)


def test_rows_of_a_batch_are_the_rows_alone_and_greedy_follows_the_full_model(model):
    prefix, _ = tokens_of(1)
    run = jax.jit(lambda prefix, segment: decode(model, prefix, segment, max_new=8))
    compiled = run.lower(prefix, SEGMENT).compile()
    # The cache is written where it lies: no instruction copies it.
    cache, text = rf"f32\[2,{B},{P + 8},1,8\]\S* ", compiled.as_text()
    assert re.search(cache + r"dynamic-update-slice\(", text)
    assert not re.search(cache + r"copy\(", text)
    together = compiled(prefix, SEGMENT)
    for b in range(B):
        kept = prefix[b][SEGMENT[b] > 0]
        alone = run(kept[None], np.ones((1, len(kept)), np.int32))
        np.testing.assert_array_equal(together.tokens[b], alone.tokens[0])
    lengths = (np.asarray(together.tokens) != PAD).sum(1)
    row = together.tokens[0][: lengths[0]]
    new = np.tile(np.pad(row, (0, max(0, M - len(row))))[:M], (B, 1))
    follows = forced(model, prefix, new, 0).argmax(-1)
    n = min(len(row), M)
    np.testing.assert_array_equal(row[:n], follows[:n])
