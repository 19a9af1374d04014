"""Decoding against a loop over tokens, constraints against brute force, the device's byte-pair
encoding against the Rust package's, the fixed prefix against a general solver.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import action_tokens as at
from rlx.ops.dct import basis
from rlx.tokenizers import bpe
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.chunks import pad
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.hf import HFFastTokenizer

T, A = 10, 3
N = T * A
ROWS = 1000


def chunks(count: int, seed: int, horizon: int = T, dims: int = A) -> np.ndarray:
    """Smooth chunks with some steps in them, `[count, horizon, dims]` float32."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, horizon)[:, None]
    x = sum(
        rng.normal(size=(count, 1, dims)) / (1 + k) * np.cos(np.pi * k * t + k) for k in range(5)
    )
    x[..., -1] = np.sign(x[..., -1])
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def tokenizers():
    data = chunks(400, 0)
    return {
        "fast": FastTokenizer.fit(data, scale=10, vocab_size=400),
        "no_eob": FastTokenizer.fit(data, scale=10, vocab_size=400, eob=False),
        "dim": FastTokenizer.fit(data, scale=10, vocab_size=400, order="dim"),
        "bins": BinningTokenizer.fit(data, n_bins=32),
        # A large scale: most characters have two bytes, so tokens may begin inside one.
        "hf": HFFastTokenizer.fit(data, scale=60, vocab_size=900),
    }


NAMES = ("fast", "no_eob", "dim", "bins", "hf")


def slow_decode(codec: at.Codec, row: np.ndarray) -> tuple[np.ndarray, bool]:
    """Coefficients and validity of one row of ids, one token after another."""
    per = codec.per_number
    units, ok, stopped = [], True, False
    total = 0
    for i in row:
        if i == -1:
            continue
        if not 0 <= i < codec.vocab_size:
            ok = False
            continue
        length = int(codec.lengths[i])
        if codec.entry is not None and codec.entry[i] != total % per:
            ok, stopped = False, True
        total += length
        if not stopped:
            units.extend(codec.flat[codec.start[i] : codec.start[i] + length])
    ok &= total == codec.size or (bool(codec.eob) and total <= codec.size)
    units = units[: codec.size]
    units = units[: len(units) - len(units) % per] if codec.entry is not None else units
    full = np.zeros(int(codec.size), np.float32)
    full[: len(units)] = units
    full = full if codec.place is None else full[codec.place].sum(-1)
    return full.reshape(codec.horizon, codec.action_dim), ok


@pytest.mark.parametrize("name", NAMES)
def test_decode_equals_a_loop_over_tokens_for_any_ids(tokenizers, name):
    codec, rng = tokenizers[name].codec(), np.random.default_rng(1)
    good = pad(tokenizers[name].encode(chunks(30, 2)))
    wild = rng.integers(-3, codec.vocab_size + 3, (100, good.shape[1]))
    cut = np.where(rng.random(good.shape) < 0.2, -1, good)  # holes in valid rows
    swapped = good[:, rng.permutation(good.shape[1])]
    ids = np.concatenate([good, wild, cut, swapped]).astype(np.int32)
    got, valid, info = at.decode_coefficients(codec, ids)
    for row in range(len(ids)):
        want, ok = slow_decode(codec, ids[row])
        np.testing.assert_allclose(got[row], want, atol=1e-5)
        assert valid[row] == ok
    assert valid[:30].all() and not valid[30:].all()
    np.testing.assert_array_equal(info["n_tokens"], (ids != -1).sum(1))


@pytest.mark.parametrize("name", NAMES)
def test_jax_equals_numpy_and_the_codec_may_be_an_argument(tokenizers, name):
    codec, rng = tokenizers[name].codec(), np.random.default_rng(1)
    ids = rng.integers(-2, codec.vocab_size + 2, (64, 20)).astype(np.int32)
    good = np.full((64, 20), -1, np.int32)
    for row, found in zip(good, tokenizers[name].encode(chunks(64, 3))):
        row[: len(found)] = found[:20]
    ids = np.concatenate([ids, good])
    want = at.decode(codec, ids)
    for function in (jax.jit(at.decode), lambda c, i: jax.jit(lambda j: at.decode(c, j))(i)):
        got = function(codec, jnp.asarray(ids))
        np.testing.assert_allclose(got[0], want[0], atol=1e-4)
        np.testing.assert_array_equal(got[1], want[1])
        for key, value in want[2].items():
            np.testing.assert_array_equal(got[2][key], value)


def adversarial(vocab_size: int, count: int, width: int, seed: int) -> np.ndarray:
    """Random ids of all kinds: uniform, one id repeated, the longest, far outside, padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(-1, vocab_size, (count, width))
    ids[: count // 8] = rng.integers(0, vocab_size, (count // 8, 1))
    ids[count // 8 : count // 4] = vocab_size - 1
    far = rng.choice([-(2**31), -2, vocab_size, 2**31 - 1], (count // 8, width))
    ids[count // 4 : count // 4 + count // 8] = far
    keep = rng.integers(0, width + 1, (count, 1))
    return np.where(np.arange(width) < keep, ids, -1).astype(np.int32)


@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_thousand_strings_decode_to_finite_chunks(tokenizers, name):
    codec = tokenizers[name].codec()
    ids = adversarial(codec.vocab_size, 100_000, 12, 0)
    fast = jax.jit(at.decode)
    for part in np.split(ids, 4):
        actions, valid, info = at.decode(codec, part)
        assert actions.shape == (25_000, T, A) and np.isfinite(actions).all()
        outside = ((part < -1) | (part >= codec.vocab_size)).any(1)
        assert not valid[outside].any() and info["malformed"][outside].all()
        again, also, _ = fast(codec, jnp.asarray(part))
        np.testing.assert_allclose(again, actions, atol=2e-3)
        np.testing.assert_array_equal(also, valid)


def test_no_rows_and_no_tokens(tokenizers):
    codec = tokenizers["fast"].codec()
    actions, valid, _ = at.decode(codec, np.zeros((0, 5), np.int32))
    assert actions.shape == (0, T, A) and valid.shape == (0,)
    actions, valid, info = at.decode(codec, np.zeros((2, 0), np.int32))
    assert valid.all() and (info["padded"] == N).all()  # empty is the zero chunk
    np.testing.assert_allclose(actions[0], np.broadcast_to(codec.offset, (T, A)), rtol=1e-6)
    assert not at.decode(tokenizers["bins"].codec(), np.zeros((2, 0), np.int32))[1].any()


def sample(codec: at.Codec, rng: np.random.Generator, end: float) -> tuple[np.ndarray, int]:
    """ROWS chunks of uniformly random allowed tokens; each ends with probability `end` if it may.

    Returns the ids and the greatest number of steps.
    """
    produced, done, columns = np.zeros(ROWS, np.int32), np.zeros(ROWS, bool), []
    while not done.all():
        mask, may_end = at.allowed(codec, produced)
        assert (mask.any(1) | may_end).all()  # there is always a way on
        done |= may_end & (~mask.any(1) | (rng.random(ROWS) < end))
        pick = np.where(mask, rng.random(mask.shape), -1).argmax(1)
        column = np.where(done, -1, pick).astype(np.int32)
        produced = at.advance(codec, produced, column)
        columns.append(column)
    return np.stack(columns, 1), len(columns)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0.05, 0.0])
def test_constrained_sampling_never_makes_an_invalid_chunk(tokenizers, name, end):
    codec = tokenizers[name].codec()
    ids, steps = sample(codec, np.random.default_rng(7), end)
    actions, valid, info = at.decode(codec, ids)
    assert valid.all() and np.isfinite(actions).all()
    assert steps <= codec.size + 1
    if end == 0.0 or name not in ("fast", "dim"):
        assert (info["padded"] == 0).all()  # only an end of block may leave something out
    else:
        assert (info["padded"] > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_allowed_equals_trying_every_token(tokenizers, name):
    """A token may follow iff the units are still a beginning of a chunk (and it is usable)."""
    codec = tokenizers[name].codec()
    size, per = int(codec.size), codec.per_number
    produced = np.array([0, 1, 2, 3, size // 2, size - 2, size - 1, size])
    mask, may_end = at.allowed(codec, produced)
    for row, before in enumerate(produced):
        for i in range(codec.vocab_size):
            fits = before + codec.lengths[i] <= size
            starts = codec.entry is None or codec.entry[i] == before % per
            usable = codec.usable is None or codec.usable[i]
            assert mask[row, i] == (fits and starts and usable)
        assert may_end[row] == (before == size or bool(codec.eob))
    got = jax.jit(at.allowed)(codec, jnp.asarray(produced))
    np.testing.assert_array_equal(got[0], mask)
    np.testing.assert_array_equal(got[1], may_end)


def test_teacher_forced_tokens_are_always_allowed(tokenizers):
    for name in NAMES:
        codec = tokenizers[name].codec()
        ids = pad(tokenizers[name].encode(chunks(100, 4)))
        produced = np.zeros(len(ids), np.int32)
        refused = 0
        for column in ids.T:
            mask, may_end = at.allowed(codec, produced)
            here = column >= 0
            refused += (~mask[here, column[here]]).sum()
            assert may_end[~here].all()
            produced = at.advance(codec, produced, column)
        # A byte-level token that ends inside the last block of characters is not sampled.
        assert refused == 0 if name != "hf" else refused <= 0.01 * (ids >= 0).sum()


def test_any_prefix_is_a_chunk_that_gets_better(tokenizers):
    tokenizer, data = tokenizers["fast"], chunks(50, 5)
    codec, ids = tokenizer.codec(), pad(tokenizer.encode(data))
    errors = []
    for k in range(ids.shape[1] + 1):
        actions, valid, info = at.decode(codec, at.first(ids, k))
        assert valid.all() and (info["n_tokens"] <= k).all()
        errors.append(np.mean((actions - data) ** 2))
    assert (np.diff(errors) <= 1e-6).all() and errors[-1] < errors[0] / 50


@pytest.mark.parametrize("name", ["fast", "no_eob", "dim"])
def test_encoding_on_the_device_equals_the_host(tokenizers, name):
    data = chunks(512, 6)
    want = pad(tokenizers[name].encode(data))
    got = np.asarray(jax.jit(at.encode)(tokenizers[name].encoder(), jnp.asarray(data)))
    assert got.shape == (512, N) and (got[:, want.shape[1] :] == -1).all()
    assert (got[:, : want.shape[1]] == want).all(1).mean() >= 0.998  # rounding on an edge


def test_merges_equal_rust_on_long_runs():
    """Few symbols: equal pairs overlap everywhere."""
    rng = np.random.default_rng(0)
    symbols = np.repeat(rng.integers(0, 3, (400, 12)), 4, axis=1)
    symbols = np.where(rng.random(symbols.shape) < 0.2, rng.integers(0, 3, symbols.shape), symbols)
    words = bpe.texts(symbols, np.full(400, 48))
    merges = bpe.train(words, 3, 300)
    assert len(merges) == 297
    want = pad(bpe.encoder(3, merges)(words))
    rank = bpe.ranks(merges, 300)
    got = np.asarray(jax.jit(at.merge)(jnp.asarray(rank), 3, jnp.asarray(symbols, jnp.int32)))
    np.testing.assert_array_equal(got[:, : want.shape[1]], want)
    assert (got[:, want.shape[1] :] == -1).all()


def test_an_encoder_without_merges_returns_symbols():
    tokenizer = FastTokenizer.fit(chunks(50, 0), vocab_size=None)
    data = chunks(20, 1)
    got = np.asarray(at.encode(tokenizer.encoder(), jnp.asarray(data)))
    want = pad(tokenizer.encode(data))
    np.testing.assert_array_equal(got[:, : want.shape[1]], want)


def test_fixed_prefix_against_lagrange():
    rng = np.random.default_rng(0)
    actions, executed = rng.normal(size=(2, T, A)), rng.normal(size=(2, 4, A))
    memory, D = 3.0, basis(T, "float64")
    weight = np.diag(1 + (memory * np.pi * np.arange(T) / T) ** 2)
    known = D.T[:4]  # actions of the first steps = known @ coefficients
    system = np.block([[weight, known.T], [known, np.zeros((4, 4))]])
    for b in range(2):
        right = np.concatenate([np.zeros((T, A)), executed[b] - actions[b, :4]])
        change = D.T @ np.linalg.solve(system, right)[:T]
        got = at.fix_prefix(actions, executed, memory)[b]
        np.testing.assert_allclose(got, actions[b] + change, atol=1e-9)
    got = jax.jit(lambda a, e: at.fix_prefix(a, e, memory))(actions, executed)
    np.testing.assert_allclose(got, at.fix_prefix(actions, executed, memory), atol=1e-5)
    np.testing.assert_allclose(got[:, :4], executed, atol=1e-6)


def test_the_change_fades_with_its_memory():
    actions = np.zeros((1, 50, 1))
    change = at.fix_prefix(actions, np.ones((1, 5, 1)), memory=4.0)[0, :, 0]
    np.testing.assert_allclose(change[:5], 1.0)
    assert (np.diff(change[4:25]) < 0).all() and abs(change[-1]) < 0.01
    # The kernel of 1 + (memory w)**2 is exp(-|t| / memory), up to the grid.
    np.testing.assert_allclose(change[9], np.exp(-5 / 4.0), atol=0.05)


@pytest.mark.parametrize("k", [0, T + 1])
def test_a_prefix_that_is_no_part(k):
    with pytest.raises(ValueError, match=f"executed has {k} steps, expected 1 to the chunk's {T}"):
        at.fix_prefix(np.zeros((1, T, A)), np.zeros((1, k, A)), 2.0)


def test_a_whole_prefix_replaces_the_chunk():
    executed = np.ones((1, T, A), np.float32)
    np.testing.assert_array_equal(
        at.fix_prefix(np.zeros((1, T, A), np.float32), executed, 2.0), executed
    )


@pytest.mark.parametrize("step", [1, -1])
def test_slots(step):
    slots = at.Slots(first=500, step=step, count=10, end=3, eos=1, pad=0)
    ids = np.arange(10)
    np.testing.assert_array_equal(slots.to_action(slots.to_model(ids)), ids)
    assert slots.to_model(9) == 500 + 9 * step
    row = np.array([[slots.to_model(4), 7, slots.to_model(10), slots.to_model(2), 3, 500, 0]])
    for ids in (row, jnp.asarray(row)):
        np.testing.assert_array_equal(slots.generated(ids), [[4, 10, 10, 2, -1, -1, -1]])
