"""Recorded demonstrations by folder and format: LeRobot, or RLDS through an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlx.data import lerobot, oxe, rlds
from rlx.data.chunks import ChunkSource, Store

LEROBOT = "lerobot"


class Recording(NamedTuple):
    """A data set that is open."""

    store: Store
    hz: float
    still: Sequence[bool] | None  # [A], see `ChunkSource.zero_pad`; None: the format does not say
    weight: float  # in mixtures, times the number of samples


def open_set(path: str | Path, kind: str) -> Recording:
    """Open the folder `path` of the format `kind`: lerobot, or a name of `oxe.ADAPTERS`.

    Raises as the stores do.
    """
    if kind == LEROBOT:
        store = lerobot.Store(path)
        return Recording(store, store.fps, None, 1.0)
    store = oxe.Store(path, kind)
    return Recording(store, store.adapter.hz, store.adapter.still, store.adapter.weight)


def kind_of(path: Path) -> str:
    """Return the format of a folder; ValueError where its name does not follow from its files."""
    if (path / "meta" / "info.json").is_file():
        return LEROBOT
    if rlds.is_rlds(path):
        raise ValueError(
            f"{path} is RLDS: say with --format which robot's, of {', '.join(oxe.ADAPTERS)}"
        )
    raise ValueError(
        f"{path} has neither meta/info.json (LeRobot) nor dataset_info.json and features.json "
        "(RLDS, the folder of its version)"
    )


def action_chunks(
    path: Path,
    kind: str | None = None,
    horizon: int | None = None,
    delta: Sequence[bool] | None = None,
    most: int = 20_000,
) -> np.ndarray:
    """Return chunks of actions `[B, T, A]` from all over a data set, at most `most`.

    kind: None = by its files; horizon: None = one second; delta: see `ChunkSource`. ValueError
    for actions that are not finite.
    """
    found = open_set(path, kind_of(path) if kind is None else kind)
    steps = round(found.hz) if horizon is None else horizon
    source = ChunkSource(found.store, steps, zero_pad=found.still, delta=delta)
    picked = np.random.default_rng(0).permutation(len(source))[:most]
    batch = source.batch(np.sort(picked), images=False)
    broken = ~np.isfinite(batch["actions"]).all((1, 2))
    if broken.any():
        episode, step = (int(batch[name][broken.argmax()]) for name in ("episode", "step"))
        raise ValueError(
            f"{path}: an action within {steps} steps of step {step} of episode {episode} is not "
            "finite"
        )
    return batch["actions"]
