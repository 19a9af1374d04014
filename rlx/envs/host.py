"""Gymnasium environments on the host: by name, and as a pool of lanes stepped by processes.

OGBench's tasks go by the names of their data sets (Park et al. 2025, arXiv 2410.20092). This is the
one file of rlx that imports gymnasium, and it does so inside functions.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from rlx.envs import host_names
from rlx.envs.workers import Local, Remote, WorkerError

if TYPE_CHECKING:
    import gymnasium

    from rlx.types import EnvSpec


class Steps(NamedTuple):
    """What n lanes return after one step; no lane is reset."""

    obs: np.ndarray  # [n, *O]
    reward: np.ndarray  # f64[n]
    terminated: np.ndarray  # bool[n]
    truncated: np.ndarray  # bool[n]
    success: np.ndarray  # f64[n], `info["success"]` of this step, 0 without one


def make(name: str, **kwargs: Any) -> gymnasium.Env:
    """Make one environment whose actions lie in [-1, 1].

    Args:
      name: a task by its data set ("cube-single-play-singletask-task2-v0"), a walker
        ("walk-ant"), or a gymnasium id.
      kwargs: arguments of `gymnasium.make` and of the environment, such as `max_episode_steps=50`.

    Raises:
      ValueError: unknown name (with the nearest), images without a renderer, discrete actions.
    """
    import gymnasium

    env = gymnasium.make(environment_id(name), disable_env_checker=True, **kwargs)
    env = host_names.wrapped(name, env)
    action, obs = env.action_space, env.observation_space
    if not isinstance(action, gymnasium.spaces.Box) or not isinstance(obs, gymnasium.spaces.Box):
        raise ValueError(f"{name} has actions {action} and observations {obs}; both must be a Box")
    if not action.is_bounded():
        raise ValueError(f"{name} has unbounded actions {action}")
    if (action.low == -1).all() and (action.high == 1).all():
        return env
    return gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))


def environment_id(name: str) -> str:
    """Return the gymnasium id of an OGBench data set's environment or of any gymnasium id.

    A name of the form "module:id" is an id that importing `module` registers.

    Raises:
      ValueError: see `make`.
    """
    return host_names.resolve(name, registered())


def registered() -> list[str]:
    """Return the ids of all environments, those of OGBench among them if it is installed."""
    import gymnasium

    # glfw has no display and is not needed; manipspace makes a float64 space at every look at it
    warnings.filterwarnings("ignore", message=".*DISPLAY environment variable is missing")
    warnings.filterwarnings("ignore", message=".*precision lowered by casting to float32")
    with contextlib.suppress(ModuleNotFoundError):
        import ogbench.online_locomotion  # noqa: F401
    return list(gymnasium.registry)


def spec(env: gymnasium.Env, frame_stack: int = 1) -> EnvSpec:
    """Return the shapes of one environment; images are uint8, all else float32."""
    from rlx.types import EnvSpec, Spec

    image = env.observation_space.dtype == np.uint8
    shape = cast(tuple[int, ...], env.observation_space.shape)
    stacked = (*shape[:-1], shape[-1] * frame_stack)
    obs = Spec(stacked, np.uint8, 0, 255) if image else Spec(stacked, np.float32)
    action = cast(tuple[int, ...], env.action_space.shape)
    return EnvSpec(obs, Spec(action, np.float32, -1.0, 1.0))


def episode_length(env: gymnasium.Env) -> int:
    """Return the steps until truncation.

    Raises:
      ValueError: the environment has no time limit.
    """
    steps = env.spec.max_episode_steps if env.spec else None
    if steps is None:
        raise ValueError(f"{env} has no time limit; give max_episode_steps=")
    return steps


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Yield the environment, what it wraps, what that wraps."""
    while env is not env.unwrapped:
        yield env
        env = cast("gymnasium.Wrapper", env).env
    yield env


class Lane:
    """One environment with its own randomness and its last frames."""

    def __init__(self, name: str, frame_stack: int, kwargs: Mapping[str, Any]):
        """Make environment `name`; observations are its last `frame_stack` frames."""
        self.env = make(name, **kwargs)
        self._frames: deque[np.ndarray] = deque(maxlen=frame_stack)
        self._numpy, self._python = np.random.MT19937(0), random.Random(0).getstate()

    def reset(self, seed: int) -> np.ndarray:
        """Begin the episode that `seed` names; return its first observation."""
        with self._own_randomness():
            np.random.seed(seed)  # noqa: NPY002, the generator that OGBench draws from
            random.seed(seed)
            for layer in _layers(self.env):  # a wrapper's action space need not be the inner one
                layer.action_space.seed(seed)
            obs, _ = self.env.reset(seed=seed)
        self._frames.extend([self._frame(obs)] * cast(int, self._frames.maxlen))
        return self._stacked()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        """Take `action` [A]; return obs, reward, terminated, truncated, success."""
        with self._own_randomness():
            obs, reward, terminated, truncated, info = self.env.step(action)
        self._frames.append(self._frame(obs))
        success = float(np.asarray(info.get("success", 0.0)))
        return self._stacked(), float(reward), bool(terminated), bool(truncated), success

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Lend this process's generators to the lane for one call.

        OGBench's mazes draw start and goal noise from NumPy's global generator at reset, teleport
        mazes their exits in mid-episode: lanes of one process would otherwise disturb each other.
        NumPy's generator is exchanged, not copied: 1 us instead of 230.
        """
        others = np.random.mtrand.get_bit_generator(), random.getstate()
        np.random.mtrand.set_bit_generator(self._numpy)
        random.setstate(self._python)
        try:
            yield
        finally:
            self._python = random.getstate()
            np.random.mtrand.set_bit_generator(others[0])
            random.setstate(others[1])

    def _frame(self, obs: np.ndarray) -> np.ndarray:
        return np.array(obs, np.uint8 if obs.dtype == np.uint8 else np.float32)

    def _stacked(self) -> np.ndarray:
        return np.concatenate(self._frames, axis=-1)


class Lanes:
    """The lanes of one process."""

    def __init__(self, name: str, count: int, frame_stack: int, kwargs: Mapping[str, Any]):
        """Make `count` lanes of environment `name`."""
        self._lanes = [Lane(name, frame_stack, kwargs) for _ in range(count)]

    def about(self, frame_stack: int) -> tuple[EnvSpec, int]:
        """Return spec and episode length."""
        env = self._lanes[0].env
        return spec(env, frame_stack), episode_length(env)

    def reset(self, lanes: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray]:
        """Reset some lanes; return the columns of the answer."""
        return (np.stack([self._lanes[i].reset(int(seed)) for i, seed in zip(lanes, seeds)]),)

    def step(self, lanes: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step some lanes; return the columns of `Steps`."""
        steps = [self._lanes[i].step(action) for i, action in zip(lanes, actions)]
        return tuple(np.stack(column) for column in zip(*steps))

    def replay(self, lane: int, seed: int, actions: np.ndarray) -> np.ndarray:
        """Reset one lane and take `actions` [k, A] again; return the observation after them."""
        obs = self._lanes[lane].reset(seed)
        for action in actions:
            obs = self._lanes[lane].step(action)[0]
        return obs

    def close(self) -> None:
        """Close all environments."""
        for lane in self._lanes:
            lane.env.close()


class Pool:
    """Environments of one name in lanes; nothing is reset by itself.

    An episode is a function of its seed and its actions: neither the number of lanes and processes
    nor what other lanes do changes it. Use as a context manager.
    """

    def __init__(
        self, name: str, lanes: int, workers: int = 0, frame_stack: int = 1, **kwargs: Any
    ):
        """Make `lanes` environments in `workers` processes, 0 for this one.

        Args:
          name, kwargs: see `make`.
          frame_stack: observations are the last so many images, concatenated along the channels,
            oldest first; the first one is repeated at reset.

        Raises:
          ValueError: see `make`; no lane, a negative number.
        """
        if lanes < 1 or workers < 0 or frame_stack < 1:
            raise ValueError(f"need lanes, frame_stack >= 1 and workers >= 0: {lanes=} {workers=}")
        environment_id(name)  # fails here, before any process
        self.lanes = lanes
        shares = np.bincount(np.arange(lanes) % max(1, workers))
        self._workers: list[Local | Remote] = []
        start = Remote if workers else Local
        try:
            for count in shares:
                made = start(Lanes, name, int(count), frame_stack, kwargs)
                self._workers.append(made)
            if workers:
                self._receive(range(len(shares)))
            self._workers[0].send("about", frame_stack)
            self.spec, self.episode_length = self._workers[0].receive()
        except BaseException:
            self.close()
            raise

    def reset(self, lanes: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Begin episode `seeds[i]` in `lanes[i]`; return first observations [n, *O]."""
        return self._together("reset", lanes, np.asarray(seeds))[0]

    def step(self, lanes: Sequence[int], actions: np.ndarray) -> Steps:
        """Take actions [n, A], one in each of `lanes`; processes step at the same time."""
        return Steps(*self._together("step", lanes, np.asarray(actions, np.float32)))

    def replay(self, lane: int, seed: int, actions: np.ndarray) -> np.ndarray:
        """Return `lane` to where actions [k, A] after `reset(seed)` lead; return the observation.

        This is how an interrupted run goes on, bit for bit: simulators cannot be saved, their
        seeds and actions can.
        """
        if not 0 <= lane < self.lanes:
            raise ValueError(f"lane {lane} in a pool of {self.lanes}")
        worker = self._workers[lane % len(self._workers)]
        actions = np.asarray(actions, np.float32)
        worker.send("replay", lane // len(self._workers), int(seed), actions)
        return worker.receive()

    def close(self) -> None:
        """Close the environments and end the processes."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _together(self, method: str, lanes: Iterable[int], values: np.ndarray) -> list[np.ndarray]:
        """Call `method` of all workers that hold some of the lanes; return columns in order."""
        lanes, count = np.asarray(lanes, int), len(self._workers)
        one_each = 0 < len(lanes) == len(values) == len(np.unique(lanes))
        if not one_each or lanes.min() < 0 or lanes.max() >= self.lanes:
            raise ValueError(f"lanes {lanes} for {len(values)} values, in a pool of {self.lanes}")
        parts = [np.flatnonzero(lanes % count == worker) for worker in range(count)]
        busy = [worker for worker in range(count) if parts[worker].size]
        for worker in busy:
            part = parts[worker]
            self._workers[worker].send(method, lanes[part] // count, values[part])
        back = np.argsort(np.concatenate([parts[worker] for worker in busy]))
        return [np.concatenate(column)[back] for column in zip(*self._receive(busy))]

    def _receive(self, workers: Iterable[int]) -> list[Any]:
        """Return every worker's answer; the first error, after all have answered."""
        answers, errors = [], []
        for worker in workers:
            try:
                answers.append(self._workers[worker].receive())
            except WorkerError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers
