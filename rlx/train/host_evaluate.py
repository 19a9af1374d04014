"""Evaluation of policies in host environments: fixed episodes, the same result on any machine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from rlx.envs.host import Pool

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Episodes(NamedTuple):
    """What R runs did in E episodes each."""

    return_: np.ndarray  # f64[R, E]
    length: np.ndarray  # int32[R, E], agent steps
    success: np.ndarray  # f64[R, E], at the episode's last step (Park et al. 2025, OGBench)


def evaluate(
    act: Act, pool: Pool, runs: int, episodes: int, seed: int, action_chunk: int = 1
) -> Episodes:
    """Play `episodes` episodes of each of `runs` policies, as many at once as the pool has lanes.

    Episode e of every run is `reset(seed + e)`. A row (r, e) has its fixed place in what `act`
    gets, so that no result depends on the number of lanes or processes, given that `act` treats
    rows independently.

    Args:
      act: (obs [R, E, *O], t int32[R, E]) -> actions [R, E, action_chunk * A]. `t` is the agent
        step within the episode; rows that need no action now hold zeros, what they get is ignored.
      action_chunk: actions taken one after another without looking; what is left of them when an
        episode ends is dropped.
    """
    play = _Play(pool, runs, episodes, seed, action_chunk)
    play.begin(list(range(pool.lanes)))
    while play.row:
        play.step(act)
    return Episodes(*(column.reshape(runs, episodes) for column in play.columns))


class _Play:
    """Episodes in progress: rows = run * episodes + episode, each in a lane until it ends."""

    def __init__(self, pool: Pool, runs: int, episodes: int, seed: int, chunk: int):
        """Prepare all rows; see `evaluate`."""
        count, obs = runs * episodes, pool.spec.obs
        self.row: dict[int, int] = {}  # lane -> row
        self.columns = np.zeros(count), np.zeros(count, np.int32), np.zeros(count)
        self._pool, self._shape, self._seed, self._chunk = pool, (runs, episodes), seed, chunk
        self._waiting = iter(range(count))
        self._obs = np.zeros((count, *obs.shape), obs.dtype)
        self._plan = np.zeros((count, chunk, *pool.spec.action.shape), np.float32)
        self._taken = np.full(count, chunk)  # actions of the plan; all of them: look again

    def begin(self, lanes: list[int]) -> None:
        """Give free lanes the rows that wait."""
        started = dict(zip(lanes, islice(self._waiting, len(lanes))))
        if started:
            rows = list(started.values())
            seeds = [self._seed + row % self._shape[1] for row in rows]
            self._obs[rows] = self._pool.reset(list(started), seeds)
            self.row |= started

    def step(self, act: Act) -> None:
        """Take one action in every row that plays."""
        lanes, rows = list(self.row), np.array(list(self.row.values()))
        self._look(rows, act)
        actions = self._plan[rows, self._taken[rows]]
        self._taken[rows] += 1
        steps = self._pool.step(lanes, actions)
        return_, length, success = self.columns
        return_[rows] += steps.reward
        length[rows] += 1
        success[rows] = steps.success
        self._obs[rows] = steps.obs
        free = [lane for lane, end in zip(lanes, steps.terminated | steps.truncated) if end]
        for lane in free:
            del self.row[lane]
        self.begin(free)

    def _look(self, rows: np.ndarray, act: Act) -> None:
        """Plan the next actions of those rows that have none left."""
        need = rows[self._taken[rows] == self._chunk]
        if not need.size:
            return
        obs, t = np.zeros_like(self._obs), np.zeros_like(self.columns[1])
        obs[need], t[need] = self._obs[need], self.columns[1][need]
        actions = act(obs.reshape(*self._shape, *obs.shape[1:]), t.reshape(self._shape))
        self._plan[need] = np.asarray(actions, np.float32).reshape(self._plan.shape)[need]
        self._taken[need] = 0
