"""What the tokenizers share: actions in units of their statistics, and decoding by a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from rlx.ops.action_tokens import Codec, decode
from rlx.tokenizers.chunks import (
    Decoded,
    Ids,
    as_chunks,
    check_shape,
    normal,
    pad,
    resolve_shape,
    scale_and_offset,
    settle,
)
from rlx.tokenizers.stats import NormStats


class Units(NamedTuple):
    """What chunks are decoded to: actions `[T, A]` = scale * normalised + offset."""

    T: int
    A: int
    scale: np.ndarray  # [A] float32
    offset: np.ndarray  # [A] float32


class Coded(ABC):
    """A tokenizer by its `_codec`; horizon, action_dim None = any, stats None = normalised."""

    horizon: int | None
    action_dim: int | None
    stats: NormStats | None

    def codec(
        self,
        horizon: int | None = None,
        action_dim: int | None = None,
        *,
        normalized: bool = False,
    ) -> Codec:
        """Return what decodes chunks of this shape under `jit` and constrains their sampling."""
        return self._codec(self.units(horizon, action_dim, normalized))

    def decode(
        self,
        ids: Ids,
        *,
        horizon: int | None = None,
        action_dim: int | None = None,
        normalized: bool = False,
        on_error: str = "repair",
        fallback: np.ndarray | None = None,
    ) -> Decoded:
        """Return actions `[B, T, A]` float32, valid `[B]` and info of lists of ids; see
        `chunks.settle` for `on_error` and `fallback`.
        """
        codec = self.codec(horizon, action_dim, normalized=normalized)
        found = self._decoded(codec, pad(ids))
        return settle(*found, np.asarray(codec.offset), on_error, fallback)

    def normal(self, actions: Any, normalized: bool) -> np.ndarray:
        """Return `actions` of the fitted shape as chunks `[B, T, A]` in units of `stats`."""
        chunks = as_chunks(actions)
        check_shape(chunks.shape[1:], (self.horizon, self.action_dim))
        return normal(chunks, None if normalized else self.stats)

    def units(self, horizon: int | None, action_dim: int | None, normalized: bool) -> Units:
        """Return the shape to decode to, given or fitted, and its units."""
        T, A = resolve_shape(horizon, action_dim, (self.horizon, self.action_dim))
        return Units(T, A, *scale_and_offset(None if normalized else self.stats, A))

    @abstractmethod
    def _codec(self, units: Units) -> Codec:
        """The tables of this tokenizer."""

    def _decoded(self, codec: Codec, ids: np.ndarray) -> Decoded:
        """Actions, valid and info of `ids [B, L]`, whatever they are."""
        return decode(codec, ids)
