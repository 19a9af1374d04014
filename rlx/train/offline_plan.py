"""When things happen in training from data: gradient steps first, then steps of environments.

Step s of a run is gradient step s while s < offline_steps; from there on each step is one step of
an environment and, after `warmup` of those, `utd` gradient steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlx.train.schedule import Chunk

PATIENCE = 64  # environment steps per chunk: a signal to stop waits for its end


@dataclass(frozen=True)
class OfflinePlan:
    """The step plan of a run; all periods in steps."""

    offline_steps: int
    online_steps: int
    log_every: int
    eval_every: int
    warmup: int = 0  # environment steps without updates
    utd: int = 1  # gradient steps per environment step
    counter = "step"  # what progress and events count

    def resumed(self, idle: Sequence[Sequence[int]]) -> OfflinePlan:
        """Return the plan: rings are always saved, nothing is refilled."""
        del idle
        return self

    @property
    def total(self) -> int:
        """Steps after which the run ends."""
        return self.offline_steps + self.online_steps

    def counted(self, step: int) -> int:
        """The value of `counter` at `step`."""
        return step

    def env_steps(self, step: int) -> int:
        """Transitions collected at `step`."""
        return max(0, step - self.offline_steps)

    def grad_steps(self, step: int) -> int:
        """Gradient steps taken at `step`."""
        learned = max(0, self.env_steps(step) - self.warmup)
        return min(step, self.offline_steps) + self.utd * learned

    def next_chunk(self, step: int, grad_steps: int, limit: int) -> Chunk:
        """Return what follows `step`: up to the next event, at most `limit` steps of one phase."""
        del grad_steps
        ends = [(step // period + 1) * period for period in (self.log_every, self.eval_every)]
        ends += [end for end in (self.offline_steps, self.total) if end > step]
        online = step >= self.offline_steps
        n = min(limit, min(ends) - step, PATIENCE if online else limit)
        learned = self.grad_steps(step + n) - self.grad_steps(step)
        return Chunk(n, (np.int32(n), online), step + n, self.grad_steps(step) + learned)

    def crossed(self, period: int, before: int, after: int) -> bool:
        """Say whether a multiple of `period` steps, or the end of the data's phase, lies in
        (before, after].
        """
        return before < self.offline_steps <= after or after // period > before // period

    def done(self, step: int) -> bool:
        """Say whether a run has taken its steps."""
        return step >= self.total

    def achieved_utd(self, step: int, grad_steps: int) -> None:
        """No ratio: gradient steps do not follow from transitions collected."""
        del step, grad_steps
