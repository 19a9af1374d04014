"""Is FAST right for these actions, and with which settings?

  python -m rlx.tokenizers.doctor actions.npy            array [episodes or chunks, T, A]
  python -m rlx.tokenizers.doctor data.npz --key=actions --horizon=50 --json

Fits on four fifths of the chunks, measures on the rest: tokens per chunk, error, clipping, chunks
that do not come back in the public format and in ours; recommends scale, vocabulary and length.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
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

Read = Callable[[Path, str | None], np.ndarray]  # (path, key) -> [episodes, T, A]


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Return the actions `[N, T, A]` in an .npy file, or under `key` (default: "actions", or the
    only array) in an .npz file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: expected an .npy or .npz file")
    found = np.load(path)
    if isinstance(found, np.ndarray):
        return found
    key = key or ("actions" if "actions" in found.files else None)
    if key is None and len(found.files) == 1:
        key = found.files[0]
    if key not in found.files:
        raise ValueError(f"{path} has arrays {', '.join(found.files)}: name one with --key")
    return found[key]


def cut(episodes: np.ndarray, horizon: int | None) -> np.ndarray:
    """Return whole pieces of `horizon` steps `[.., horizon, A]` of episodes `[N, T, A]`."""
    chunks = as_chunks(episodes)
    T, A = chunks.shape[1:]
    if horizon is None:
        return chunks
    if not 1 <= horizon <= T:
        raise ValueError(f"horizon is 1 to the {T} steps of an episode, got {horizon}")
    return chunks[:, : T - T % horizon].reshape(-1, horizon, A)


def diagnose(chunks: np.ndarray, rmse: float = 0.02, vocab_size: int = 1024) -> dict[str, Any]:
    """Return all figures of chunks `[B, T, A]`; `rmse` is the normalised error to stay under.

    ValueError for fewer than ten chunks.
    """
    if len(chunks) < 10:
        raise ValueError(f"a diagnosis needs at least 10 chunks, got {len(chunks)}")
    mixed = np.random.default_rng(0).permutation(len(chunks))
    held_out, rest = chunks[mixed[: len(chunks) // 5]], chunks[mixed[len(chunks) // 5 :]]
    bins = BinningTokenizer.fit(rest)
    sweep = [_at_scale(rest, held_out, scale, vocab_size) for scale in SCALES]
    fine = [row for row in sweep if row["rmse"] <= rmse]
    chosen = fine[0] if fine else min(sweep, key=lambda row: row["rmse"])
    scale = chosen["scale"]
    sizes = _sizes(rest, held_out, scale, int(chosen["alphabet"]))
    fewest = min(row["mean_tokens"] for row in sizes)
    size = next(row for row in sizes if row["mean_tokens"] <= WORTH * fewest)
    return {
        "shape": list(chunks.shape),
        "constant_dims": np.flatnonzero(NormStats.fit(rest).constant).tolist(),
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
) -> dict[str, float]:
    tokenizer = FastTokenizer.fit(rest, scale=scale, vocab_size=None)
    alphabet = tokenizer.vocab_size
    tokenizer = FastTokenizer.fit(rest, scale=scale, vocab_size=max(vocab_size, alphabet))
    return {
        "scale": scale,
        "alphabet": alphabet,
        "round_trip_failures": _failures(tokenizer, held_out),
        **measure(tokenizer, held_out),
    }


def _sizes(
    rest: np.ndarray, held_out: np.ndarray, scale: float, alphabet: int
) -> list[dict[str, float]]:
    """Figures by size of vocabulary, from small to large."""
    sizes = sorted({alphabet + m for m in MERGES} | {v for v in VOCABULARIES if v > alphabet})
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


def main(argv: list[str] | None = None, read: Read = read_array) -> int:
    """Run the command line; return the exit code. `read` brings other formats."""
    parser = argparse.ArgumentParser(
        prog="python -m rlx.tokenizers.doctor", description="Is FAST right for these actions?"
    )
    parser.add_argument("data", type=Path, help=".npy or .npz with actions [episodes, T, A]")
    parser.add_argument("--key", help="array of an .npz file")
    parser.add_argument("--horizon", type=int, help="cut episodes into chunks of so many steps")
    parser.add_argument("--rmse", type=float, default=0.02, help="normalised error to stay under")
    parser.add_argument("--vocab-size", type=int, default=1024)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    try:
        chunks = cut(read(args.data, args.key), args.horizon)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is in the diagnosis
            found = diagnose(chunks, args.rmse, args.vocab_size)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found) if args.json else text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
