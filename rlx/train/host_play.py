"""The environments of the online phase: one lane per run, stepped on the host.

Simulators cannot be saved. What is saved instead is how the running episode came about: its number,
which gives the seed of its reset, and its actions; a resumed run plays them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import jax.numpy as jnp
import numpy as np

from rlx.data.rows import Rows
from rlx.envs.host import Pool
from rlx.train.offline import Offline
from rlx.train.offline_plan import OfflinePlan
from rlx.train.offline_state import HostSteps, OfflineState, Playing, Report

EPISODES = 1_000_000  # per run, before two runs share a reset; evaluation's seeds lie below


class Player:
    """Plays and learns step by step; holds the observations that the runs act upon next."""

    def __init__(
        self,
        programs: Offline,
        data: Rows,
        pool: Pool,
        plan: OfflinePlan,
        channels: int,
        reward: Callable[[np.ndarray], np.ndarray],
    ):
        """Args: channels: of one frame; reward: the data set's version of an environment's."""
        self.programs, self.data, self.pool, self.plan = programs, data, pool, plan
        self.channels, self.reward = channels, reward

    def restore(self, state: OfflineState) -> None:
        """Bring every lane to where its run stands."""
        playing = cast(Playing, state.playing)
        self.seeds, self.episodes = np.asarray(state.seed), np.array(playing.episode)
        lengths, actions = np.asarray(playing.length), np.asarray(playing.actions)
        runs = range(len(lengths))
        self.obs = np.stack(
            [self.pool.replay(r, self.reset_seed(r), actions[r, : lengths[r]]) for r in runs]
        )

    def reset_seed(self, run: int) -> int:
        """The seed of the running episode of `run`."""
        return ((int(self.seeds[run]) + 1) * EPISODES + int(self.episodes[run])) % 2**31

    def play(self, state: OfflineState, n: int) -> tuple[OfflineState, Report | None]:
        """Take `n` environment steps of every run, each followed by its gradient steps."""
        step, report = int(state.step), None
        lanes = range(len(self.obs))
        for now in range(step, step + n):
            state, action = self.programs.explore(state, self.obs)
            steps = self.pool.step(lanes, np.asarray(action))
            updates = self.plan.grad_steps(now + 1) - self.plan.grad_steps(now)
            seen = self.last_frame(self.obs), self.reward(steps.reward)
            happened = HostSteps(
                obs=seen[0],
                reward=np.asarray(seen[1], np.float32),
                next_obs=self.last_frame(steps.obs),
                terminated=steps.terminated,
                truncated=steps.truncated,
                success=np.asarray(steps.success, np.float32),
            )
            state, report = self.programs.record(state, self.data, happened, jnp.int32(updates))
            self.obs = np.array(steps.obs)
            ended = np.flatnonzero(steps.terminated | steps.truncated)
            if ended.size:
                self.episodes[ended] += 1
                seeds = [self.reset_seed(int(run)) for run in ended]
                self.obs[ended] = self.pool.reset(ended.tolist(), seeds)
        return state, report

    def last_frame(self, obs: np.ndarray) -> np.ndarray:
        """The newest of the stacked frames: what the ring stores."""
        return obs[..., -self.channels :] if obs.ndim == 4 else obs
