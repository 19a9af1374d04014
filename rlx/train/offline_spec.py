"""Shapes in training from data: of one frame and one action, and of what a learner sees."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from rlx.data.rows import Rows, Windows
from rlx.data.trajectories import Dataset
from rlx.infra.errors import ConfigError
from rlx.types import EnvSpec, Spec


def windows(config: ConfigDict) -> Windows:
    """How rows become examples under `config`."""
    return Windows(config.data.n_step, config.data.chunk, config.data.frame_stack)


def one_spec(rows: Rows) -> EnvSpec:
    """Shapes of one frame and one action of a data set."""
    obs = Spec(rows.obs.shape[1:], rows.obs.dtype)
    return EnvSpec(obs, Spec(rows.action.shape[1:], np.float32, -1.0, 1.0))


def learner_spec(spec: EnvSpec, how: Windows) -> EnvSpec:
    """What a learner sees: stacked frames, and a whole chunk as one action."""
    obs, action = spec.obs, spec.action
    if how.frame_stack > 1:
        obs = obs._replace(shape=(*obs.shape[:-1], obs.shape[-1] * how.frame_stack))
    return EnvSpec(obs, action._replace(shape=(how.chunk * action.shape[0],)))


def check_environment(dataset: Dataset, env: EnvSpec, how: Windows) -> None:
    """Refuse data of other shapes than the environment's."""
    own = learner_spec(one_spec(dataset.train), how._replace(chunk=1))
    ours, theirs = [(tuple(spec.obs.shape), tuple(spec.action.shape)) for spec in (own, env)]
    if ours != theirs:
        raise ConfigError(
            f"the data of {dataset.name} has observations {ours[0]} and actions {ours[1]}, "
            f"environment {dataset.env} has {theirs[0]} and {theirs[1]}"
        )
