"""brax's own tasks as `Env`s, without brax's wrappers and trainers.

This is the one file of rlx that imports brax, and it does so inside functions. It never imports
`brax.training`: the trainers of brax 0.14.2 do not start on jax >= 0.10.
"""

from __future__ import annotations

from typing import Any

from rlx.envs import names
from rlx.envs.adapt import adapt
from rlx.types import Env

BACKENDS = ("spring", "generalized", "positional", "mjx")
EPISODE_LENGTH = 1000  # physics frames; brax's own default for every task


def make(
    name: str, backend: str = "spring", episode_length: int = EPISODE_LENGTH, **overrides: Any
) -> Env:
    """Make a brax task, e.g. "brax/inverted_pendulum".

    Args:
      backend: brax's physics. "spring", our default, is valid for every task listed, compiles
        fastest and steps fastest on a CPU; brax's own default "generalized" is the closest to
        MuJoCo. Rewards and, for some tasks, the time step differ between backends: compare
        returns within one only.
      overrides: further arguments of that task's brax class, e.g. `terminate_when_unhealthy=False`.

    brax's `done` is the task's own end (a fall), so it becomes `terminated`; the time limit is
    added by `vectorize`.
    """
    if name not in names.BRAX:
        raise names.unknown(name)
    if backend not in BACKENDS:
        raise ValueError(f"backend of {name} is one of {', '.join(BACKENDS)}, got {backend!r}")
    from brax import envs

    try:
        env: Any = envs.get_environment(
            name.removeprefix(names.BRAX_PREFIX), backend=backend, **overrides
        )
    except TypeError as error:
        raise ValueError(
            f"{name} does not take the settings {sorted(overrides)}: {error}"
        ) from error
    return adapt(
        env,
        name=name,
        action_size=int(env.action_size),
        dt=float(env.dt),
        episode_length=episode_length,
    )
