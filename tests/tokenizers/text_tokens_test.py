"""Text to ids: bytes, and a vocabulary from a file, with room for action ids."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer, Room

TEXTS = ["", "pick up the cup", "Größe | 5 µm\n"]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A folder with a small tokenizer.json, trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f"Task: reach the {c} disc, State: {i} {i * 7 % 256};\nAction: |" for i in range(256)
             for c in ("red", "green", "blue")]  # fmt: skip
    tokenizer.train_from_iterator(words, trainer)
    folder = tmp_path_factory.mktemp("text")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_bytes():
    t = ByteTokenizer()
    ids = t.encode(TEXTS)
    assert ids[0] == [] and ids[1][0] == 3 + ord("p")
    assert [t.decode(row) for row in ids] == TEXTS
    assert t.decode([t.bos, *ids[1], t.eos, t.pad, 259, 1000]) == TEXTS[1]
    assert "�" in t.decode(ids[2][:3])
    assert t.room(100) == Room(259, 1, 359)
    assert len({t.pad, t.eos, t.bos} | {i for row in ids for i in row} | {259}) > 4


def test_a_vocabulary_from_a_file(vocabulary):
    t = HFTextTokenizer(vocabulary, skip=4)
    rust = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    assert t.encode(TEXTS) == [rust.encode(text).ids for text in TEXTS]
    assert [t.decode(row) for row in t.encode(TEXTS)] == TEXTS
    assert (t.pad, t.eos, t.bos) == (0, 1, 2)
    size = rust.get_vocab_size()
    assert t.room(100) == Room(size - 5, -1, size)
    assert HFTextTokenizer(vocabulary / "tokenizer.json", vocab_size=9000).room(5).first == 8871


def test_the_published_room():
    """PaliGemma: id 0 is 257 023, id 1023 is 256 000, of the universal FAST 2047 is 254 976."""
    t = HFTextTokenizer.__new__(HFTextTokenizer)
    t.vocab_size, t.skip, t.pad, t.eos, t.bos = 257_152, 128, 0, 1, 2
    room = t.room(1024)
    assert [room.first + room.step * i for i in (0, 1023, 2047)] == [257_023, 256_000, 254_976]


def test_bad_input(vocabulary, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a tokenizer\.json or its folder"):
        HFTextTokenizer(tmp_path)
    with pytest.raises(ValueError, match="has no token '<start>'; name its own with"):
        HFTextTokenizer(vocabulary, bos="<start>")
    with pytest.raises(ValueError, match="has no room for 1000 action ids"):
        HFTextTokenizer(vocabulary).room(1000)
