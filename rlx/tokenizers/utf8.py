"""Byte-level vocabularies as tables: what each token of the public FAST files stands for.

There a coefficient q is the character U+(q - min_token), written in UTF-8, and each byte is shown
as one printable character (the table of GPT-2). A token is a run of bytes, so it may begin or end
inside a two-byte character. Counted in halves of a character, tokens have fixed lengths all the
same: a one-byte character is two halves, each byte of a two-byte character one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

TWO_BYTES = 0x800  # characters below it take at most two bytes
LEADS = range(0xC2, 0xE0)  # first bytes of two-byte characters


class Halves(NamedTuple):
    """Tokens of a byte-level vocabulary in halves of a character."""

    lengths: np.ndarray  # [V] int32, halves
    start: np.ndarray  # [V] int32
    flat: np.ndarray  # [sum] int32, the two halves of a character add up to it
    entry: np.ndarray  # [V] int8, 0 or 1 half before it; -1 = no UTF-8 at all
    largest: np.ndarray  # [V] int32, largest character spelled as a whole, -1 if none
    pending: np.ndarray  # [V] int32, the least character that its last byte begins, -1 if none


@lru_cache(maxsize=1)
def shown_bytes() -> dict[str, int]:
    """Return {printable character: byte}, the inverse of GPT-2's table."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(hidden)}


def representable(vocab: Mapping[str, int], count: int) -> np.ndarray:
    """Return which characters 0..count-1 have all their bytes in the vocabulary, `[count]` bool."""
    shown = shown_bytes()
    has = {shown[token] for token in vocab if token in shown}
    return np.array([all(byte in has for byte in chr(c).encode()) for c in range(count)], bool)


def nearest(written: np.ndarray) -> np.ndarray:
    """Return for each character the nearest one that is `written [count]` (the lower of two)."""
    choices = np.flatnonzero(written)
    if not len(choices):
        raise ValueError("this vocabulary writes none of the coefficients")
    wanted = np.arange(len(written))
    right = np.searchsorted(choices, wanted).clip(0, len(choices) - 1)
    left = choices[np.maximum(right - 1, 0)]
    return np.where(wanted - left <= np.abs(choices[right] - wanted), left, choices[right])


def halves(vocab: Mapping[str, int]) -> Halves:
    """Return the tables of a vocabulary {token: id}; ids without a token stand for nothing."""
    size = max(vocab.values(), default=-1) + 1
    parts: list[list[int]] = [[0]] * size
    facts = np.full((3, size), -1, np.int32)
    shown = shown_bytes()
    for token, i in vocab.items():
        raw = [shown.get(character, -1) for character in token]
        read = _read(raw)
        if read is not None:
            parts[i], facts[:, i] = read
    lengths = np.array([len(part) for part in parts], np.int32)
    start = np.cumsum(lengths, dtype=np.int32) - lengths
    flat = np.array([value for part in parts for value in part], np.int32)
    return Halves(lengths, start, flat, facts[0].astype(np.int8), facts[1], facts[2])


def _read(raw: list[int]) -> tuple[list[int], tuple[int, int, int]] | None:
    """Halves of one token's bytes with its entry, largest and pending; None if it is no UTF-8."""
    if not raw:
        return None
    entry = int(0x80 <= raw[0] < 0xC0)
    out: list[int] = []
    largest, lead = -1, None
    inside = bool(entry)
    for byte in raw:
        if 0x80 <= byte < 0xC0:
            if not inside:
                return None
            out.append(byte & 0x3F)
            if lead is not None:
                largest = max(largest, lead + (byte & 0x3F))
            inside, lead = False, None
        elif inside:
            return None
        elif 0 <= byte < 0x80:
            out += [byte, 0]
            largest = max(largest, byte)
        elif byte in LEADS:
            lead, inside = (byte & 0x1F) << 6, True
            out.append(lead)
        else:
            return None
    return out, (entry, largest, -1 if lead is None else lead)


def texts(characters: np.ndarray) -> list[str]:
    """Return code points `[B, N]` as B texts."""
    text = characters.astype("<u4").tobytes().decode("utf-32-le")
    return [text[i : i + characters.shape[1]] for i in range(0, len(text), characters.shape[1])]


def train(words: list[str], largest: int, vocab_size: int) -> str:
    """Return the text of a tokenizer.json trained with the settings of the public files."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[],
        initial_alphabet=[chr(i) for i in range(largest + 1)],
        max_token_length=10_000,
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer=trainer)
    return tokenizer.to_str()
