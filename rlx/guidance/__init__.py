"""Reward-guided sampling at inference time: a process, a value and a reward in, samples out.

process     `ddpm`, `flow`, `masked`, `one_token`, `uniform_diffusion`
value       `posterior_mean`, `nested_mc`, `function`
"""

from __future__ import annotations

from rlx.guidance.checks import suggest_alpha
from rlx.guidance.discrete import masked, one_token, uniform_diffusion
from rlx.guidance.guide import METHODS, guide, over_devices
from rlx.guidance.process import ddpm, flow
from rlx.guidance.types import Calls, Config, GuidedOut
from rlx.guidance.values import function, nested_mc, posterior_mean

__all__ = [
    "METHODS",
    "Calls",
    "Config",
    "GuidedOut",
    "ddpm",
    "flow",
    "function",
    "guide",
    "masked",
    "nested_mc",
    "one_token",
    "over_devices",
    "posterior_mean",
    "suggest_alpha",
    "uniform_diffusion",
]
