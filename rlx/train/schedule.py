"""When things happen, in whole iterations: the exact updates-to-data ratio, events, chunk lengths.

Everything here is a function of counters, never of the clock, so that a resumed run takes the same
steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from rlx.infra.errors import ConfigError

TOLERANCE = Fraction(1, 100)  # of the ratio asked for
MAX_STEPS = 64  # vector steps per iteration, where the ratio allows


def utd_schedule(utd: Fraction, num_envs: int) -> tuple[int, int]:
    """Return (H, G): vector steps and gradient steps per iteration, G / (H * num_envs) = utd within
    1 %.

    H is the smallest that works, up to 64 (larger only where utd * num_envs < 1/64). Raises
    ConfigError with the nearest feasible ratios when there is none.
    """
    longest = max(MAX_STEPS, math.ceil(1 / (utd * num_envs)))
    feasible = [(H, max(1, round(utd * H * num_envs))) for H in range(1, longest + 1)]
    for H, G in feasible:
        if abs(Fraction(G, H * num_envs) - utd) <= TOLERANCE * utd:
            return H, G
    near = sorted(
        {Fraction(G, H * num_envs) for H, G in feasible}, key=lambda ratio: abs(ratio - utd)
    )[:2]
    raise ConfigError(
        f"train.utd = {float(utd):g} cannot be met within 1 % at env.num_envs = {num_envs}; "
        f"nearest feasible: {' or '.join(f'--utd={ratio}' for ratio in near)}"
    )


class Chunk(NamedTuple):
    """The next dispatch: its arguments after the state, and the counters after it."""

    iterations: int
    args: tuple[Any, ...]
    step: int
    grad_steps: int


@dataclass(frozen=True)
class Schedule:
    """The step plan of a run. Periods in transitions (`env_steps`); H, prefill in vector steps."""

    num_envs: int
    total: int  # env_steps after which the run ends
    prefill: int  # vector steps with random actions and no updates
    H: int  # vector steps per iteration
    G: int  # gradient steps per iteration
    log_every: int
    eval_every: int
    idle: tuple[tuple[int, int], ...] = ()  # [from, to) in vector steps: no updates, ring refilled
    counter = "env_steps"  # what progress and events count

    def resumed(self, idle: Sequence[Sequence[int]]) -> Schedule:
        """Return the plan with the windows that refilled a lost ring."""
        return replace(self, idle=tuple(map(tuple, idle)))

    def quiet_until(self, step: int) -> int | None:
        """Return the vector step at which updates begin, None if they run at `step`."""
        ends = [end for start, end in ((0, self.prefill), *self.idle) if start <= step < end]
        return max(ends, default=None)

    def next_event(self, step: int) -> int:
        """Return the first vector step after `step` that the run reaches where a chunk must end."""
        quiet, length = self.quiet_until(step), 1
        if quiet is None:
            length = self.H
        periods = (self.log_every, self.eval_every, self.total)
        targets = [-(-(step * self.num_envs // p + 1) * p // self.num_envs) for p in periods]
        steps = [step + -(-(target - step) // length) * length for target in targets]
        return min(steps if quiet is None else [*steps, quiet])

    def crossed(self, period: int, before: int, after: int) -> bool:
        """Say whether a multiple of `period` transitions lies in (before, after], both vector
        steps.
        """
        return after * self.num_envs // period > before * self.num_envs // period

    def iterations(self, step: int, limit: int) -> int:
        """Return how many iterations the next chunk has: up to the next event, at most `limit`."""
        length = self.next_event(step) - step
        return max(1, min(limit, length if self.quiet_until(step) else length // self.H))

    def next_chunk(self, step: int, grad_steps: int, limit: int) -> Chunk:
        """Return what follows vector step `step`: up to the next event, `limit` iterations long."""
        n = self.iterations(step, limit)
        H, G = (1, 0) if self.quiet_until(step) else (self.H, self.G)
        args = (np.int32(n), np.int32(H), np.int32(G), np.bool_(step < self.prefill))
        return Chunk(n, args, step + n * H, grad_steps + n * G)

    def env_steps(self, step: int) -> int:
        """Transitions collected at vector step `step`."""
        return step * self.num_envs

    counted = env_steps  # the value of `counter`

    def done(self, step: int) -> bool:
        """Say whether a run at vector step `step` has collected its transitions."""
        return step * self.num_envs >= self.total

    def silent(self, step: int) -> int:
        """Return how many of the first `step` vector steps went without updates."""
        windows = ((0, self.prefill), *self.idle)
        return sum(max(0, min(step, end) - start) for start, end in windows)

    def achieved_utd(self, step: int, grad_steps: int) -> float | None:
        """Gradient steps per transition, those without updates not counted; None before any."""
        collected = (step - self.silent(step)) * self.num_envs
        return grad_steps / collected if collected > 0 else None
