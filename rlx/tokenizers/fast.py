"""FAST (Pertsch et al. 2025, arXiv 2501.09747) over integers: about 30 tokens per arm and second.

  x = normalised chunk [T, A], clipped to +-clip      C = DCT of x along time
  Q = rint(scale C), clipped to +-bound               s = Q flattened, lowest frequencies first
  ids = byte-pair encoding of s without its trailing zeros
Decoding undoes it and cannot fail in silence: see `rlx.ops.action_tokens`. Differs from the paper's
code: the alphabet is symmetric and 10 % wider than the fit set and belongs to the vocabulary as a
whole, so that no coefficient is lost; symbols are integers, not bytes of UTF-8; the trailing zeros
are left out (`eob`), so that every prefix of a chunk's ids is a smooth chunk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from rlx.ops.action_tokens import Codec, Encoder
from rlx.ops.dct import basis, dct
from rlx.tokenizers import bpe, files
from rlx.tokenizers.chunks import (
    as_groups,
    check_scale,
    fit_stats,
    fitted_shape,
    normal,
    rows,
)
from rlx.tokenizers.coded import Coded, Units
from rlx.tokenizers.stats import NormStats

WIDER = 1.1  # the alphabet's bound over the largest coefficient of the fit set
ORDERS = ("time", "dim")
FIELDS = ("scale", "bound", "order", "eob", "clip", "horizon", "action_dim", "fit_info")


@dataclass(frozen=True, eq=False)
class FastTokenizer(Coded):
    """The native FAST tokenizer; made by `fit` or `load`.

    stats None: actions come normalised. horizon or action_dim None: any.
    """

    scale: float  # gamma, steps of a coefficient per unit
    bound: int  # symbols are coefficients -bound..bound
    merges: np.ndarray  # [M, 2] int32
    order: str = "time"  # all dims of frequency 0 first, as published; "dim" = dim by dim
    eob: bool = True
    clip: float | None = 2.0  # of normalised actions
    horizon: int | None = None
    action_dim: int | None = None
    stats: NormStats | None = None
    fit_info: dict[str, float] = field(default_factory=dict)

    name = "fast"

    @classmethod
    def fit(
        cls,
        actions: Any,
        *,
        scale: float = 10.0,
        vocab_size: int | None = 1024,
        order: str = "time",
        eob: bool = True,
        clip: float | None = 2.0,
        norm_mode: str | None = "quantile",
        allow_any_shape: bool = False,
    ) -> Self:
        """Fit on chunks `[B, T, A]`, or on a list of such with horizons of their own.

        vocab_size None: the alphabet alone, without merges. norm_mode None: the actions are
        normalised already. ValueError if a setting is out of range or the alphabet does not fit
        into `vocab_size`.
        """
        check_scale(scale)
        if order not in ORDERS:
            raise ValueError(f"order is one of {', '.join(ORDERS)}, got {order!r}")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip is a number > 0 or None, got {clip}")
        groups = as_groups(actions)
        stats = fit_stats(groups, norm_mode)
        chunks = [normal(group, stats) for group in groups]
        found = [_coefficients(x, scale, clip) for x in chunks]
        bound = int(np.ceil(WIDER * max(np.abs(Q).max() for Q in found)))
        alphabet = 2 * bound + 1
        if bound == 0:
            warnings.warn("every coefficient rounds to 0: one symbol, no merges", stacklevel=2)
        if vocab_size is None:
            vocab_size = alphabet
        if alphabet > min(vocab_size, bpe.MOST):
            raise ValueError(_too_small(vocab_size, bound, scale))
        words = [word for Q in found for word in _words(Q, bound, order, eob)]
        merges = bpe.train(words, alphabet, vocab_size)
        shape = fitted_shape(groups, allow_any_shape)
        made = cls(scale, bound, merges, order, eob, clip, *shape, stats)
        info = {
            "n_chunks": len(words),
            "mean_tokens": float(np.mean([len(ids) for ids in made._encode_words(words)])),
            **_lost(chunks, found, scale, clip),
        }
        return replace(made, fit_info=info)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._table.lengths)

    def encode(self, actions: Any, *, normalized: bool = False) -> list[list[int]]:
        """Return the ids of each chunk of `actions [B, T, A]`, in the data's units unless
        `normalized`; values and coefficients out of range are clipped (`clip_fraction`).
        """
        Q = self.coefficients(actions, normalized=normalized)
        return self._encode_words(_words(Q, self.bound, self.order, self.eob))

    def coefficients(self, actions: Any, *, normalized: bool = False) -> np.ndarray:
        """Return Q `[B, T, A]` int32 before it is clipped to the alphabet."""
        return _coefficients(self.normal(actions, normalized), self.scale, self.clip)

    def clip_fraction(self, actions: Any, *, normalized: bool = False) -> float:
        """Return the share of numbers that `encode` changes: actions beyond `clip`, coefficients
        beyond the alphabet.
        """
        x = self.normal(actions, normalized)
        values = 0.0 if self.clip is None else float((np.abs(x) > self.clip).mean())
        Q = self.coefficients(x, normalized=True)
        return values + float((np.abs(Q) > self.bound).mean())

    def _codec(self, units: Units) -> Codec:
        T, A, scale, offset = units
        table = self._table
        place = None
        if self.order == "dim":
            place = np.arange(T * A, dtype=np.int32).reshape(A, T).T.reshape(-1, 1)
        return Codec(
            lengths=table.lengths,
            size=np.int32(T * A),
            eob=np.bool_(self.eob),
            start=table.start,
            flat=((table.flat.astype(np.float64) - self.bound) / self.scale).astype(np.float32),
            basis=basis(T),
            scale=scale,
            offset=offset,
            place=place,
        )

    def encoder(
        self,
        horizon: int | None = None,
        action_dim: int | None = None,
        *,
        normalized: bool = False,
    ) -> Encoder:
        """Return what encodes chunks of this shape on an accelerator."""
        T, A, scale, offset = self.units(horizon, action_dim, normalized)
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        grid = np.arange(T * A, dtype=np.int32).reshape(T, A)
        return Encoder(
            basis=basis(T),
            inverse_scale=inverse,
            offset=offset,
            clip=np.float32(np.inf if self.clip is None else self.clip),
            gamma=np.float32(self.scale),
            bound=np.int32(self.bound),
            eob=np.bool_(self.eob),
            rank=bpe.ranks(self.merges, self.vocab_size),
            source=None if self.order == "time" else grid.T.reshape(-1),
        )

    def save(self, path: str | Path) -> None:
        """Write `<name>.json` into the folder `path`."""
        saved = {name: getattr(self, name) for name in FIELDS}
        files.write(path, self.name, {**saved, "merges": self.merges.tolist()}, self.stats)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; the ids are the same, bit for bit."""
        saved = files.read(path, cls.name)
        merges = np.array(saved.pop("merges"), np.int32).reshape(-1, 2)
        return cls(**saved, merges=merges)

    @cached_property
    def _table(self) -> bpe.Table:
        return bpe.tables(2 * self.bound + 1, self.merges)

    @cached_property
    def _encode_words(self) -> Callable[[list[str]], list[list[int]]]:
        return bpe.encoder(2 * self.bound + 1, self.merges)


def _coefficients(x: np.ndarray, scale: float, clip: float | None) -> np.ndarray:
    """rint(scale DCT(x)) of normalised chunks, `[B, T, A]` int32."""
    if clip is not None:
        x = np.clip(x, -clip, clip)
    return np.rint(dct(x) * x.dtype.type(scale)).astype(np.int32)


def _lost(
    chunks: list[np.ndarray], found: list[np.ndarray], scale: float, clip: float | None
) -> dict[str, float]:
    """Normalised RMSE of the fit set (the DCT keeps it) and the share of clipped numbers."""
    numbers = sum(x.size for x in chunks)
    squares = sum(float(np.sum((dct(x) - Q / scale) ** 2)) for x, Q in zip(chunks, found))
    clipped = 0 if clip is None else sum(int((np.abs(x) > clip).sum()) for x in chunks)
    return {"rmse": float(np.sqrt(squares / numbers)), "clip_frac": clipped / numbers}


def _words(Q: np.ndarray, bound: int, order: str, eob: bool) -> list[str]:
    """Each chunk of coefficients as one text, with `eob` up to the last that is not zero."""
    flat = rows(Q if order == "time" else Q.swapaxes(1, 2))
    counts = np.full(len(flat), flat.shape[1])
    if eob:
        present = flat[:, ::-1] != 0
        counts = np.where(present.any(1), counts - present.argmax(1), 0)
    return bpe.texts(np.clip(flat, -bound, bound) + bound, counts)


def _too_small(vocab_size: int, bound: int, scale: float) -> str:
    alphabet, most = 2 * bound + 1, min(vocab_size, bpe.MOST)
    lower = f"scale <= {scale * ((most - 1) // 2) / bound:.3g}"
    if alphabet > bpe.MOST:
        return (
            f"{alphabet} coefficients are more than {bpe.MOST}, the largest alphabet; use {lower}"
        )
    return (
        f"vocab_size {vocab_size} is smaller than the alphabet of {alphabet} coefficients; "
        f"use vocab_size >= {alphabet} or {lower}"
    )


class DctNoBpeTokenizer(FastTokenizer):
    """The ablation without byte-pair encoding: each of the T A coefficients is a token."""

    name = "dct"

    @classmethod
    def fit(cls, actions: Any, *, scale: float = 10.0, **settings: Any) -> Self:
        """Fit on chunks `[B, T, A]`; `settings` are those of `FastTokenizer.fit`."""
        fixed = {"vocab_size": None, "eob": False}
        if given := sorted(fixed.keys() & settings):
            raise ValueError(f"without merges {', '.join(given)} cannot be chosen")
        return super().fit(actions, scale=scale, **settings, **fixed)
