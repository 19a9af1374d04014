"""Binning of every k-th step, the steps between drawn as straight lines."""

from __future__ import annotations

import numpy as np

from rlx.tokenizers.bins import BinningTokenizer


def subsampled(test: np.ndarray, stride: int) -> dict[str, float]:
    """Return the figures of normalised chunks `[B, T, A]` of which every `stride`-th step is kept;
    after the last one kept its action is held.
    """
    _, T, A = test.shape
    tokenizer, kept = BinningTokenizer(), np.arange(0, T, stride)
    ids = tokenizer.encode(test[:, kept])
    x, valid, _ = tokenizer.decode(ids, horizon=len(kept), action_dim=A)
    between = np.minimum(np.arange(T) / stride, len(kept) - 1)
    left = np.floor(between).astype(int)
    right = np.minimum(left + 1, len(kept) - 1)
    share = (between - left)[:, None]
    error = (1 - share) * x[:, left] + share * x[:, right] - test
    tokens = float(len(kept) * A)
    return {
        "chunks": len(test),
        "mean_tokens": tokens,
        "p95_tokens": tokens,
        "p999_tokens": tokens,
        "max_tokens": tokens,
        "ratio": T * A / tokens,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "max_error": float(np.abs(error).max()),
        "clip_frac": tokenizer.clip_fraction(test),
        "failures": float(1 - valid.mean()),
        "vocab_size": tokenizer.vocab_size,
    }
