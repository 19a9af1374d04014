"""Learners, one file each; `make` finds one by its config's name."""

from __future__ import annotations

import importlib

from ml_collections import ConfigDict

from rlx.names import nearest
from rlx.types import EnvSpec, Learner

NAMES = ("sac", "bro", "pql")


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build the learner `config.name` for environments of `spec`; ValueError if unknown."""
    if config.name not in NAMES:
        near = nearest(config.name, NAMES)
        raise ValueError(
            f"unknown agent {config.name!r}; nearest: {', '.join(near)}; all: {', '.join(NAMES)}"
        )
    return importlib.import_module(f"rlx.agents.{config.name}").make(config, spec, axis_name)
