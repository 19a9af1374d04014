"""What learners demand of an environment's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlx.types import EnvSpec


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
