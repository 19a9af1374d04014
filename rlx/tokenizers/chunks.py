"""What all action tokenizers share: checks of chunks, padding of ids, what to do with bad ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from rlx.tokenizers.stats import NormStats

Ids = Sequence[Sequence[int]] | np.ndarray  # lists, or [B, L] padded with -1
Decoded = tuple[np.ndarray, np.ndarray, dict[str, Any]]  # actions [B, T, A], valid [B], info
ON_ERROR = ("repair", "hold", "zeros", "raise")


def as_chunks(actions: Any) -> np.ndarray:
    """Return `actions` as `[B, T, A]` floats; `[T, A]` is a batch of one.

    ValueError for other ranks, no numbers, NaN or infinity (naming sample, step and dim).
    """
    chunks = np.asarray(actions)
    if not np.issubdtype(chunks.dtype, np.floating):
        chunks = chunks.astype(np.float32)
    if chunks.ndim not in (2, 3):
        raise ValueError(f"actions are [B, T, A] or [T, A], got shape {chunks.shape}")
    if 0 in chunks.shape[-2:]:
        raise ValueError(f"actions have no numbers: shape {chunks.shape}")
    chunks = chunks.reshape(-1, *chunks.shape[-2:])
    if not np.isfinite(chunks).all():
        sample, step, dim = np.argwhere(~np.isfinite(chunks))[0]
        raise ValueError(
            f"actions are not finite: sample {sample}, step {step}, dim {dim} is "
            f"{chunks[sample, step, dim]}"
        )
    return chunks


def as_groups(actions: Any) -> list[np.ndarray]:
    """Return the fit set as a list of `[B, T, A]`: it comes as one, or as a list of `[B, T, A]` or
    `[T, A]` with horizons of their own.

    ValueError for fewer than two chunks or different action dims.
    """
    mixed = isinstance(actions, list | tuple) and all(np.ndim(group) > 1 for group in actions)
    groups = [as_chunks(group) for group in (actions if mixed else [actions])]
    shapes = dict.fromkeys(group.shape[1:] for group in groups)
    groups = [np.concatenate([g for g in groups if g.shape[1:] == shape]) for shape in shapes]
    count = sum(len(group) for group in groups)
    if count < 2:
        raise ValueError(f"fitting needs at least 2 chunks, got {count}")
    if len({group.shape[2] for group in groups}) > 1:
        raise ValueError(f"chunks differ in action dims: {[group.shape for group in groups]}")
    return groups


def check_scale(scale: float) -> None:
    """Raise ValueError for steps per unit that are none."""
    if not 0 < scale < np.inf:
        raise ValueError(f"scale is a number > 0, got {scale}")


def fit_stats(groups: list[np.ndarray], mode: str | None) -> NormStats | None:
    """Return the statistics of all steps of all groups of chunks; None without a mode."""
    if mode is None:
        return None
    steps = [group.reshape(-1, group.shape[-1]) for group in groups]
    return NormStats.fit(np.concatenate(steps) if len(steps) > 1 else steps[0], mode)


def rows(chunks: np.ndarray) -> np.ndarray:
    """Return `[B, T, A]` as `[B, T A]`, B = 0 included."""
    return chunks.reshape(len(chunks), chunks.shape[1] * chunks.shape[2])


def normal(chunks: np.ndarray, stats: NormStats | None) -> np.ndarray:
    """Return the chunks in units of `stats`, or as they are."""
    if stats is None:
        return chunks
    _check_dims(stats, chunks.shape[2])
    return stats.normalize(chunks)


def scale_and_offset(stats: NormStats | None, action_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `[A]` float32 each, of actions = scale * normalised + offset."""
    if stats is None:
        return np.ones(action_dim, np.float32), np.zeros(action_dim, np.float32)
    _check_dims(stats, action_dim)
    return stats.scale.astype(np.float32), stats.offset.astype(np.float32)


def _check_dims(stats: NormStats, action_dim: int) -> None:
    if len(stats.mean) != action_dim:
        raise ValueError(
            f"chunks have {action_dim} numbers per action, the tokenizer's statistics "
            f"{len(stats.mean)}: normalise them and say normalized=True"
        )


def fitted_shape(groups: list[np.ndarray], any_shape: bool) -> tuple[int | None, int | None]:
    """Return (T, A) of the fit set, T None if it has several, both None for `any_shape`."""
    if any_shape:
        return None, None
    horizons = {group.shape[1] for group in groups}
    return (horizons.pop() if len(horizons) == 1 else None), groups[0].shape[2]


def check_shape(shape: tuple[int, int], fitted: tuple[int | None, int | None]) -> None:
    """Raise ValueError where a chunk's (T, A) is not the fitted one; None fits anything."""
    if any(want is not None and got != want for got, want in zip(shape, fitted)):
        raise ValueError(
            f"chunks are [T, A] = {list(shape)}, the tokenizer was fitted on {list(fitted)}; "
            "one that takes others is fitted with allow_any_shape=True"
        )


def resolve_shape(
    horizon: int | None, action_dim: int | None, fitted: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Return the (T, A) to decode to: what is given, else what was fitted; ValueError if neither.

    No shape is remembered from an earlier call: a second data set would silently get it.
    """
    T = fitted[0] if horizon is None else int(horizon)
    A = fitted[1] if action_dim is None else int(action_dim)
    if T is None or A is None:
        raise ValueError(
            "this tokenizer takes any shape: decoding needs horizon= and action_dim=, got "
            f"{T} and {A}"
        )
    check_shape((T, A), fitted)
    return T, A


def pad(ids: Ids) -> np.ndarray:
    """Return `ids` as `[B, L]` int32, padded with -1 on the right."""
    if not isinstance(ids, list | tuple):
        ids = np.asarray(ids)
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"ids are integers [B, L], got {ids.dtype} of shape {ids.shape}")
        return np.clip(ids, -2, np.iinfo(np.int32).max).astype(np.int32)
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    out = np.full((len(ids), int(lengths.max(initial=0))), -1, np.int32)
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
    # An id below 0 in a list is no padding: -2 keeps it malformed.
    flat = np.where(flat < 0, -2, np.minimum(flat, np.iinfo(np.int32).max))
    out[np.arange(out.shape[1]) < lengths[:, None]] = flat
    return out


def settle(
    actions: np.ndarray,
    valid: np.ndarray,
    info: dict[str, Any],
    middle: np.ndarray,
    on_error: str,
    fallback: np.ndarray | None,
) -> Decoded:
    """Treat the chunks that are not valid; `info` gains `invalid_frac`.

    on_error: "repair" keeps what was decoded (filled with zeros, cut), "hold" takes `fallback`
    (`[T, A]` or `[B, T, A]`), "zeros" takes `middle [A]`, the normalised zero, as the reference
    does, "raise" raises ValueError naming the first bad row.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is one of {', '.join(ON_ERROR)}, got {on_error!r}")
    if on_error == "hold":
        if fallback is None:
            raise ValueError("on_error='hold' needs fallback=, a chunk [T, A] or [B, T, A]")
        actions = np.where(valid[:, None, None], actions, fallback).astype(np.float32)
    elif on_error == "zeros":
        actions = np.where(valid[:, None, None], actions, middle.astype(np.float32))
    elif on_error == "raise" and not valid.all():
        row = int(np.argmin(valid))
        facts = ", ".join(f"{name} {value[row]}" for name, value in info.items())
        raise ValueError(f"ids of row {row} are no chunk: {facts}")
    return actions, valid, {**info, "invalid_frac": float(1 - valid.mean()) if len(valid) else 0.0}
