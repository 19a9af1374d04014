"""Runs of `experiments.fast_toy`, their curves and their tokenizers."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.fast import FastTokenizer

TRAIN, TEST, POINTS = 20_000, 512, 4
ALL = 1024  # `extra` from here on is the whole vocabulary


class Run(NamedTuple):
    """One training: `extra` tokens beyond FAST's alphabet, or in all; of naive the bins."""

    variant: str
    T: int
    extra: int
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """What tells runs apart in the table."""
        return "_".join(map(str, self))


@cache
def curves(T: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[N, 4]` in [-1, 1] and the cubics through them at T times `[N, T]`, in [-1, 1]."""
    y = np.random.default_rng(seed).uniform(-1, 1, (TRAIN + TEST, POINTS))
    fit = np.linalg.inv(np.vander(np.linspace(0, 1, POINTS)))
    x = y @ fit.T @ np.vander(np.linspace(0, 1, T), POINTS).T
    return y.astype(np.float32), np.clip(x / 1.5, -1, 1).astype(np.float32)


@cache
def tokenizer(variant: str, T: int, extra: int, seed: int) -> Any:
    """Fitted on the training curves, which are normalised already."""
    x = curves(T, seed)[1][:TRAIN, :, None]
    if variant == "naive":
        return BinningTokenizer.fit(x, n_bins=extra, norm_mode=None)
    alone = FastTokenizer.fit(x, vocab_size=None, norm_mode=None)
    size = extra if extra >= ALL else alone.vocab_size + extra
    return FastTokenizer.fit(x, vocab_size=size, norm_mode=None)
