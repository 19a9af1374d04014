"""Recorded demonstrations for `experiments.vla`: LeRobot and RLDS, some episodes held out."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from rlx.data import lerobot, oxe
from rlx.data.chunks import Batch, ChunkSource, Source
from rlx.infra.errors import ConfigError

HELD = 20  # every such episode is kept out of training
TEST = 1_000  # samples of those, at most


def read(config: ConfigDict, hz: int) -> tuple[Source, Batch]:
    """Return the chunks of the training episodes, and samples of the others.

    Raises ConfigError where `data.hz` is not the recording's rate, or episodes are too few.
    """
    data = config.data
    if data.format == "lerobot":
        store = lerobot.Store(data.path)
        rate, still = store.fps, tuple(map(bool, data.zero_pad)) or None
    else:
        store = oxe.Store(data.path, data.format)
        rate, still = store.adapter.hz, store.adapter.still
    if hz != rate:
        raise ConfigError(f"data.hz = {hz}, but {data.path} is of {rate:g} Hz: --hz={rate:g}")
    size = None if data.image_size is None else (data.image_size, data.image_size)
    numbers = np.arange(len(store.lengths))
    held = numbers % HELD == HELD - 1 if len(numbers) >= HELD else numbers == len(numbers) - 1

    def chunks(episodes: np.ndarray) -> ChunkSource:
        return ChunkSource(
            store,
            data.horizon or hz,
            zero_pad=still,
            delta=tuple(map(bool, data.delta)) or None,
            image_size=size,
            episodes=episodes,
        )

    if len(numbers) < 2:
        raise ConfigError(f"{data.path} has one episode: none can be held out")
    test = chunks(numbers[held])
    count = min(TEST, len(test)) // config.mesh.shards * config.mesh.shards
    if not count:
        raise ConfigError(
            f"{data.path} has {len(test)} held-out samples, mesh.shards = {config.mesh.shards} "
            "needs as many at least"
        )
    picked = np.linspace(0, len(test) - 1, count).astype(int)
    return chunks(numbers[~held]), test.batch(picked)
