"""The names of host environments: OGBench's data sets and gymnasium's ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rlx.names import nearest

MAZE_TYPES = ("navigate", "stitch", "explore", "path")
# Types of OGBench's data sets by family; the type is part of a task's name, not of its environment.
DATA_TYPES = {
    "pointmaze": MAZE_TYPES,
    "antmaze": MAZE_TYPES,
    "humanoidmaze": MAZE_TYPES,
    "antsoccer": ("navigate", "stitch"),
    "cube": ("play", "noisy"),
    "scene": ("play", "noisy"),
    "puzzle": ("play", "noisy"),
}
# Bodies that learn to walk in a given direction (the experts that make data of mazes): environment,
# OGBench's wrapper, steps until a new direction.
WALKERS = {
    "walk-ant": ("online-ant-v0", "GymXYWrapper", 100),
    "walk-humanoid": ("online-humanoid-v0", "DMCHumanoidXYWrapper", 200),
}
RENDERERS = ("egl", "osmesa", "glfw")  # values of MUJOCO_GL that draw


def resolve(name: str, registered: Iterable[str]) -> str:
    """Return the id, out of those `registered`, of the environment called `name`.

    `name` is an id, "module:id", or that of an OGBench data set: "cube-single-play-v0" is
    "cube-single-v0", and the same with "-singletask" and "-singletask-task2".

    Raises:
      ValueError: unknown name (with the nearest), images without renderer.
    """
    registered = list(registered)
    ids = dict(zip(registered, registered)) | _data_set_names(registered)
    ids |= {walker: env_id for walker, (env_id, *_) in WALKERS.items() if env_id in ids}
    if ":" not in name and name not in ids:
        hint = "" if "cube-single-v0" in ids else "; OGBench's need `pip install ogbench`"
        close = ", ".join(nearest(name, ids))
        raise ValueError(f"unknown environment {name!r}; nearest: {close}{hint}")
    if name.startswith("visual-"):
        check_renderer(name)
    return ids.get(name, name)


def wrapped(name: str, env: Any) -> Any:
    """Return the environment of a walker with its direction in the observation, others as is."""
    if name not in WALKERS:
        return env
    from ogbench.online_locomotion import wrappers

    _, wrapper, interval = WALKERS[name]
    return getattr(wrappers, wrapper)(env, resample_interval=interval)


def _data_set_names(registered: Iterable[str]) -> dict[str, str]:
    names = {}
    for env_id in registered:
        types = DATA_TYPES.get(env_id.removeprefix("visual-").split("-")[0], ())
        base, single, task = env_id.removesuffix("-v0").partition("-singletask")
        names |= {f"{base}-{kind}{single}{task}-v0": env_id for kind in types}
    return names


def check_renderer(name: str) -> None:
    """Raise a ValueError if nothing here can draw the images of `name`."""
    chosen = os.environ.get("MUJOCO_GL")
    window = sys.platform != "linux" or bool(os.environ.get("DISPLAY"))
    if chosen not in RENDERERS and (chosen or not window):
        raise ValueError(
            f"{name} draws images and MUJOCO_GL is {chosen or 'not set'}; set MUJOCO_GL=egl where "
            "there is a GPU, MUJOCO_GL=osmesa elsewhere (apt-get install libosmesa6)"
        )
