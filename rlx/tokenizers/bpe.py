"""Byte-pair encoding of integer symbols 0..K-1: trained and applied by the Rust package
`tokenizers`, expanded by tables.

A symbol i is written as one CJK ideograph, so that no character is whitespace, changes its bytes or
splits a word: merges depend on counts alone. Ids 0..K-1 are the symbols, then the merges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

FIRST = 0x4E00  # of the CJK ideographs, 20 902 letters in a row
MOST = 20_902
MIN_FREQUENCY = 2  # of a pair that is merged


class Table(NamedTuple):
    """What the ids stand for; token `id` is `flat[start[id] : start[id] + lengths[id]]`."""

    lengths: np.ndarray  # [V] int32
    start: np.ndarray  # [V] int32
    flat: np.ndarray  # [sum of lengths] int16 symbols


def texts(symbols: np.ndarray, counts: np.ndarray) -> list[str]:
    """Return the first `counts [B]` symbols of each row of `symbols [B, N]` as text."""
    text = (symbols + FIRST).astype("<u4").tobytes().decode("utf-32-le")
    starts = np.arange(len(symbols)) * symbols.shape[1]
    return [text[a:b] for a, b in zip(starts.tolist(), (starts + counts).tolist())]


def train(words: Iterable[str], alphabet: int, vocab_size: int, longest: int) -> np.ndarray:
    """Return the merges `[M, 2]` int32 (pairs of ids, first to be merged first).

    `longest`: symbols of a token. At most `vocab_size` ids come out, fewer if no pair is left that
    occurs twice.
    """
    from tokenizers import Tokenizer, models, trainers

    if alphabet > MOST:
        raise ValueError(f"an alphabet has at most {MOST} symbols, got {alphabet}: lower the scale")
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[],
        initial_alphabet=[chr(FIRST + i) for i in range(alphabet)],
        max_token_length=longest,
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer=trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = model["vocab"]
    pairs = [[vocab[left], vocab[right]] for left, right in model["merges"]]
    return np.array(pairs, np.int32).reshape(-1, 2)


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


def encoder(merges: np.ndarray, table: Table) -> Callable[[list[str]], list[list[int]]]:
    """Return a function from texts of symbols to their ids."""
    from tokenizers import Tokenizer, models

    text = (table.flat.astype(np.int32) + FIRST).astype("<u4").tobytes().decode("utf-32-le")
    names = [text[a : a + n] for a, n in zip(table.start.tolist(), table.lengths.tolist())]
    model: Any = models.BPE(
        vocab={name: i for i, name in enumerate(names)},
        merges=[(names[left], names[right]) for left, right in merges.tolist()],
        cache_capacity=0,  # no chunk comes twice
    )
    tokenizer = Tokenizer(model)
    return lambda words: [found.ids for found in tokenizer.encode_batch_fast(words)]
