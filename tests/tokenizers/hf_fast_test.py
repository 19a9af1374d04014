"""The public format of FAST: ids equal to the reference's procedure, and its defects D1 to D7,
reproduced where asked for and absent otherwise.

The reference is written here once more, from its description, on `tokenizers` and SciPy.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import scipy.fft
from action_data import cumulative, smooth
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.trainers import BpeTrainer

import rlx.tokenizers as tk
from rlx.tokenizers import utf8
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.hf import HFFastTokenizer

T, A = 20, 7
SCALE = 10.0


def coefficients(chunks: np.ndarray) -> np.ndarray:
    return np.around(scipy.fft.dct(chunks, axis=1, norm="ortho") * SCALE).astype(int)


class Reference:
    """Trains, writes and reads as the public code does; `shift` moves the character of zero."""

    def __init__(self, chunks: np.ndarray, vocab_size: int = 1024, shift: int = 0) -> None:
        Q = coefficients(chunks).reshape(len(chunks), -1)
        self.low = int(Q.min()) - shift
        self.rust = ByteLevelBPETokenizer()
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[],
            initial_alphabet=[chr(i) for i in range(int(Q.max()) - self.low + 1)],
            max_token_length=10000,
            show_progress=False,
        )
        self.rust._tokenizer.train_from_iterator(self.texts(chunks), trainer=trainer)

    def texts(self, chunks: np.ndarray) -> list[str]:
        Q = coefficients(chunks).reshape(len(chunks), -1)
        return ["".join(map(chr, np.maximum(row - self.low, 0))) for row in Q]

    def encode(self, chunks: np.ndarray) -> list[list[int]]:
        return [self.rust.encode(text).ids for text in self.texts(chunks)]

    def decode(self, ids: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
        out = []
        for row in ids:
            Q = np.array([ord(c) for c in self.rust.decode(row)]) + self.low
            Q = Q.reshape(shape) if Q.size == np.prod(shape) else np.zeros(shape)
            out.append(scipy.fft.idct(Q / SCALE, axis=0, norm="ortho"))
        return np.stack(out)

    def ours(self, folder, **changes) -> HFFastTokenizer:
        """Our tokenizer, read from files as the reference writes them."""
        folder.mkdir()
        self.rust._tokenizer.save(str(folder / "tokenizer.json"))
        config = dict(scale=SCALE, min_token=self.low, vocab_size=1024, time_horizon=None)
        (folder / "processor_config.json").write_text(json.dumps(config | {"action_dim": None}))
        loaded = HFFastTokenizer.load(folder)
        if not changes:
            return loaded
        return HFFastTokenizer(loaded.rust, loaded.scale, loaded.min_token, **changes)


def normalised(chunks: np.ndarray) -> np.ndarray:
    return chunks.astype(np.float64) / 3


FIT = normalised(smooth(1000, T, A, 0))
TEST = normalised(smooth(500, T, A, 1))


@pytest.fixture(scope="module")
def reference():
    return Reference(FIT)


@pytest.fixture(scope="module")
def parity(reference, tmp_path_factory):
    """Ours with the reference's vocabulary, encoding exactly as it does."""
    return reference.ours(tmp_path_factory.mktemp("public") / "a", strict="reference")


@pytest.fixture(scope="module")
def safe(reference, tmp_path_factory):
    """Ours with the same vocabulary, as it is by default; the fitted range is known."""
    top = int(coefficients(FIT).max())
    return reference.ours(tmp_path_factory.mktemp("public") / "b", max_token=top)


def decoded(tokenizer: HFFastTokenizer, ids, **settings):
    return tokenizer.decode(ids, horizon=T, action_dim=A, **settings)


def test_ids_are_those_of_the_reference(reference, parity, safe):
    want = reference.encode(TEST)
    assert parity.encode(TEST) == want
    same = [a == b for a, b in zip(safe.encode(TEST), want)]
    inside = (parity.characters(TEST) == safe.characters(TEST)).all(1)
    assert np.array(same)[inside].all() and inside.mean() > 0.95


def test_training_gives_the_reference_vocabulary(reference):
    ours = HFFastTokenizer.fit(FIT, norm_mode=None)
    want = json.loads(reference.rust._tokenizer.to_str())["model"]
    got = json.loads(ours.rust)["model"]
    assert got["vocab"] == want["vocab"] and got["merges"] == want["merges"]
    assert ours.min_token == reference.low
    assert ours.max_token == coefficients(FIT).max()


def test_valid_ids_decode_as_the_reference_does(reference, parity):
    ids = reference.encode(TEST)
    x, valid, _ = decoded(parity, ids)
    assert valid.mean() > 0.95
    np.testing.assert_allclose(x[valid], reference.decode(ids, (T, A))[valid], atol=1e-5)


def test_the_byte_table():
    """Against the vocabulary that the Rust package itself starts from."""
    from tokenizers.pre_tokenizers import ByteLevel

    shown = utf8.shown_bytes()
    assert set(shown) == set(ByteLevel.alphabet()) and sorted(shown.values()) == list(range(256))
    for character in ("A", " ", "\n", "\x7f", "\u00a0", "\u00ad", "\u00e9"):
        ((piece, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(
            character
        )
        assert bytes(shown[c] for c in piece) == character.encode()


# The defects.


def test_d1_unseen_bytes_are_dropped_by_the_reference_and_replaced_by_us(reference, parity, safe):
    """A chunk of ones times three has a coefficient no byte of which was seen."""
    seen = utf8.representable(json.loads(parity.rust)["model"]["vocab"], 2000)
    chunk = next(
        c
        for c in (np.full((1, T, A), v) for v in np.arange(3.0, 8.0, 0.05))
        if not seen[parity.characters(c).max()]
    )
    ids = reference.encode(chunk)
    assert len(reference.rust.decode(ids[0])) < T * A  # symbols are gone
    assert parity.encode(chunk) == ids and not decoded(parity, ids)[1].any()
    x, valid, _ = decoded(safe, safe.encode(chunk))
    assert valid.all() and 0 < safe.clip_fraction(chunk) <= 1 / T
    assert np.abs(x).max() <= np.abs(chunk).max() + 0.1


def test_d1_every_chunk_of_the_distribution_comes_back(safe):
    rough = normalised(cumulative(500, T, A, 2))
    for chunks in (TEST, rough, 10 * TEST):
        x, valid, _ = decoded(safe, safe.encode(chunks))
        assert valid.all()
        changed = safe.characters(chunks) + safe.min_token != coefficients(chunks).reshape(500, -1)
        exact = ~changed.any(1)
        assert (np.abs(x - chunks)[exact] < 0.5).all()
        assert safe.clip_fraction(chunks) == changed.mean()


@pytest.fixture(scope="module")
def wide():
    """A range beyond 128, so that most characters have two bytes."""
    return Reference(6 * FIT)


def test_d2_a_lost_byte_is_no_action_of_a_thousand(wide, tmp_path):
    parity = wide.ours(tmp_path / "wide", strict="reference")
    table = utf8.halves(json.loads(parity.rust)["model"]["vocab"])
    alone = np.flatnonzero((table.entry == 1) & (table.lengths == 1))
    worst = 0.0
    for ids in wide.encode(6 * TEST[:200]):
        for stray in alone[:3]:
            broken = [*ids[:-1], int(stray), ids[-1]]
            text = wide.rust.decode(broken)
            worst = max([worst, *(abs(ord(c) + wide.low) for c in text)])
            x, valid, info = decoded(parity, [broken])
            assert not valid[0] and info["malformed"][0]
            assert np.abs(x).max() < 200  # repaired: what stood before it, then zeros
    assert worst > 60_000  # the reference reads U+FFFD as a coefficient


def test_d2_without_the_end_of_a_character(wide, tmp_path):
    ours = wide.ours(tmp_path / "wide")
    table = utf8.halves(json.loads(ours.rust)["model"]["vocab"])
    open_ended = np.flatnonzero((table.pending >= 0) & (table.entry == 0))
    ids = ours.encode(6 * TEST[:1])[0]
    x, valid, info = decoded(ours, [[*ids[:5], int(open_ended[0])]])
    assert not valid[0] and np.isfinite(x).all() and info["padded"][0] > 0


def test_d3_dead_entries_are_known_and_never_sampled(reference, safe):
    """The alphabet is seeded with characters that cannot occur once text is bytes."""
    vocab = json.loads(safe.rust)["model"]["vocab"]
    dead = [i for token, i in vocab.items() if any(c not in utf8.shown_bytes() for c in token)]
    assert len(dead) >= 30
    codec = safe.codec(T, A)
    assert (codec.entry[dead] == -1).all() and not codec.usable[dead].any()
    x, valid, _ = decoded(safe, [[dead[0]] * T * A])
    assert not valid.any() and (x == 0).all()
    native = FastTokenizer.fit(FIT, norm_mode=None)
    assert (native.codec().lengths >= 1).all() and native.codec().entry is None


def test_d4_compression_depends_on_the_character_of_zero():
    """The regular expression of GPT-2 splits at changes of class; ours has no characters."""
    data, test = normalised(smooth(500, 20, 7, 0)), normalised(smooth(200, 20, 7, 1))
    low = int(coefficients(data).min())
    means = []
    for zero_at in (0xA0, 0x100, 0xD0):  # no-break space, letter, letter
        reference = Reference(data, shift=zero_at + low)
        means.append(np.mean([len(row) for row in reference.encode(test)]))
    assert max(means) > 1.05 * min(means)
    native = FastTokenizer.fit(data, norm_mode=None, clip=None, eob=False)
    assert np.mean([len(row) for row in native.encode(test)]) <= 1.01 * min(means)


def test_d5_values_out_of_range(reference, parity, safe):
    low = np.full((1, T, A), -9.0)  # far below the fitted range
    ids = reference.encode(low)
    assert (
        parity.characters(low) == np.maximum(coefficients(low).reshape(1, -1) - reference.low, 0)
    ).all()
    assert parity.encode(low) == ids
    lost = np.abs(decoded(parity, ids, on_error="zeros")[0]).max()
    assert lost < 6  # silently something else than 9
    for chunk in (low, -low):
        x, valid, _ = decoded(safe, safe.encode(chunk))
        Q = coefficients(x)
        assert valid.all() and safe.clip_fraction(chunk) > 0  # counted
        assert Q.min() >= safe.min_token and Q.max() <= safe.max_token


def test_d6_a_wrong_length_is_reported_and_treated_as_asked(reference, parity):
    ids = next(row for row in reference.encode(TEST) if decoded(parity, [row])[1][0])
    long, short = [*ids, ids[0]], ids[:-1]
    assert (reference.decode([long, short], (T, A)) == 0).all()  # the middle of the range
    hold = np.full((T, A), 0.5)
    x, valid, info = decoded(parity, [long, short, ids])
    assert valid.tolist() == [False, False, True]
    np.testing.assert_allclose(x[0], x[2], atol=1e-6)
    assert info["overflow"][0] > 0 and info["padded"][1] > 0
    assert (decoded(parity, [long, short], on_error="zeros")[0] == 0).all()
    assert (decoded(parity, [long, short], on_error="hold", fallback=hold)[0] == 0.5).all()
    with pytest.raises(ValueError, match="row 0 are no chunk"):
        decoded(parity, [long], on_error="raise")


def test_d7_no_shape_is_remembered(parity):
    ids = parity.encode(TEST[:1])
    parity.decode(ids, horizon=T, action_dim=A)
    with pytest.raises(ValueError, match="needs horizon= and action_dim="):
        parity.decode(ids)
    x, valid, _ = parity.decode(ids, horizon=A, action_dim=T)  # another shape of the same size
    assert x.shape == (1, A, T) and valid.all()


# Files.


def test_files_are_read_by_the_rust_package_as_the_reference_would(tmp_path):
    ours = HFFastTokenizer.fit(smooth(500, T, A, 0))
    ours.save(tmp_path / "t")
    names = sorted(p.name for p in (tmp_path / "t").iterdir())
    assert names == [
        "hf_fast.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((tmp_path / "t" / "processor_config.json").read_text())
    rust = Tokenizer.from_file(str(tmp_path / "t" / "tokenizer.json"))
    data = smooth(100, T, A, 1)
    x = ours.stats.normalize(data.astype(np.float64))
    Q = np.around(scipy.fft.dct(x, axis=1, norm="ortho") * config["scale"]).astype(int)
    texts = ["".join(map(chr, row.flatten() - config["min_token"])) for row in Q]
    want = [found.ids for found in rust.encode_batch(texts)]
    back = tk.load(tmp_path / "t")
    changed = (ours.characters(x, normalized=True) != Q.reshape(100, -1) - ours.min_token).any(1)
    for i in np.flatnonzero(~changed):
        assert back.encode(x[i], normalized=True) == [want[i]]
    assert config["auto_map"]["AutoProcessor"].endswith(".UniversalActionProcessor")
    assert (config["time_horizon"], config["action_dim"]) == (T, A)
    assert back.max_token == ours.max_token and back.strict is True


def test_the_newer_layout_and_a_foreign_folder(reference, tmp_path):
    folder = tmp_path / "new"
    (folder / "bpe_tokenizer").mkdir(parents=True)
    reference.rust._tokenizer.save(str(folder / "bpe_tokenizer" / "tokenizer.json"))
    config = {"scale": 10, "min_token": reference.low, "time_horizon": T, "action_dim": A}
    (folder / "processor_config.json").write_text(json.dumps(config))
    loaded = tk.load(folder)
    assert loaded.encode(TEST[:5]) == reference.encode(TEST[:5])
    assert loaded.decode(reference.encode(TEST[:1]))[0].shape == (1, T, A)
    (folder / "processor_config.json").write_text(json.dumps({"scale": 10}))
    with pytest.raises(ValueError, match="lacks min_token"):
        HFFastTokenizer.load(folder)


def test_a_folder_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"lacks processor_config\.json"):
        HFFastTokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the path of its folder"):
        HFFastTokenizer.load("rlx-tests/no-such-tokenizer/at-all")


# Bad input.


def test_ranges_that_do_not_fit():
    with pytest.raises(ValueError, match=r"vocab_size 50 is smaller than the range of \d+"):
        HFFastTokenizer.fit(FIT, norm_mode=None, vocab_size=50)
    width = int(np.ptp(coefficients(FIT)))
    with pytest.warns(UserWarning, match="leave fewer than 100"):
        HFFastTokenizer.fit(FIT, norm_mode=None, vocab_size=width + 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HFFastTokenizer.fit(FIT, norm_mode=None)


def test_an_unknown_strictness(parity):
    with pytest.raises(ValueError, match="strict is True or 'reference', got 'no'"):
        HFFastTokenizer(parity.rust, 10.0, 0, strict="no")


def test_tokens_that_are_no_utf8():
    shown = {byte: character for character, byte in utf8.shown_bytes().items()}
    spell = lambda *raw: "".join(shown[b] for b in raw)  # noqa: E731
    vocab = {
        spell(0x41): 0,
        spell(0xC3): 1,  # first byte of two
        spell(0xA9): 2,  # second byte
        spell(0xC3, 0xA9): 3,
        spell(0xA9, 0x41, 0xC3): 4,
        spell(0xC3, 0x41): 5,  # no second byte
        spell(0x41, 0xA9): 6,  # no first byte
        spell(0xE4): 7,  # three bytes: beyond what coefficients need
        spell(0xC0): 8,  # never in UTF-8
    }
    table = utf8.halves(vocab)
    assert table.entry.tolist() == [0, 0, 1, 0, 1, -1, -1, -1, -1]
    assert table.lengths[:5].tolist() == [2, 1, 1, 2, 4]
    assert table.largest[:5].tolist() == [0x41, -1, -1, 0xE9, 0x41]
    assert table.pending[:5].tolist() == [-1, 0xC0, -1, -1, 0xC0]
    np.testing.assert_array_equal(utf8.representable(vocab, 0xF0).nonzero()[0], [0x41, 0xE9])
    np.testing.assert_array_equal(
        utf8.nearest(np.array([0, 1, 0, 0, 1, 0], bool)), [1, 1, 1, 4, 4, 4]
    )
    with pytest.raises(ValueError, match="writes none"):
        utf8.nearest(np.zeros(4, bool))
