"""Byte-pair encoding of integer symbols 0..K-1: trained and applied by the Rust package
`tokenizers`, expanded by tables.

A symbol i is written as one CJK ideograph, so that no character is whitespace, changes its bytes or
splits a word: merges depend on counts alone. Ids 0..K-1 are the symbols, then the merges.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FIRST = 0x4E00  # of the CJK ideographs, 20 992 in a row
MOST = 4096  # symbols: pairs of them are counted in one table
HEAD = 8  # merges done by replacing text: more cost as much as they save
BLOCK = 4096  # texts at a time: bounds the memory
MIN_FREQUENCY = 2  # of a pair that is merged


class Table(NamedTuple):
    """What the ids stand for; token `id` is `flat[start[id] : start[id] + lengths[id]]`."""

    lengths: np.ndarray  # [V] int32
    start: np.ndarray  # [V] int32
    flat: np.ndarray  # [sum of lengths] int16 symbols


def texts(symbols: np.ndarray, counts: np.ndarray) -> list[str]:
    """Return the first `counts [B]` symbols of each row of `symbols [B, N]` as text."""
    text = (symbols + FIRST).astype("<u2").tobytes().decode("utf-16-le")
    starts = np.arange(len(symbols)) * symbols.shape[1]
    return [text[a:b] for a, b in zip(starts.tolist(), (starts + counts).tolist())]


def train(words: list[str], alphabet: int, vocab_size: int) -> np.ndarray:
    """Return the merges `[M, 2]` int32 (pairs of ids, first to be merged first).

    At most `vocab_size` ids come out, fewer if no pair is left that occurs twice. The first merges
    are counted and done here, on all words at once; the Rust package goes on from there.
    """
    from tokenizers import Tokenizer, models, trainers

    if alphabet > MOST:
        raise ValueError(f"an alphabet has at most {MOST} symbols, got {alphabet}: lower the scale")
    text, merges = "\n".join(words), []
    for size in range(alphabet, min(alphabet + HEAD, vocab_size)):
        left, right, count = _commonest(text, size)
        if count < MIN_FREQUENCY:
            break
        merges.append([left, right])
        text = text.replace(chr(FIRST + left) + chr(FIRST + right), chr(FIRST + size))
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[],
        initial_alphabet=[chr(FIRST + i) for i in range(alphabet + len(merges))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split("\n"), trainer=trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = model["vocab"]
    merges += [[vocab[left], vocab[right]] for left, right in model["merges"]]
    return np.array(merges, np.int32).reshape(-1, 2)


def _commonest(text: str, size: int) -> tuple[int, int, int]:
    """The pair of ids < size that stands together most often in the words, and how often; of
    several the first.
    """
    ids = np.frombuffer(text.encode("utf-16-le"), "<u2").astype(np.int32) - FIRST
    together = (ids[:-1] >= 0) & (ids[1:] >= 0)  # the character between words is below FIRST
    counts = np.bincount((ids[:-1] * size + ids[1:])[together], minlength=1)
    left, right = divmod(int(counts.argmax()), size)
    return left, right, int(counts.max())


def tables(alphabet: int, merges: np.ndarray) -> Table:
    """Return the expansion of every id; merge m makes the id alphabet + m.

    ValueError for merges of ids not made yet, or that spell what another id does (training finds
    none: of two ways to spell a word, the pair merged first rules the other out).
    """
    spelled = [(i,) for i in range(alphabet)]
    for left, right in merges.tolist():
        if not (0 <= left < len(spelled) and 0 <= right < len(spelled)):
            raise ValueError(
                f"merge {len(spelled) - alphabet} of ids {left}, {right}: not yet made"
            )
        spelled.append(spelled[left] + spelled[right])
    if len(set(spelled)) < len(spelled):
        raise ValueError("two merges spell the same symbols")
    lengths = np.array([len(word) for word in spelled], np.int32)
    flat = np.array([symbol for word in spelled for symbol in word], np.int16)
    return Table(lengths, np.cumsum(lengths, dtype=np.int32) - lengths, flat)


def ranks(merges: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return the number of the merge of every two ids `[V, V]` (int16, V = none)."""
    rank = np.full((vocab_size, vocab_size), vocab_size, np.int16)
    rank[merges[:, 0], merges[:, 1]] = np.arange(len(merges))
    return rank


def encoder(alphabet: int, merges: np.ndarray) -> Callable[[list[str]], list[list[int]]]:
    """Return a function from texts of symbols to their ids.

    The first merges are done on all texts at once by replacing two characters by one, left to
    right, as byte-pair encoding does: they make up most of the work (runs of zeros), at a tenth of
    the price. The Rust package does the rest.
    """
    from tokenizers import Tokenizer, models

    first = alphabet + min(HEAD, len(merges))
    names = [chr(FIRST + i) for i in range(first)]
    pairs = [(names[left] + names[right]) for left, right in merges[:HEAD].tolist()]
    rest = merges[HEAD:].tolist()
    for left, right in rest:
        names.append(names[left] + names[right])
    model: Any = models.BPE(
        vocab={name: i for i, name in enumerate(names)},
        merges=[(names[left], names[right]) for left, right in rest],
        cache_capacity=0,  # no chunk comes twice
    )
    tokenizer = Tokenizer(model)

    def encode_block(words: list[str]) -> list[list[int]]:
        text = "\n".join(words)
        for i, pair in enumerate(pairs):
            text = text.replace(pair, names[alphabet + i])
        return [found.ids for found in tokenizer.encode_batch_fast(text.split("\n"))]

    def encode(words: list[str]) -> list[list[int]]:
        blocks = (words[i : i + BLOCK] for i in range(0, len(words), BLOCK))
        return [ids for block in blocks for ids in encode_block(block)]

    return encode
