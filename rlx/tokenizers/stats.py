"""Statistics that bring every action number to about [-1, 1], and the delta transform before them.

  quantile  x = 2 (a - q01) / (q99 - q01 + 1e-6) - 1       zscore  x = (a - mean) / (std + 1e-6)
Statistics are taken over all steps of all training chunks AFTER the delta transform: taken before
it, a nearly constant number explodes. A number whose quantiles coincide is degenerate: it uses its
extremes if they are apart (a gripper that closes in less than 1 % of the steps), otherwise it is
constant, encoded as 0 and decoded as its mean. The reference does neither.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("quantile", "zscore")
EXACT = 50_000_000  # numbers up to which quantiles are exact
SAMPLE = 5_000_000  # rows of the fixed random sample beyond that
NARROW = 1e-3  # relative width of the quantiles under which a number is degenerate
FIELDS = ("mean", "std", "q01", "q99")


@dataclass(frozen=True)
class NormStats:
    """Statistics of A numbers, each `[A]` float64; `constant [A]` bool marks those that never move.

    mode: "quantile" or "zscore", kept with the numbers so that a model is never served the other.
    """

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    constant: np.ndarray
    mode: str = "quantile"

    @classmethod
    def fit(cls, values: np.ndarray, mode: str = "quantile") -> NormStats:
        """Take the statistics of `values [..., A]`; ValueError for NaN, no rows, unknown mode."""
        _check_mode(mode)
        rows = np.asarray(values, np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        if not len(rows):
            raise ValueError(f"statistics need rows, got values of shape {np.shape(values)}")
        if not np.isfinite(rows).all():
            row, dim = np.argwhere(~np.isfinite(rows))[0]
            raise ValueError(f"values are not finite: row {row}, dim {dim} is {rows[row, dim]}")
        low, high = rows.min(0), rows.max(0)
        sample = rows
        if rows.size > EXACT:
            chosen = np.random.default_rng(0).choice(len(rows), min(SAMPLE, len(rows)), False)
            sample = rows[np.sort(chosen)]
        q01, q99 = np.quantile(sample, [0.01, 0.99], axis=0)
        narrow, limit = _degenerate(q01, q99)
        rare = narrow & (high - low > 10 * limit)
        constant = narrow & ~rare
        if mode == "quantile":
            _warn(constant, rare)
        q01, q99 = np.where(rare, low, q01), np.where(rare, high, q99)
        return cls(rows.mean(0), rows.std(0), q01, q99, constant, mode)

    @property
    def scale(self) -> np.ndarray:
        """`[A]` of actions = scale * normalised + offset; 0 for constant numbers."""
        if self.mode == "zscore":
            return np.where(self.constant, 0.0, self.std + 1e-6)
        return np.where(self.constant, 0.0, (self.q99 - self.q01 + 1e-6) / 2)

    @property
    def offset(self) -> np.ndarray:
        """`[A]` of actions = scale * normalised + offset."""
        centre = self.mean if self.mode == "zscore" else self.q01 + self.scale
        return np.where(self.constant, self.mean, centre)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """Return `values [..., A]` in units of the statistics, in their precision."""
        scale, dtype = self.scale, values.dtype
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        return (values - self.offset.astype(dtype)) * inverse.astype(dtype)

    def unnormalize(self, values: np.ndarray) -> np.ndarray:
        """Return normalised `values [..., A]` in the data's units."""
        return values * self.scale.astype(values.dtype) + self.offset.astype(values.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain lists."""
        numbers = {name: getattr(self, name).tolist() for name in (*FIELDS, "constant")}
        return {"mode": self.mode, **numbers}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> NormStats:
        """Build statistics from lists; without `constant` (openpi's files) the quantiles tell."""
        missing = [name for name in FIELDS if saved.get(name) is None]
        if missing:
            raise ValueError(f"statistics lack {', '.join(missing)}; found {', '.join(saved)}")
        mode = saved.get("mode", "quantile")
        _check_mode(mode)
        mean, std, q01, q99 = (np.asarray(saved[name], np.float64) for name in FIELDS)
        if not mean.shape == std.shape == q01.shape == q99.shape or mean.ndim != 1:
            shapes = {name: np.shape(saved[name]) for name in FIELDS}
            raise ValueError(f"statistics are lists of one length, got shapes {shapes}")
        if "constant" in saved:
            constant = np.asarray(saved["constant"], bool)
        else:
            constant = _degenerate(q01, q99)[0]
            _warn(constant, np.zeros_like(constant))
        return cls(mean, std, q01, q99, constant, mode)


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"norm_mode is one of {', '.join(MODES)}, got {mode!r}")


def _degenerate(q01: np.ndarray, q99: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which quantiles coincide, and the width under which they do."""
    limit = np.maximum(1e-8, NARROW * np.maximum(np.abs(q01), np.abs(q99)))
    return q99 - q01 < limit, limit


def _warn(constant: np.ndarray, rare: np.ndarray) -> None:
    """One warning that names all degenerate dims."""
    parts = [
        f"dims {np.flatnonzero(which).tolist()} {what}"
        for which, what in (
            (constant, "are constant: encoded as 0, decoded as their mean"),
            (rare, "move in under 1 % of the steps: their extremes serve as quantiles"),
        )
        if which.any()
    ]
    if parts:
        warnings.warn("degenerate statistics: " + "; ".join(parts), stacklevel=3)


def read_openpi(path: str | Path, key: str = "actions", mode: str = "quantile") -> NormStats:
    """Read statistics of `key` from openpi's `norm_stats.json` (the file or its folder).

    The file does not say which mode the model was trained with; `mode` must.
    """
    path = _stats_file(path)
    found = json.loads(path.read_text())["norm_stats"]
    if key not in found:
        raise ValueError(f"{path} has statistics of {', '.join(found)}, none of {key!r}")
    return NormStats.from_json({**found[key], "mode": mode})


def write_openpi(path: str | Path, **stats: NormStats) -> None:
    """Write statistics, by name (`state`, `actions`), as openpi's `norm_stats.json`."""
    path = _stats_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {key: {name: getattr(s, name).tolist() for name in FIELDS} for key, s in stats.items()}
    path.write_text(json.dumps({"norm_stats": saved}, indent=2))


def _stats_file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    return path if path.suffix == ".json" else path / "norm_stats.json"


def delta(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """Return `actions [..., T, A]` relative to `state [..., S]` of the FIRST step where `mask`.

    mask: as long as the leading dims it speaks of (at most A, S); dims after it stay absolute.
    """
    return actions - _reference(actions, state, mask)


def absolute(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """Undo `delta`."""
    return actions + _reference(actions, state, mask)


def _reference(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    length = len(mask)
    if length > actions.shape[-1] or length > state.shape[-1]:
        raise ValueError(
            f"delta mask has {length} entries; actions have {actions.shape[-1]} numbers, "
            f"the state {state.shape[-1]}"
        )
    out = np.zeros((*state.shape[:-1], actions.shape[-1]), actions.dtype)
    out[..., :length] = np.where(np.asarray(mask, bool), state[..., :length], 0)
    return out[..., None, :]
