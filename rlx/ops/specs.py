"""What learners demand of an environment's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlx.names import nearest
from rlx.types import EnvSpec

CHOICES = {  # settings of learners from data that take one of a few words
    "q_agg": ("mean", "min"),
    "target_update": ("pre", "post"),
    "solver": ("euler", "midpoint"),
    "time_dist": ("uniform", "beta", "logit_normal"),
    "eval_noise": ("sample", "zero"),
    "actor_loss": ("awr", "ddpgbc"),
    "schedule": ("vp", "linear", "cosine"),
}
COUNTS = (  # whole, >= 1
    "flow_steps", "diffusion_steps", "samples", "backup_samples", "ensemble", "actor_freq",
    "ema_every", "time_features",
)  # fmt: skip
PAIRS = ("fourier", "time_features")  # as many sines as cosines


def check_continuous(learner: str, spec: EnvSpec) -> None:
    """Raise ValueError unless `spec` has vector observations and float actions in [-1, 1]."""

    def vector(part: Any) -> bool:
        shape = getattr(part, "shape", None)  # a dictionary of observations has none
        return isinstance(shape, tuple) and len(shape) == 1

    floats = vector(spec.action) and np.issubdtype(spec.action.dtype, np.floating)
    if not floats or not vector(spec.obs):
        raise ValueError(
            f"{learner} needs one vector of observations and one vector of float actions in "
            f"[-1, 1]; this environment has observations {spec.obs} and actions {spec.action}"
        )


def check_offline(learner: str, spec: EnvSpec, config: Any) -> None:
    """Raise ValueError unless a learner from data can train on `spec` with the settings `config`.

    Vectors need no encoder, images need one; actions are one float vector in [-1, 1].
    """
    rank, encoder = len(spec.obs.shape), config.get("encoder", "")
    if len(spec.action.shape) != 1 or not np.issubdtype(spec.action.dtype, np.floating):
        raise ValueError(
            f"{learner} needs one vector of float actions in [-1, 1], got {spec.action}"
        )
    if rank == 3 and not encoder:
        raise ValueError(
            f"observations are images {spec.obs.shape}: set learner.encoder=impala_small"
        )
    if rank != 3 and encoder:
        raise ValueError(
            f"learner.encoder = {encoder!r} is for images, observations are {spec.obs.shape}: "
            "leave it empty"
        )
    for name, known in CHOICES.items():
        if name in config and config[name] not in known:
            near = nearest(str(config[name]), known)[0]
            raise ValueError(
                f"learner.{name} is one of {', '.join(known)}, got {config[name]!r}; "
                f"nearest: {near}"
            )
    for name in COUNTS:
        if name in config and config[name] < 1:
            raise ValueError(f"learner.{name} is a whole number >= 1, got {config[name]}")
    for name in PAIRS:
        if name in config and (config[name] < 0 or config[name] % 2):
            raise ValueError(f"learner.{name} is an even number >= 0, got {config[name]}")
