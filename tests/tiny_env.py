"""A tiny gymnasium environment for tests, registered when imported: `tiny_env:Tiny-v0`."""

from __future__ import annotations

import os
import random

import gymnasium
import numpy as np

NAME = "tiny_env:Tiny-v0"


class Tiny(gymnasium.Env):
    """Integrates its action and noise of every generator there is; ends beyond 1.

    An action of exactly 0.5 raises, of exactly 0.25 kills the process.
    """

    def __init__(self, image: bool = False):
        self._image = image
        low, shape, dtype = (0, (2, 2, 3), np.uint8) if image else (-np.inf, (2,), np.float64)
        high = 255 if image else np.inf
        self.observation_space = gymnasium.spaces.Box(low, high, shape, dtype)
        self.action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self._x = self.action_space.sample()[0] / 10 + self.np_random.normal() / 10
        self._t = 0
        return self._obs(), {}

    def step(self, action):
        if action[0] == 1.0:  # twice 0.5: the pool rescales [-1, 1] to [-2, 2]
            raise ArithmeticError("half an action")
        if action[0] == 0.5:
            os._exit(7)
        self._t += 1
        self._x += 0.1 * action[0] + 0.01 * (np.random.normal() + random.gauss(0, 1))  # noqa: NPY002
        done = bool(abs(self._x) > 1)
        return self._obs(), float(self._x), done, False, {"success": float(self._x > 1)}

    def _obs(self):
        if self._image:
            return np.full((2, 2, 3), self._t, np.uint8)
        return np.array([self._x, self._t])


gymnasium.register("Tiny-v0", Tiny, max_episode_steps=20)
gymnasium.register("TinyImage-v0", Tiny, max_episode_steps=20, kwargs={"image": True})
