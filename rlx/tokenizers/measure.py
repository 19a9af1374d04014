"""What a tokenizer costs and keeps: tokens per chunk, reconstruction, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rlx.tokenizers.chunks import as_chunks, normal

if TYPE_CHECKING:
    from rlx.tokenizers import ActionTokenizer


def measure(tokenizer: ActionTokenizer, actions: Any) -> dict[str, float]:
    """Return figures of `actions [B, T, A]`, in the data's units, encoded and decoded.

    tokens per chunk (mean_, p95_, p999_, max_tokens), ratio = T A / mean_tokens, rmse and max_error
    in normalised units, clip_frac, and failures: the share of chunks that do not decode as valid.
    """
    chunks = as_chunks(actions)
    _, T, A = chunks.shape
    ids = tokenizer.encode(chunks)
    x, valid, _ = tokenizer.decode(ids, horizon=T, action_dim=A, normalized=True)
    error = x - normal(chunks, tokenizer.stats)
    tokens = np.array([len(row) for row in ids])
    return {
        "chunks": len(chunks),
        "mean_tokens": float(tokens.mean()),
        "p95_tokens": float(np.quantile(tokens, 0.95, method="higher")),
        "p999_tokens": float(np.quantile(tokens, 0.999, method="higher")),
        "max_tokens": float(tokens.max()),
        "ratio": float(T * A / tokens.mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "max_error": float(np.abs(error).max()),
        "clip_frac": tokenizer.clip_fraction(chunks),
        "failures": float(1 - valid.mean()),
    }
