"""Reading token by token equals reading all at once, whatever the prefixes in the batch."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import jit

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
    params = jit(net.init)(jax.random.key(0), jnp.zeros((1, 1, 16)), jnp.zeros((1, 1), int), mask)
    return net, jax.tree.map(lambda x: 1.5 * x, params)


@pytest.fixture(scope="module")
def programs(model):
    """Reading all at once, a prefix, one more token, and the logits; each compiled once."""
    net, params = model

    @jit
    def whole(tokens, mask_ar, segment):
        x = net.apply(params, tokens, method="embed")
        see = masks.prefix_lm(mask_ar, segment)
        y, _ = net.apply(params, x, masks.positions(segment), see)
        return net.apply(params, y, method="logits")

    @jit
    def begin(tokens):
        x = net.apply(params, tokens, method="embed")
        return prefill(net, params, x, np.zeros((B, P), bool), SEGMENT, M)

    @jit
    def one(cache, token, s):
        x = net.apply(params, token, method="embed")
        return decode_step(net, params, cache, x, s)

    logits = jit(lambda y: net.apply(params, y, method="logits"))
    return whole, begin, one, logits


def tokens_of(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, size=(B, P)), rng.integers(0, V, size=(B, M))


def forced(programs, prefix, new, row):
    """Logits `[M + 1, V]` after the prefix and after each new token, from one full pass."""
    kept = prefix[row][SEGMENT[row] > 0]
    length = len(kept) + M
    tokens = np.pad(np.concatenate([kept, new[row]]), (0, P - len(kept)))[None]
    index = np.arange(P + M)[None]
    logits = programs[0](tokens, index >= len(kept), np.int32(index < length))
    return np.asarray(logits)[0, len(kept) - 1 : length]


def cached(programs, prefix, new, shift=0):
    """The same logits `[B, M + 1, V]` through the cache; `shift` moves the new positions."""
    _, begin, one, logits = programs
    cache, y = begin(prefix)
    cache = cache.replace(position=cache.position + shift)
    out = [y]
    for s in range(M):
        cache, y = one(cache, new[:, s], s)
        out.append(y)
    return np.asarray(logits(jnp.stack(out, 1)))


def largest_error(programs, shift):
    prefix, new = tokens_of()
    got = cached(programs, prefix, new, shift)
    return max(np.abs(got[b] - forced(programs, prefix, new, b)).max() for b in range(B))


def test_cached_logits_are_the_teacher_forced_ones(programs):
    assert largest_error(programs, shift=0) < 1e-4


def test_positions_off_by_one_would_be_seen(programs):
    assert largest_error(programs, shift=1) > 1e-2


def decode(model, prefix, segment, end=0, max_new=M):
    net, params = model

    def step(cache, token, s):
        cache, y = decode_step(net, params, cache, net.apply(params, token, method="embed"), s)
        return cache, net.apply(params, y, method="logits")

    x = net.apply(params, prefix, method="embed")
    cache, y = prefill(net, params, x, np.zeros(prefix.shape, bool), segment, max_new)
    first = cache, net.apply(params, y, method="logits")
    return generate(first, step, end=end, max_new=max_new)


def test_rows_of_a_batch_are_the_rows_alone_and_greedy_follows_the_full_model(model, programs):
    prefix, _ = tokens_of(1)
    run = jit(lambda prefix, segment: decode(model, prefix, segment, max_new=8))
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
    follows = forced(programs, prefix, new, 0).argmax(-1)
    n = min(len(row), M)
    np.testing.assert_array_equal(row[:n], follows[:n])
