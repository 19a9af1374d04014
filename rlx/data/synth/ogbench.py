"""OGBench's data sets made anew, with the environments and scripted oracles of its package.

'OGBench: Benchmarking Offline Goal-Conditioned RL', Park et al. 2025, arXiv 2410.20092, appendix on
data collection. An episode is a function of its seed; the names of its arrays are those of the
published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rlx.data.synth import manipulation, maze
from rlx.envs import host
from rlx.envs.host_names import DATA_TYPES
from rlx.names import nearest

# What each family is collected by; soccer needs a policy that also dribbles.
COLLECTORS = {
    "pointmaze": maze,
    "antmaze": maze,
    "humanoidmaze": maze,
    "cube": manipulation,
    "scene": manipulation,
    "puzzle": manipulation,
}
WALKERS = ("antmaze", "humanoidmaze")  # walk by a policy that has to be learned before
ATTEMPTS = 100  # episodes tried for one that is kept; few scenes are thrown away


class Size(NamedTuple):
    """The size of a data set, without its validation part."""

    episodes: int
    rows: int  # per episode, one more than transitions


def family(env: str) -> str:
    """Return "cube" of "visual-cube-single"."""
    return env.removeprefix("visual-").split("-")[0]


def size(env: str, kind: str) -> Size:
    """Return how much the published data set of `env` ("cube-single") and type ("play") has."""
    humanoid, giant = family(env) == "humanoidmaze", env.endswith("giant")
    if kind == "stitch":
        return Size(5000, 401 if humanoid else 201)
    if kind == "explore":
        return Size(10000, 501)
    if humanoid or giant:
        return Size(500 if giant else 1000, 4001 if humanoid and giant else 2001)
    many = {"cube-triple": 3000, "puzzle-4x5": 3000, "cube-quadruple": 5000, "puzzle-4x6": 5000}
    return Size(many.get(env.removeprefix("visual-"), 1000), 1001)


def check(env: str, kind: str) -> None:
    """Raise a ValueError, with the nearest names, if no data set `env`, `kind` can be made."""
    ids = [name.removesuffix("-v0") for name in host.registered() if "singletask" not in name]
    known = [name for name in ids if family(name) in COLLECTORS]
    if env not in known:
        close = ", ".join(nearest(env, known))
        raise ValueError(f"no data can be made of environment {env!r}; nearest: {close}")
    types = DATA_TYPES[family(env)]
    if kind not in types:
        close = nearest(kind, types, 1)[0]
        raise ValueError(f"{env} has data of type {', '.join(types)}, not {kind!r}; try {close!r}")


class Generator:
    """Makes episodes of one data set, all in the same environment."""

    def __init__(self, env: str, kind: str, rows: int, policy: maze.Policy | None = None):
        """Prepare episodes of `rows` rows.

        Args:
          env, kind: "cube-single", "play".
          policy: for ants and humanoids: (obs [O] without xy, direction [2]) -> action [A].

        Raises:
          ValueError: see `check`; a walker without a policy or with one of another body.
        """
        check(env, kind)
        if family(env) in WALKERS and policy is None:
            raise ValueError(f"{env} needs a policy that walks in a given direction")
        self._collector = COLLECTORS[family(env)]
        self._kind, self._policy = kind, policy
        options = self._collector.OPTIONS
        self._env = host.make(
            f"{env}-v0", terminate_at_goal=False, max_episode_steps=rows, **options
        )
        if policy is not None:
            maze.check_policy(self._env, policy)

    def episode(self, seed: int) -> dict[str, np.ndarray]:
        """Return the episode of `seed`, a function of it alone.

        Returns:
          observations [rows, *O] float32 or uint8, actions [rows, A] float32, terminals bool[rows]
          (the last is True), qpos, qvel [rows, ...] float32, for scenes and puzzles also
          button_states [rows, buttons] int64; all before the row's action.
        """
        for attempt in range(ATTEMPTS):
            rows = self._attempt(seed if attempt == 0 else _another(seed, attempt))
            if rows is not None:
                return _columns(rows)
        raise RuntimeError(f"{ATTEMPTS} episodes after seed {seed} were all broken")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _attempt(self, seed: int) -> list[Mapping[str, Any]] | None:
        # The oracles and the mazes draw from NumPy's global generator: lend them another one.
        others = np.random.mtrand.get_bit_generator()
        np.random.mtrand.set_bit_generator(np.random.MT19937(0))
        np.random.seed(seed)  # noqa: NPY002, as OGBench's scripts would if they used their flag
        try:
            self._env.action_space.seed(seed)
            return self._collector.collect(self._env, self._kind, seed, self._policy)
        finally:
            np.random.mtrand.set_bit_generator(others)


def _another(seed: int, attempt: int) -> int:
    return int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])


def generate_episode(
    env: str, kind: str, seed: int, rows: int, policy: maze.Policy | None = None
) -> dict[str, np.ndarray]:
    """Return one episode; see `Generator`, which makes many of them faster."""
    generator = Generator(env, kind, rows, policy)
    try:
        return generator.episode(seed)
    finally:
        generator.close()


def _columns(rows: list[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    image = columns["observations"].dtype == np.uint8
    types = {"observations": np.uint8 if image else np.float32, "button_states": np.int64}
    made = {name: x.astype(types.get(name, np.float32)) for name, x in columns.items()}
    made["terminals"] = np.arange(len(rows)) == len(rows) - 1
    return made
