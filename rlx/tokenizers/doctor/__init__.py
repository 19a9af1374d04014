"""Is FAST right for these actions, and with which settings? `python -m rlx.tokenizers.doctor`.

Fits on four fifths of the chunks, measures on the rest: tokens per chunk, error, clipping, chunks
that do not come back in the public format and in ours; recommends scale, vocabulary and length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlx.ops.action_tokens import decode_coefficients
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.chunks import as_chunks, pad
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.hf import HFFastTokenizer
from rlx.tokenizers.measure import measure
from rlx.tokenizers.stats import NormStats

SCALES = (2.0, 5.0, 10.0, 20.0, 50.0)
MERGES = (0, 32, 128, 512)  # ids beside the alphabet
VOCABULARIES = (1024, 2048)
WORTH = 1.1  # a vocabulary is large enough if it needs at most so many times the fewest tokens
AROUND = 2  # end marker and eos
FAR = 5.0  # of half the width between the quantiles: beyond it no tail lies, but faults do


def diagnose(chunks: np.ndarray, rmse: float = 0.02, vocab_size: int = 1024) -> dict[str, Any]:
    """Return all figures of chunks `[B, T, A]`; `rmse` is the normalised error to stay under.

    vocab_size: of the sweep over scales, and one of the vocabularies that are tried. ValueError for
    fewer than ten chunks, and for numbers that are not finite.
    """
    chunks = as_chunks(chunks)
    if not 0 < rmse < np.inf or vocab_size < 1:
        raise ValueError(
            f"rmse is a number > 0 and vocab_size >= 1, got rmse={rmse:g}, vocab_size={vocab_size}"
        )
    if len(chunks) < 10:
        raise ValueError(f"a diagnosis needs at least 10 chunks, got {len(chunks)}")
    mixed = np.random.default_rng(0).permutation(len(chunks))
    held_out, rest = chunks[mixed[: len(chunks) // 5]], chunks[mixed[len(chunks) // 5 :]]
    bins, stats = BinningTokenizer.fit(rest), NormStats.fit(rest)
    largest = np.abs(stats.normalize(chunks)).max((0, 1))
    tried = (_at_scale(rest, held_out, scale, vocab_size) for scale in SCALES)
    sweep = [row for row in tried if row is not None]
    fine = [row for row in sweep if row["rmse"] <= rmse]
    chosen = fine[0] if fine else min(sweep, key=lambda row: row["rmse"])
    scale = chosen["scale"]
    sizes = _sizes(rest, held_out, scale, int(chosen["alphabet"]), vocab_size)
    fewest = min(row["mean_tokens"] for row in sizes)
    size = next(row for row in sizes if row["mean_tokens"] <= WORTH * fewest)
    return {
        "shape": list(chunks.shape),
        "constant_dims": np.flatnonzero(stats.constant).tolist(),
        "outliers": [
            {"dim": int(dim), "largest": float(largest[dim])}
            for dim in np.flatnonzero(largest > FAR)
        ],
        "binning": measure(bins, held_out),
        "scales": sweep,
        "vocabularies": sizes,
        "round_trip_failures": {
            "reference_format": _reference_failures(rest, held_out, scale, vocab_size),
            "ours": chosen["round_trip_failures"],
        },
        "recommended": {
            "scale": scale,
            "vocab_size": size["vocab_size"],
            "max_action_tokens": int(size["p999_tokens"]) + AROUND,
            "meets_rmse": bool(fine),
        },
    }


def _at_scale(
    rest: np.ndarray, held_out: np.ndarray, scale: float, vocab_size: int
) -> dict[str, float] | None:
    """Figures of a scale; None where long chunks have more coefficients than an alphabet holds."""
    try:
        tokenizer = FastTokenizer.fit(rest, scale=scale, vocab_size=None)
    except ValueError:
        return None
    alphabet = tokenizer.vocab_size
    tokenizer = FastTokenizer.fit(rest, scale=scale, vocab_size=max(vocab_size, alphabet))
    return {
        "scale": scale,
        "alphabet": alphabet,
        "round_trip_failures": _failures(tokenizer, held_out),
        **measure(tokenizer, held_out),
    }


def _sizes(
    rest: np.ndarray, held_out: np.ndarray, scale: float, alphabet: int, asked: int
) -> list[dict[str, float]]:
    """Figures by size of vocabulary, from small to large."""
    whole = {v for v in (*VOCABULARIES, asked) if v > alphabet}
    sizes = sorted({alphabet + m for m in MERGES} | whole)
    out = []
    for size in sizes:
        tokenizer = FastTokenizer.fit(rest, scale=scale, vocab_size=size)
        out.append({"vocab_size": tokenizer.vocab_size, **measure(tokenizer, held_out)})
    return out


def _failures(tokenizer: FastTokenizer | HFFastTokenizer, chunks: np.ndarray) -> float:
    """The share of chunks whose decoded coefficients are not the rounded ones."""
    codec = tokenizer.codec(normalized=True)
    found, valid, _ = decode_coefficients(codec, pad(tokenizer.encode(chunks)))
    right = np.rint(found * tokenizer.scale) == tokenizer.coefficients(chunks)
    return float(1 - (right.all((1, 2)) & valid).mean())


def _reference_failures(
    rest: np.ndarray, held_out: np.ndarray, scale: float, vocab_size: int
) -> float | None:
    """Failures of the public format; None where its alphabet does not fit into `vocab_size`."""
    try:
        tokenizer = HFFastTokenizer.fit(
            rest, scale=scale, vocab_size=vocab_size, strict="reference"
        )
    except ValueError:
        return None
    return _failures(tokenizer, held_out)


def text(found: dict[str, Any]) -> str:
    """Return the diagnosis as lines to read."""
    B, T, A = found["shape"]
    bins, best = found["binning"], found["recommended"]
    lines = [f"{B} chunks of {T} steps x {A} dims; binning writes {bins['mean_tokens']:.0f} tokens"]
    if found["constant_dims"]:
        lines.append(f"constant dims: {found['constant_dims']}")
    for dim, value in (row.values() for row in found["outliers"]):
        lines.append(f"outliers: dim {dim} goes to {value:.1f}, where 98 % of it lie within 1")
    head = f"{'scale':>7} {'alphabet':>9} {'tokens':>7} {'99.9 %':>7} {'ratio':>6}"
    lines.append(f"{head} {'rmse':>8} {'clipped':>8} {'failed':>7}")
    for row in found["scales"]:
        lines.append(
            f"{row['scale']:>7g} {row['alphabet']:>9d} {row['mean_tokens']:>7.1f} "
            f"{row['p999_tokens']:>7.0f} {row['ratio']:>6.1f} {row['rmse']:>8.4f} "
            f"{row['clip_frac']:>8.5f} {row['round_trip_failures']:>7.4f}"
        )
    lines.append(f"{'vocabulary':>12} {'tokens':>7} {'99.9 %':>7}")
    for row in found["vocabularies"]:
        lines.append(
            f"{row['vocab_size']:>12d} {row['mean_tokens']:>7.1f} {row['p999_tokens']:>7.0f}"
        )
    failed = found["round_trip_failures"]
    public = failed["reference_format"]
    public = "its alphabet does not fit" if public is None else f"{public:.4f}"
    lines.append(f"chunks that do not come back: public format {public}, ours {failed['ours']:.4f}")
    lines.append(
        f"recommended: scale={best['scale']:g} vocab_size={best['vocab_size']}, "
        f"{best['max_action_tokens']} tokens for actions, end marker and eos (the prompt comes "
        "on top)" + ("" if best["meets_rmse"] else "; NO scale meets the error asked for")
    )
    return "\n".join(lines)
