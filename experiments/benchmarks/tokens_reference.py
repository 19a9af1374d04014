"""FAST as the public code does it, written from its description on `tokenizers` and SciPy: one
chunk at a time, characters of coefficients, byte-level byte-pair encoding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.fft import dct, idct
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer


class Reference:
    """The reference tokenizer for normalised chunks `[B, T, A]`."""

    def __init__(self, chunks: np.ndarray, scale: float = 10.0, vocab_size: int = 1024) -> None:
        self.scale, self.shape = scale, chunks.shape[1:]
        flat = [np.around(dct(c, axis=0, norm="ortho") * scale).flatten() for c in chunks]
        self.low = int(min(row.min() for row in flat))
        high = int(max(row.max() for row in flat))
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=[chr(i) for i in range(high - self.low + 1)],
            max_token_length=10000,
        )
        texts = ("".join(map(chr, (row - self.low).astype(int))) for row in flat)
        self.bpe: Any = ByteLevelBPETokenizer()
        self.bpe._tokenizer.train_from_iterator(texts, trainer=trainer)

    def texts(self, chunks: np.ndarray) -> list[str]:
        """Return the characters of each chunk."""
        coefficients = np.around(dct(chunks, axis=1, norm="ortho") * self.scale)
        return [
            "".join(map(chr, np.maximum(c.flatten() - self.low, 0).astype(int)))
            for c in coefficients
        ]

    def encode(self, chunks: np.ndarray) -> list[list[int]]:
        """Return ids, one call per chunk."""
        return [self.bpe.encode(text).ids for text in self.texts(chunks)]

    def encode_batch(self, chunks: np.ndarray) -> list[list[int]]:
        """Return ids, one call for all: faster than the public code."""
        return [found.ids for found in self.bpe.encode_batch(self.texts(chunks))]

    def decode(self, ids: list[list[int]]) -> np.ndarray:
        """Return normalised chunks, zeros where the length is wrong."""
        out = []
        for row in ids:
            text = self.bpe.decode(row)
            coefficients = np.array(list(map(ord, text))) + self.low
            if coefficients.size != np.prod(self.shape):
                coefficients = np.zeros(self.shape)
            coefficients = coefficients.reshape(self.shape)
            out.append(idct(coefficients / self.scale, axis=0, norm="ortho"))
        return np.stack(out)
