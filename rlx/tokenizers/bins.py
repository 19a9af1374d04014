"""Binning, the baseline of FAST: every action number is one token, step by step.

  id = clip(floor((x + 1) / 2 n_bins), 0, n_bins - 1), decoded to the centre of its bin
and OpenVLA's variant (Kim et al. 2024, arXiv 2406.09246) for parity: `n_bins` edges on [-1, 1], so
one bin fewer, and a last id for x = 1 that decodes to the last bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from rlx.ops.action_tokens import Codec
from rlx.tokenizers import files
from rlx.tokenizers.chunks import as_groups, fit_stats, fitted_shape, rows
from rlx.tokenizers.coded import Coded, Units
from rlx.tokenizers.stats import NormStats


@dataclass(frozen=True, eq=False)
class BinningTokenizer(Coded):
    """T A tokens per chunk; made by `fit` or `load`. stats None: actions come normalised."""

    n_bins: int = 256
    horizon: int | None = None
    action_dim: int | None = None
    stats: NormStats | None = None

    name = "bins"

    @classmethod
    def fit(
        cls,
        actions: Any,
        *,
        n_bins: int = 256,
        norm_mode: str | None = "quantile",
        allow_any_shape: bool = False,
    ) -> Self:
        """Take the statistics of chunks `[B, T, A]`, or of a list of such."""
        if n_bins < 2 or n_bins != int(n_bins):
            raise ValueError(f"n_bins is an integer >= 2, got {n_bins}")
        groups = as_groups(actions)
        shape, stats = fitted_shape(groups, allow_any_shape), fit_stats(groups, norm_mode)
        return cls(int(n_bins), *shape, stats)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.n_bins

    def encode(self, actions: Any, *, normalized: bool = False) -> list[list[int]]:
        """Return the T A ids of each chunk of `actions [B, T, A]`."""
        return rows(self.digits(self.normal(actions, normalized))).tolist()

    def clip_fraction(self, actions: Any, *, normalized: bool = False) -> float:
        """Return the share of numbers beyond the outer bins."""
        return float((np.abs(self.normal(actions, normalized)) > 1).mean())

    def digits(self, x: np.ndarray) -> np.ndarray:
        """Return the bin of each normalised number."""
        return np.clip(np.floor((x + 1) / 2 * self.n_bins), 0, self.n_bins - 1).astype(np.int32)

    def centres(self) -> np.ndarray:
        """Return what each id decodes to, `[V]`."""
        return (np.arange(self.n_bins) + 0.5) / self.n_bins * 2 - 1

    def _codec(self, units: Units) -> Codec:
        T, A, scale, offset = units
        return Codec(
            lengths=np.ones(self.vocab_size, np.int32),
            size=np.int32(T * A),
            eob=np.bool_(False),
            start=np.arange(self.vocab_size, dtype=np.int32),
            flat=self.centres().astype(np.float32),
            basis=np.eye(T, dtype=np.float32),
            scale=scale,
            offset=offset,
        )

    def save(self, path: str | Path) -> None:
        """Write `<name>.json` into the folder `path`."""
        fields = dict(n_bins=self.n_bins, horizon=self.horizon, action_dim=self.action_dim)
        files.write(path, self.name, fields, self.stats)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        return cls(**files.read(path, cls.name))


class OpenVLATokenizer(BinningTokenizer):
    """OpenVLA's bins; its model id `vocab_size - digit` is slot step -1 from `vocab_size - 1`."""

    name = "openvla"

    def digits(self, x: np.ndarray) -> np.ndarray:
        """Return the number of edges at or below each normalised number, from 0."""
        edges = np.linspace(-1, 1, self.n_bins)
        return (np.digitize(np.clip(x, -1, 1), edges) - 1).astype(np.int32)

    def centres(self) -> np.ndarray:
        """Return what each id decodes to: the middle between edges, the last one twice."""
        edges = np.linspace(-1, 1, self.n_bins)
        middle = (edges[:-1] + edges[1:]) / 2
        return np.append(middle, middle[-1])
