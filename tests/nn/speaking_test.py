"""Constrained sampling: whatever a model thinks of it, every chunk is valid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import jit

from rlx.nn.speaking import choice_of, say_actions, vocabulary
from rlx.nn.transformer import Decoder, Variant
from rlx.nn.vision_language import Sequence
from rlx.ops.action_tokens import Slots
from rlx.ops.generate import greedy, sampler
from rlx.tokenizers import BinningTokenizer, DctNoBpeTokenizer, FastTokenizer
from rlx.types import Keys

T, A, B = 5, 2, 250
CHUNKS = np.cumsum(np.random.default_rng(0).normal(size=(300, T, A)), axis=1)
TOKENIZERS = {
    "fast": lambda: FastTokenizer.fit(CHUNKS, vocab_size=128, scale=4.0),
    "fast without eob": lambda: FastTokenizer.fit(CHUNKS, vocab_size=128, scale=4.0, eob=False),
    "no bpe": lambda: DctNoBpeTokenizer.fit(CHUNKS, scale=4.0),
    "bins": lambda: BinningTokenizer.fit(CHUNKS, n_bins=16),
}


def spoken(tokenizer, step, seed, explore=True):
    """One batch of chunks from an untrained decoder of random prefixes."""
    V = tokenizer.vocab_size
    first = 5 if step > 0 else V + 4
    slots = Slots(first, step, V, end=1, eos=2, pad=0)
    net = Decoder(Variant(16, 1, 16, 2, 1, 8), V + 5)
    mask = jnp.ones((1, 1, 1), bool)
    x = np.float32(np.random.default_rng(seed).normal(size=(B, 3, 16)))
    params = jit(net.init)(jax.random.key(seed), x[:1, :1], jnp.zeros((1, 1), int), mask)
    seq = Sequence(x, np.ones((B, 3), np.int32), np.zeros((B, 3), bool), 0)
    keys = Keys(jax.random.split(jax.random.key(9), 2), jnp.arange(2), jax.random.key(1), 2)
    pick = sampler(keys, 2.0) if explore else greedy
    codec = tokenizer.codec(T, A)
    run = jit(lambda params: say_actions(net, params, seq, slots, codec, T * A, pick))
    return [run(params) for params in (params, jax.tree.map(lambda p: -2 * p, params))]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_thousand_chunks_of_an_untrained_model_are_all_valid(name):
    tokenizer = TOKENIZERS[name]()
    count = 0
    for step, explore in ((1, True), (-1, False)):
        for actions, extras in spoken(tokenizer, step, seed=step + 1, explore=explore):
            assert extras["valid"].all() and np.isfinite(actions).all()
            ids = [row[row >= 0].tolist() for row in np.asarray(extras["tokens"])]
            again, valid, _ = tokenizer.decode(ids, horizon=T, action_dim=A, on_error="raise")
            assert valid.all()  # by the tokenizer's own decoder
            np.testing.assert_allclose(actions, again, atol=1e-3)
            np.testing.assert_array_equal(extras["num_tokens"], [len(row) for row in ids])
            longest = max(len(row) for row in ids)
            assert extras["steps"] in (longest, longest + 1)  # + its end marker
            count += B
    assert count == 1000


def test_without_a_marker_the_loop_takes_as_many_steps_as_the_longest_row():
    (_, extras), _ = spoken(TOKENIZERS["bins"](), 1, seed=0)
    assert extras["steps"] == T * A and (extras["num_tokens"] == T * A).all()


@pytest.mark.parametrize("step", [1, -1])
def test_choices_are_model_ids_read_the_other_way(step):
    slots = Slots(first=10, step=step, count=4, end=1, eos=2, pad=0)
    ids = vocabulary(slots)
    np.testing.assert_array_equal(ids, [10, 10 + step, 10 + 2 * step, 10 + 3 * step, 1])
    np.testing.assert_array_equal(choice_of(slots, jnp.asarray(ids)), np.arange(5))
    others = jnp.array([0, 2, 3, 10 - step, 10 + 4 * step])
    np.testing.assert_array_equal(choice_of(slots, others), -np.ones(5))
