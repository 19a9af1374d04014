"""The native FAST tokenizer: bounds of its error, its counts of tokens, its files, bad input; and
what all tokenizers share.
"""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from action_data import cumulative, smooth

import rlx.tokenizers as tk
from rlx.tokenizers import bpe, chunks, files
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.fast import DctNoBpeTokenizer, FastTokenizer
from rlx.tokenizers.measure import measure

T, A = 20, 7
DATA, HELD_OUT = smooth(600, T, A, 0), smooth(200, T, A, 1)


@pytest.fixture(scope="module")
def tokenizer():
    return FastTokenizer.fit(DATA)


@pytest.mark.parametrize("scale", [2.0, 10.0, 50.0])
@pytest.mark.parametrize("order", ["time", "dim"])
def test_error_of_chunks_in_range(scale, order):
    """|x - D^T Q / scale| <= (0.5 / scale) sqrt(N): rounding by half at most, D orthonormal."""
    t = FastTokenizer.fit(DATA, scale=scale, order=order, vocab_size=3000, clip=None)
    inside = np.abs(t.coefficients(HELD_OUT)).max((1, 2)) <= t.bound
    assert inside.mean() > 0.9
    x, valid, _ = t.decode(t.encode(HELD_OUT), normalized=True)
    error = (x - t.stats.normalize(HELD_OUT))[inside]
    norms = np.sqrt((error**2).sum((1, 2)))
    assert valid.all() and (norms <= 0.5 / scale * np.sqrt(T * A) * (1 + 1e-4)).all()
    rmse = np.sqrt(np.mean(error**2))
    assert rmse <= 1 / (scale * np.sqrt(12)) * 1.05


def test_ids_spell_the_rounded_cosine_transform(tokenizer):
    """Ids expanded by hand, against SciPy's transform of the published normalisation."""
    rows = DATA.reshape(-1, A).astype(np.float64)
    q01, q99 = np.quantile(rows, [0.01, 0.99], axis=0)
    x = np.clip(2 * (HELD_OUT - q01) / (q99 - q01 + 1e-6) - 1, -2, 2)
    Q = np.around(10 * scipy.fft.dct(x, axis=1, norm="ortho")).astype(int)
    bound = (tokenizer.vocab_size - len(tokenizer.merges) - 1) // 2
    Q = np.clip(Q, -bound, bound)
    table = bpe.tables(2 * bound + 1, tokenizer.merges)
    wrong = 0
    for ids, want in zip(tokenizer.encode(HELD_OUT), Q):
        got = [table.flat[table.start[i] : table.start[i] + table.lengths[i]] for i in ids]
        got = np.concatenate(got).astype(int) - bound
        assert got[-1] != 0 and len(got) <= T * A
        got = np.pad(got, (0, T * A - len(got))).reshape(T, A)
        wrong += (got != want).sum()
    assert wrong <= 1e-4 * Q.size  # float32 beside an edge


def test_a_chunk_by_hand():
    """Two steps, one dim: C0 = (a + b) / sqrt 2, C1 = (a - b) / sqrt 2, times 10."""
    t = FastTokenizer.fit(np.array([[[1.0], [-1.0]], [[1.0], [1.0]]]), norm_mode=None)
    assert t.bound == 16  # ceil(1.1 * 14)
    np.testing.assert_array_equal(t.coefficients([[1.0], [0.5]])[0, :, 0], [11, 4])
    (ids,) = t.encode([[1.0], [0.5]])
    assert ids == [11 + 16, 4 + 16]
    x, valid, info = t.decode([ids])
    assert valid[0] and info["n_symbols"][0] == 2
    np.testing.assert_allclose(x[0, :, 0], [1.5 / np.sqrt(2), 0.7 / np.sqrt(2)], rtol=1e-6)
    assert t.encode([[1.0], [1.0]]) == [[14 + 16]]  # the trailing zero is left out


def test_symbols_come_first_and_every_id_is_spelled(tokenizer):
    table = tokenizer._table
    alphabet = 2 * tokenizer.bound + 1
    np.testing.assert_array_equal(table.lengths[:alphabet], 1)
    np.testing.assert_array_equal(table.flat[:alphabet], np.arange(alphabet))
    assert (table.lengths[alphabet:] > 1).all() and len(table.lengths) == 1024
    encode = bpe.encoder(alphabet, tokenizer.merges)
    for i in range(0, 1024, 37):  # each token written out is that one token
        word = table.flat[table.start[i] : table.start[i] + table.lengths[i]]
        assert encode(bpe.texts(word[None].astype(int), np.array([len(word)]))) == [[i]]


def test_counts_of_tokens_come_out_in_the_published_order():
    """End of block < native < no merges; FAST far below binning; more so at a higher frequency."""
    counts = {}
    for horizon in (10, 50):
        fit, test = smooth(600, horizon, A, 0), smooth(200, horizon, A, 1)
        for name, t in {
            "eob": FastTokenizer.fit(fit),
            "native": FastTokenizer.fit(fit, eob=False),
            "dct": DctNoBpeTokenizer.fit(fit),
            "bins": BinningTokenizer.fit(fit),
        }.items():
            counts[name, horizon] = measure(t, test)["mean_tokens"]
    for horizon in (10, 50):
        assert counts["eob", horizon] <= counts["native", horizon] < counts["dct", horizon] / 2
        assert counts["dct", horizon] == counts["bins", horizon] == horizon * A
    assert counts["eob", 50] < 1.5 * counts["eob", 10]  # not five times as many


def test_any_chunk_can_be_encoded_and_is_clipped_and_counted(tokenizer):
    for value in (-300.0, 300.0, 0.0):
        chunk = np.full((1, T, A), value, np.float32)
        x, valid, _ = tokenizer.decode(tokenizer.encode(chunk), normalized=True)
        assert valid.all() and np.abs(x).max() <= 2.1
        assert (tokenizer.clip_fraction(chunk) > 0) == (value != 0)
    noise = np.random.default_rng(0).normal(size=(100, T, A)).astype(np.float32) * 30
    ids = tokenizer.encode(noise)
    x, valid, _ = tokenizer.decode(ids, normalized=True)
    Q = np.clip(tokenizer.coefficients(noise), -tokenizer.bound, tokenizer.bound)
    want = np.einsum("kt,bka->bta", tokenizer.codec().basis, Q / 10)
    assert valid.all()
    np.testing.assert_allclose(x, want, atol=1e-4)
    assert 0 < measure(tokenizer, noise)["clip_frac"] <= 2


def test_normalised_actions_skip_the_statistics(tokenizer):
    x = tokenizer.stats.normalize(HELD_OUT)
    assert tokenizer.encode(x, normalized=True) == tokenizer.encode(HELD_OUT)
    a, _, _ = tokenizer.decode(tokenizer.encode(HELD_OUT))
    b, _, _ = tokenizer.decode(tokenizer.encode(HELD_OUT), normalized=True)
    np.testing.assert_allclose(a, tokenizer.stats.unnormalize(b), atol=1e-5)
    raw = FastTokenizer.fit(tokenizer.stats.normalize(DATA), norm_mode=None)
    assert raw.stats is None and raw.encode(x) == tokenizer.encode(HELD_OUT)


def test_constant_dims_decode_to_their_mean():
    data = DATA.copy()
    data[..., 2] = 0.25
    with pytest.warns(UserWarning, match=r"dims \[2\] are constant"):
        t = FastTokenizer.fit(data)
    moved = data.copy()
    moved[..., 2] = 9.0
    assert t.encode(moved) == t.encode(data)
    np.testing.assert_allclose(t.decode(t.encode(data))[0][..., 2], 0.25)


def test_constant_data_works_with_a_warning():
    with pytest.warns(UserWarning, match="every coefficient rounds to 0"):
        t = FastTokenizer.fit(np.zeros((5, 4, 2)), norm_mode=None)
    assert t.vocab_size == 1 and t.encode(np.zeros((1, 4, 2))) == [[]]
    x, valid, _ = t.decode([[]])
    assert valid.all() and (x == 0).all()


def test_several_horizons_share_one_tokenizer():
    t = FastTokenizer.fit([smooth(200, 10, A, 0), smooth(200, 20, A, 0)])
    assert (t.horizon, t.action_dim) == (None, A)
    one_by_one = [*smooth(200, 10, A, 0), *smooth(200, 20, A, 0)]
    np.testing.assert_array_equal(FastTokenizer.fit(one_by_one).merges, t.merges)
    for horizon in (10, 20, 15):
        data = smooth(20, horizon, A, 2)
        x, valid, _ = t.decode(t.encode(data), horizon=horizon, normalized=True)
        assert valid.all() and x.shape == (20, horizon, A)
        assert np.sqrt(np.mean((x - t.stats.normalize(data)) ** 2)) < 0.04


def test_fit_info(tokenizer):
    found = measure(tokenizer, DATA)
    info = tokenizer.fit_info
    assert info["n_chunks"] == 600 and info["mean_tokens"] == found["mean_tokens"]
    np.testing.assert_allclose(info["rmse"], found["rmse"], rtol=1e-3)
    np.testing.assert_allclose(info["clip_frac"], found["clip_frac"])


@pytest.mark.parametrize("name", ["fast", "dct", "bins", "openvla", "hf_fast"])
def test_files_give_back_the_same_ids(name, tmp_path):
    t = tk.make(name, cumulative(300, 8, 3, 0), norm_mode="zscore")
    t.save(tmp_path / "t")
    back = tk.load(tmp_path / "t")
    assert type(back) is type(t) and back.stats.mode == "zscore"
    data = cumulative(100, 8, 3, 1)
    ids = t.encode(data)
    assert back.encode(data) == ids and back.vocab_size == t.vocab_size
    np.testing.assert_array_equal(back.decode(ids)[0], t.decode(ids)[0])
    assert (back.horizon, back.action_dim) == (8, 3)


def test_settings_are_kept_in_the_file(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    t = FastTokenizer.fit(DATA, scale=5, order="dim", eob=False, clip=None, allow_any_shape=True)
    t.save(tmp_path)
    back = FastTokenizer.load(tmp_path)
    for name in ("scale", "bound", "order", "eob", "clip", "horizon", "action_dim", "fit_info"):
        assert getattr(back, name) == getattr(t, name)
    saved = json.loads((tmp_path / "fast.json").read_text())
    assert saved["format_version"] == files.FORMAT
    (tmp_path / "fast.json").write_text(json.dumps({**saved, "format_version": 9}))
    with pytest.raises(ValueError, match="format_version 9, expected 1"):
        FastTokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dct\.json not found"):
        DctNoBpeTokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no tokenizer; expected one of"):
        tk.load(tmp_path / "empty")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="is no folder and could not be fetched"):
        tk.load("rlx-tests/no-such-tokenizer")


def test_policies_for_malformed_ids(tokenizer):
    good = tokenizer.encode(HELD_OUT[:1])[0]
    rows = [good, [*good, 1024], [*good[:5], -1, *good[5:]], [0] * 200, []]
    hold = np.full((T, A), 7.0)
    kept = tokenizer.decode(rows, on_error="repair")
    assert kept[1].tolist() == [True, False, False, False, True]
    assert kept[2]["invalid_frac"] == pytest.approx(0.6)
    assert kept[2]["overflow"][3] == 60 and kept[2]["malformed"].tolist() == [0, 1, 1, 0, 0]
    np.testing.assert_array_equal(kept[0][1], kept[0][0])  # unknown ids stand for nothing
    held, _, _ = tokenizer.decode(rows, on_error="hold", fallback=hold)
    zeros, _, _ = tokenizer.decode(rows, on_error="zeros")
    for bad in (1, 2, 3):
        np.testing.assert_array_equal(held[bad], hold)
        np.testing.assert_allclose(zeros[bad], np.broadcast_to(tokenizer.stats.offset, (T, A)))
    for fine in (0, 4):
        np.testing.assert_array_equal(held[fine], kept[0][fine])
        np.testing.assert_array_equal(zeros[fine], kept[0][fine])
    with pytest.raises(ValueError, match=r"ids of row 1 are no chunk: .*malformed True"):
        tokenizer.decode(rows, on_error="raise")
    tokenizer.decode(rows[:1], on_error="raise")


def test_short_generations_need_an_end_of_block():
    t = FastTokenizer.fit(DATA, eob=False)
    ids = t.encode(HELD_OUT[:2])
    assert t.decode(ids)[1].all()
    cut = [row[:-1] for row in ids]
    _, valid, info = t.decode(cut)
    assert not valid.any() and (info["padded"] > 0).all()


BAD = [
    (lambda t: t.encode(np.zeros((2, 0, 7))), "no numbers"),
    (lambda t: t.decode([[1]], on_error="panic"), "one of repair, hold, zeros, raise, got 'panic'"),
    (lambda t: t.decode([[1]], on_error="hold"), "needs fallback="),
    (lambda t: t.decode(np.zeros(3, int)), r"ids are integers \[B, L\]"),
    (lambda t: t.decode(np.zeros((1, 3))), r"ids are integers \[B, L\], got float64"),
    (lambda t: FastTokenizer.fit([DATA, DATA[..., :2]]), "differ in action dims"),
    (lambda t: FastTokenizer.fit(DATA, scale=0), "scale is a number > 0, got 0"),
    (lambda t: FastTokenizer.fit(DATA, order="random"), "order is one of time, dim, got 'random'"),
    (lambda t: FastTokenizer.fit(DATA, clip=-1.0), "clip is a number > 0 or None, got -1.0"),
    (lambda t: DctNoBpeTokenizer.fit(DATA, eob=True), "without merges eob cannot be chosen"),
    (lambda t: BinningTokenizer.fit(DATA, n_bins=1), "n_bins is an integer >= 2, got 1"),
    (lambda t: BinningTokenizer.fit(DATA, n_bins=2.5), "n_bins is an integer >= 2, got 2.5"),
    (lambda t: tk.make("fats", DATA), "unknown tokenizer 'fats'; expected one of fast"),
    (lambda t: tk.make("fsq", DATA), r"train rlx\.agents\.fsq"),
    (lambda t: bpe.train([], 30_000, 40_000), "at most 4096 symbols, got 30000"),
    (lambda t: bpe.tables(2, np.array([[0, 5]])), "merge 0 of ids 0, 5: not yet made"),
    (lambda t: bpe.tables(2, np.array([[0, 1], [0, 1]])), "two merges spell the same"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_bad_input(tokenizer, call, says):
    with pytest.raises(ValueError, match=says):
        call(tokenizer)


def test_no_shape_is_remembered():
    t = FastTokenizer.fit(DATA, allow_any_shape=True)
    ids = t.encode(smooth(3, 15, 4, 0), normalized=True)
    with pytest.raises(ValueError, match="decoding needs horizon= and action_dim="):
        t.decode(ids)
    x, valid, _ = t.decode(ids, horizon=15, action_dim=4, normalized=True)
    assert valid.all() and x.shape == (3, 15, 4)
    for call in (
        lambda: t.encode(smooth(3, 15, 4, 0)),
        lambda: t.decode(ids, horizon=15, action_dim=4),
    ):
        with pytest.raises(ValueError, match=r"chunks have 4 numbers per action, .* statistics 7"):
            call()


def test_no_chunks_at_all(tokenizer):
    assert tokenizer.encode(HELD_OUT[:0]) == []
    assert tokenizer.decode([])[0].shape == (0, T, A)


def test_integers_are_actions_too():
    t = FastTokenizer.fit(np.random.default_rng(0).integers(0, 9, (30, 6, 2)))
    assert t.decode(t.encode(np.ones((1, 6, 2), int)))[1].all()


def test_arrays_of_the_device_are_ids_too(tokenizer):
    ids = chunks.pad(tokenizer.encode(HELD_OUT[:3]))
    got, want = tokenizer.decode(jnp.asarray(ids)), tokenizer.decode(ids)
    np.testing.assert_array_equal(got[0], want[0])
    assert got[1].all()


def test_padding_keeps_ids_below_zero_malformed():
    ids = chunks.pad([[3, -1, 4], [5], []])
    np.testing.assert_array_equal(ids, [[3, -2, 4], [5, -1, -1], [-1, -1, -1]])
    wide = chunks.pad(np.array([[2**40, -(2**40), -1]]))
    assert wide.dtype == np.int32 and wide.tolist() == [[2**31 - 1, -2, -1]]


def test_importing_loads_neither_jax_nor_the_rust_package_nor_transformers(run_python):
    code = """
import sys, rlx.tokenizers, rlx.tokenizers.layout, rlx.tokenizers.doctor
print([m for m in ("jax", "flax", "tokenizers", "transformers", "scipy") if m in sys.modules])
"""
    assert run_python(code).stdout.strip() == "[]"
