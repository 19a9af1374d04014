"""Pretrained weights for `experiments.vla`: of PaliGemma (npz), HuggingFace and openpi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from rlx.agents import vla
from rlx.infra.checkpoint import read_tree
from rlx.infra.errors import ConfigError
from rlx.nn import pretrained
from rlx.types import PyTree

READERS = {
    "paligemma": pretrained.read_npz,
    "huggingface": pretrained.read_safetensors,
    "openpi": read_tree,
}
OURS = "lora|^state/"  # what no checkpoint has


def loader(config: ConfigDict) -> Callable[[PyTree], PyTree] | None:
    """Return what puts the weights of `weights.path` into a fresh learner state, None without any.

    Raises ConfigError for an unknown layout and a path that is not there; mismatches are a
    ValueError that lists them all.
    """
    own = config.weights
    if own.path is None:
        return None
    if own.layout not in READERS:
        raise ConfigError(f"weights.layout is one of {', '.join(READERS)}, got '{own.layout}'")
    if not Path(own.path).expanduser().exists():
        raise ConfigError(f"weights.path = '{own.path}' does not exist")
    if own.rows is not None and not Path(own.rows).expanduser().is_file():
        raise ConfigError(f"weights.rows = '{own.rows}' is not there: a .npy of row numbers")

    def fill(state: PyTree) -> PyTree:
        source = READERS[own.layout](own.path)
        missing = "|".join(filter(None, (OURS, own.allow_missing)))
        params, _ = pretrained.load(
            vla.policy(state),
            source,
            own.layout,
            rows=None if own.rows is None else np.load(Path(own.rows).expanduser()),
            allow_missing=missing,
            allow_unexpected=own.allow_unexpected,
        )
        return vla.load(state, params)

    return fill
