"""What of `config.guidance` is refused before any data is read and anything compiled."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from experiments.offline_guidance_parts import POLICIES
from rlx.guidance import METHODS, checks
from rlx.infra import errors
from rlx.infra.errors import ConfigError

NAMES = tuple(name for name in METHODS if name not in ("none", "ga"))


def refuse(config: ConfigDict) -> None:
    """Refuse settings out of range."""
    how, agent = config.guidance, config.learner.name
    if not how.method:
        return
    if how.method not in NAMES:
        raise ConfigError(errors.unknown("guidance", how.method, NAMES, "--help"))
    if agent not in POLICIES:
        raise ConfigError(
            f"guidance is for flow and diffusion policies, {', '.join(POLICIES)}; got {agent}"
        )
    for name in ("particles", "children"):
        if how[name] < 1:
            raise ConfigError(f"guidance.{name} is a whole number >= 1, got {how[name]}")
    if not (how.alpha >= 0 and np.isfinite(how.alpha)):
        raise ConfigError(f"guidance.alpha is a temperature, a number >= 0, got {how.alpha:g}")
    if how.alpha == 0 and how.method not in checks.GREEDY:
        greedy = ", ".join(name for name in NAMES if name in checks.GREEDY)
        raise ConfigError(f"guidance.alpha = 0 is for {greedy}, got {how.method}")
    if how.alpha_mode not in ("q_std", "absolute"):
        raise ConfigError(f"guidance.alpha_mode is q_std or absolute, got {how.alpha_mode!r}")
    if not 0 < how.eta <= 1:
        raise ConfigError(f"guidance.eta is a share of noise in (0, 1], got {how.eta:g}")
