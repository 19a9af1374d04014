"""The table of bad inputs of the specification, row by row, for every action tokenizer.

Rows on prompts and on sequences that are too long are in layout_test.py.
"""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
from action_data import smooth

import rlx.tokenizers as tk
from rlx.nn.fsq import CODEBOOKS, Fsq
from rlx.tokenizers import bpe, chunks
from rlx.tokenizers.fsq import FsqTokenizer
from rlx.tokenizers.stats import NormStats

T, A = 10, 3
DATA, HELD_OUT = smooth(300, T, A, 0), smooth(20, T, A, 1)
FITTED = ("fast", "dct", "bins", "openvla", "hf_fast")
NAMES = (*FITTED, "fsq")


@pytest.fixture(scope="module")
def tokenizers():
    """One of each kind; the network of FSQ is as it begins."""
    net = Fsq(T, A, CODEBOOKS[256], tokens=3, width=8, layers=1, heads=2)
    params = jax.jit(net.init)(jax.random.key(0), DATA[:1])["params"]
    params = jax.tree.map(np.asarray, params)
    made = {name: tk.make(name, DATA) for name in FITTED}
    return made | {"fsq": FsqTokenizer(params, CODEBOOKS[256], 2, NormStats.fit(DATA))}


@pytest.fixture(params=NAMES)
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


# Actions with NaN or infinity: the sample and the dim are named.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite(tokenizer, value):
    broken = DATA[:5].copy()
    broken[2, 4, 1] = value
    says = f"actions are not finite: sample 2, step 4, dim 1 is {value}"
    with pytest.raises(ValueError, match=says):
        tokenizer.encode(broken)
    if tokenizer.name in FITTED:
        with pytest.raises(ValueError, match=says):
            tk.make(tokenizer.name, broken)


# A shape that was not fitted: both are named.


def test_chunks_of_another_shape(tokenizer):
    for shape, call in (
        ([T - 1, A], lambda: tokenizer.encode(HELD_OUT[:, 1:])),
        ([T, A - 1], lambda: tokenizer.encode(HELD_OUT[..., 1:])),
        ([T + 1, A], lambda: tokenizer.decode([[0]], horizon=T + 1)),
        ([T, A + 1], lambda: tokenizer.codec(T, A + 1)),
    ):
        says = f"chunks are [T, A] = {shape}, the tokenizer was fitted on {[T, A]}"
        with pytest.raises(ValueError, match=re.escape(says)):
            call()


@pytest.mark.parametrize("name", FITTED)
def test_any_shape_where_that_was_asked_for(name):
    t = tk.make(name, DATA, norm_mode=None, allow_any_shape=True)
    other = smooth(4, T + 2, A + 1, 2)
    x, valid, _ = t.decode(t.encode(other), horizon=T + 2, action_dim=A + 1)
    assert valid.all() and x.shape == other.shape


# Two axes are a batch of one, one is an error.


def test_axes(tokenizer):
    assert tokenizer.encode(HELD_OUT[0]) == tokenizer.encode(HELD_OUT[:1])
    for wrong in (HELD_OUT[0, 0], HELD_OUT[None]):
        says = re.escape(f"actions are [B, T, A] or [T, A], got shape {wrong.shape}")
        with pytest.raises(ValueError, match=says):
            tokenizer.encode(wrong)


# Too little to fit on, or nothing that moves.


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("few", [DATA[:0], DATA[:1], DATA[0], []])
def test_a_fit_set_that_is_too_small(name, few):
    count = 0 if len(few) == 0 else 1
    with pytest.raises(ValueError, match=f"fitting needs at least 2 chunks, got {count}"):
        tk.make(name, few)


@pytest.mark.parametrize("name", FITTED)
def test_constant_data_warn_and_come_back(name):
    still = np.full((5, T, A), 0.3)
    with pytest.warns(UserWarning, match=r"dims \[0, 1, 2\] are constant"):
        t = tk.make(name, still)
    x, valid, _ = t.decode(t.encode(still))
    assert valid.all()
    np.testing.assert_allclose(x, still, rtol=1e-6)


@pytest.mark.parametrize(("name", "says"), [("fast", "rounds to 0"), ("hf_fast", "to the same")])
def test_an_alphabet_of_one_symbol(name, says):
    still = np.zeros((5, T, A))
    with pytest.warns(UserWarning, match=says):
        t = tk.make(name, still, norm_mode=None)
    x, valid, _ = t.decode(t.encode(still))
    assert valid.all() and (x == 0).all()
    if name == "fast":
        assert t.vocab_size == 1 and len(t.merges) == 0


# An alphabet that does not fit: what would.


@pytest.mark.parametrize("name", ["fast", "hf_fast"])
def test_an_alphabet_too_large_for_the_vocabulary(name):
    with pytest.raises(ValueError, match="vocab_size 40 is smaller than the") as caught:
        tk.make(name, DATA, vocab_size=40)
    least = int(re.search(r"vocab_size >= (\d+)", str(caught.value)).group(1))
    scale = float(re.search(r"scale <= ([\d.]+)", str(caught.value)).group(1))
    with pytest.raises(ValueError, match="is smaller than the"):
        tk.make(name, DATA, vocab_size=least - 1)
    for settings in ({"vocab_size": least}, {"vocab_size": 40, "scale": 0.95 * scale}):
        t = tk.make(name, DATA, **settings)
        assert t.decode(t.encode(DATA[:20]))[1].all()


@pytest.mark.parametrize("name", ["fast", "dct"])
def test_an_alphabet_too_large_for_any_vocabulary(name):
    size = {"vocab_size": 10**5} if name == "fast" else {}
    says = f"coefficients are more than {bpe.MOST}, the largest alphabet; use scale <= "
    with pytest.raises(ValueError, match=says) as caught:
        tk.make(name, DATA, scale=1e4, **size)
    scale = float(str(caught.value).rsplit(" ", 1)[1])
    t = tk.make(name, DATA, scale=0.99 * scale, **size)
    assert 0.9 * bpe.MOST < 2 * t.bound + 1 <= bpe.MOST


@pytest.mark.parametrize("name", ["fast", "dct", "hf_fast"])
@pytest.mark.parametrize("scale", [0, -1.0, np.nan, np.inf])
def test_scales_that_are_none(name, scale):
    with pytest.raises(ValueError, match=f"scale is a number > 0, got {scale}"):
        tk.make(name, DATA, scale=scale)


# Actions out of range: clipped and counted.


def test_actions_out_of_range(tokenizer):
    far = HELD_OUT.copy()
    far[3] *= 1e4
    x, valid, _ = tokenizer.decode(tokenizer.encode(far), normalized=True)
    assert valid.all() and np.isfinite(x).all()
    assert np.abs(x).max() < 1e-2 * np.abs(tokenizer.stats.normalize(far)).max()
    counted = tokenizer.clip_fraction(far) - tokenizer.clip_fraction(HELD_OUT)
    assert counted > 0 if tokenizer.name != "fsq" else counted == 0  # a network has no range


# Ids that are no chunk.


def test_ids_that_are_no_chunk(tokenizer):
    good = tokenizer.encode(HELD_OUT[:1])[0]
    bad = [[*good[:-1], tokenizer.vocab_size], [-7, *good], good * 99, []]
    eob = tokenizer.name == "fast"
    kept, valid, info = tokenizer.decode([good, *bad])
    assert valid.tolist() == [True, False, False, False, eob]
    assert info["malformed"].tolist() == [False, True, True, False, False]
    assert info["overflow"][3] > 0 and info["padded"][4] > 0 and np.isfinite(kept).all()
    assert info["invalid_frac"] == pytest.approx((4 - eob) / 5)
    hold = np.full((T, A), 7.0)
    held = tokenizer.decode([good, *bad], on_error="hold", fallback=hold)[0]
    zeros = tokenizer.decode([good, *bad], on_error="zeros")[0]
    middle = np.broadcast_to(tokenizer.stats.offset, (T, A))
    for row, fine in enumerate(valid):
        np.testing.assert_allclose(held[row], kept[row] if fine else hold)
        np.testing.assert_allclose(zeros[row], kept[row] if fine else middle, rtol=1e-5)
    with pytest.raises(ValueError, match=r"ids of row 1 are no chunk: .*malformed True"):
        tokenizer.decode([good, *bad], on_error="raise")


# Several frequencies: one tokenizer, each chunk decoded to its own number of steps.


@pytest.mark.parametrize("name", FITTED)
def test_several_frequencies_share_one_tokenizer(name):
    data = {horizon: smooth(200, horizon, A, 0) for horizon in (5, 20)}
    t = tk.make(name, list(data.values()))
    assert t.horizon is None and t.action_dim == A
    ids = [row for chunk in data.values() for row in t.encode(chunk[:3])]
    together = chunks.pad(ids)
    for horizon, rows in zip(data, (slice(3), slice(3, 6))):
        x, valid, _ = t.decode(together[rows], horizon=horizon)
        assert valid.all()
        np.testing.assert_array_equal(x, t.decode(ids[rows], horizon=horizon)[0])
        assert np.abs(x - data[horizon][:3]).mean() < 0.1 * data[horizon].std()
    with pytest.raises(ValueError, match="decoding needs horizon= and action_dim=, got None and 3"):
        t.decode(ids)
