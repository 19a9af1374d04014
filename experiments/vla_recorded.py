"""Recorded demonstrations for `experiments.vla`: LeRobot and RLDS, one set or a mixture of several,
some episodes of each held out.
"""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from rlx.data.chunks import Batch, ChunkSource, Source
from rlx.data.loader import Mixture
from rlx.data.recorded import Recording, open_set
from rlx.infra.errors import ConfigError

HELD = 20  # every such episode is kept out of training
TEST = 1_000  # samples of those, at most, or `eval.episodes`


def read(config: ConfigDict, hz: int) -> tuple[Source, Batch]:
    """Return the chunks of the training episodes, and samples of the others.

    Raises ConfigError where settings and recordings do not go together, or episodes are too few.
    """
    data = config.data
    paths, formats = data.path.split(","), data.format.split(",")
    if config.eval.mujoco:
        raise ConfigError("eval.mujoco plays the made tasks: it is not for recorded data")
    for name, given in (("format", formats), ("weights", data.weights)):
        if len(given) not in (len(paths), {"format": 1, "weights": 0}[name]):
            raise ConfigError(f"data.{name} has {len(given)} entries for {len(paths)} data sets")
    formats *= len(paths) if len(formats) == 1 else 1
    recordings = [open_set(*one) for one in zip(paths, formats, strict=True)]
    parts = [split(config, hz, *one) for one in zip(paths, recordings, strict=True)]
    source, test = parts[0]
    if len(parts) > 1:
        if data.resident:
            raise ConfigError("a mixture is handed over by a loader: --config.data.resident=false")
        sources, tests = zip(*parts)
        alike(paths, sources)
        source = Mixture(sources, data.weights or [own.weight for own in recordings])
        test = Mixture(tests, [1.0] * len(paths))
    count = min(TEST, config.eval.episodes, len(test)) // config.mesh.shards * config.mesh.shards
    if not count:
        raise ConfigError(
            f"{data.path} has {len(test)} held-out samples, mesh.shards = {config.mesh.shards} "
            "needs as many at least"
        )
    return source, test.batch(np.linspace(0, len(test) - 1, count).astype(int))


def split(
    config: ConfigDict, hz: int, path: str, own: Recording
) -> tuple[ChunkSource, ChunkSource]:
    """Return the chunks of a set's training episodes, and those of the others."""
    data = config.data
    if hz != own.hz and not ("," in data.path and data.horizon):
        raise ConfigError(
            f"data.hz = {hz}, but {path} is of {own.hz:g} Hz: --hz={own.hz:g}, or, for a "
            "mixture of rates, data.horizon steps, whatever seconds these are"
        )
    size = None if data.image_size is None else (data.image_size, data.image_size)
    still = own.still or tuple(map(bool, data.zero_pad)) or None
    numbers = np.arange(len(own.store.lengths))
    if len(numbers) < 2:
        raise ConfigError(f"{path} has one episode: none can be held out")
    held = numbers % HELD == HELD - 1 if len(numbers) >= HELD else numbers == len(numbers) - 1

    def chunks(episodes: np.ndarray) -> ChunkSource:
        return ChunkSource(
            own.store,
            data.horizon or hz,
            zero_pad=still,
            delta=tuple(map(bool, data.delta)) or None,
            image_size=size,
            episodes=episodes,
        )

    return chunks(numbers[~held]), chunks(numbers[held])


def alike(paths: list[str], sources: tuple[ChunkSource, ...]) -> None:
    """Raise ConfigError where sets of a mixture differ in the numbers of state or action."""
    first = [source.batch(np.arange(1), images=False) for source in sources]
    for name in ("state", "actions"):
        sizes = {path: one[name].shape[-1] for path, one in zip(paths, first, strict=True)}
        if len(set(sizes.values())) > 1:
            raise ConfigError(f"the sets of a mixture have as many {name}, got {sizes}")
