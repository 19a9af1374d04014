"""Learners, one file each; `make` finds one by its config's name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from rlx.names import nearest
from rlx.types import EnvSpec, Learner

ONLINE = ("sac", "bro", "pql")
OFFLINE = (
    "fql", "bfn", "ifql", "fbrac", "fawac", "iql", "rebrac", "rlpd", "diffusion_ql", "idql",
    "bc", "flow_bc", "diffusion_bc",
)  # fmt: skip
SEQUENCE = ("vla",)
GUIDANCE = ("value", "rwr", "backprop", "ppo", "forward_kl", "inverse_kl", "student")
NAMES = ONLINE + OFFLINE + SEQUENCE + GUIDANCE
OF_A_SPEC = ONLINE + OFFLINE + ("value",)  # the others take parts beside


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None, **parts: Any) -> Learner:
    """Build the learner `config.name` for environments of `spec`; ValueError if unknown.

    parts: what learners of SEQUENCE take beside, `slots` and `codec`, and those of GUIDANCE, such
      as `chain` and `params`, the model; without them only those of OF_A_SPEC are known.
    """
    names = NAMES if parts else OF_A_SPEC
    if config.name not in names:
        raise ValueError(unknown(config.name, names))
    return module(config.name).make(config, spec, axis_name, **parts)


def unknown(name: str, names: Sequence[str]) -> str:
    """The text of the error for a name that is none of `names`."""
    near = ", ".join(nearest(name, names))
    return f"unknown agent {name!r}; nearest: {near}; all: {', '.join(names)}"


def module(name: str) -> ModuleType:
    """Return the file of a learner, which has `get_config` and `make`."""
    room = "offline." if name in OFFLINE else "guidance." if name in GUIDANCE else ""
    return importlib.import_module(f"rlx.agents.{room}{name}")
