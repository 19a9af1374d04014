"""The data that a config of `experiments.vla` stands for, and how batches of it come about."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import vla_recorded, vla_tokens
from rlx.data.chunks import ArraySource, Batch, Source
from rlx.data.loader import Loader, order_of
from rlx.data.synth import push, reach
from rlx.data.vla_rows import Rows
from rlx.infra import distributed, runtime
from rlx.infra.errors import ConfigError, unknown
from rlx.train.feed import Resident, Streamed, token_batch
from rlx.types import EnvSpec, Spec

MAKERS = {"reach": reach, "push": push}
FIT = 20_000  # chunks that tokenizer and statistics are fitted on, at most
SHARE = 0.4  # of a device's memory, for rows that lie there


class Problem(NamedTuple):
    """What is learned from what."""

    source: Source
    test: Batch  # held-out samples
    truth: dict[str, Any]  # of made data: where the test episodes' arms and goals are
    rows: Rows
    spec: EnvSpec
    prefix: int  # tokens before the action


def load(config: ConfigDict, hz: int, name: str) -> Problem:
    """Make or open the data at `hz`, fit the tokenizer `name`, measure lengths; errors name the
    field.
    """
    source, test, truth = read(config, hz)
    picked = np.sort(order_of(source, 0, 0)[:FIT])
    sample = source.batch(picked, images=False)
    rows, prefix = vla_tokens.fit(config, sample, name)
    obs = {"state": Spec(sample["state"].shape[1:])}
    for camera, images in source.batch(picked[:1])["images"].items():
        obs[camera] = Spec(images.shape[1:], np.uint8)
    spec = EnvSpec(obs, Spec(sample["actions"].shape[1:]))
    return Problem(source, test, truth, rows, spec, prefix)


def read(config: ConfigDict, hz: int) -> tuple[Source, Batch, dict[str, Any]]:
    """Return training samples, held-out ones, and what is known of those."""
    data = config.data
    if data.path is not None:
        return *vla_recorded.read(config, hz), {}
    if config.env.name not in MAKERS:
        raise ConfigError(unknown("task", config.env.name, MAKERS, "--help"))
    for name in ("horizon", "delta", "zero_pad", "weights"):
        if data[name]:
            raise ConfigError(f"data.{name} is for recorded data: give data.path, --data=FOLDER")
    maker, count = MAKERS[config.env.name], config.eval.episodes
    made = maker.generate(0, data.episodes, hz, data.images)
    test = maker.generate(0, count, hz, data.images, split="test")
    return ArraySource(made), ArraySource(test).batch(np.arange(count)), test


def feed(config: ConfigDict, problem: Problem) -> Resident | Streamed:
    """Batches for training."""
    size, source = config.learner.batch_size, problem.source
    if config.data.resident:
        one = jax.tree.leaves(problem.rows(source.batch(np.arange(1)), np.arange(1)))
        bytes_, limit = len(source) * sum(x.nbytes for x in one), SHARE * runtime.device_bytes()
        if bytes_ > limit:
            raise ConfigError(
                f"data.resident = True puts {bytes_ / 1e9:.1f} GB on every device, more than "
                f"{limit / 1e9:.1f} GB ({SHARE:.0%} of its memory): --config.data.resident=false"
            )
        every = np.arange(len(source))
        rows = token_batch(problem.rows(source.batch(every), every))
        return Resident(rows, size, config.seed)
    index, count = distributed.process_index(), distributed.process_count()
    given = {"workers": config.data.workers, "cache_tokens": config.data.cache_tokens}
    loader = Loader(source, problem.rows, size, config.seed, index, count, **given)
    return Streamed(loader, size, len(source) // size)
