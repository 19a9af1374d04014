"""MuJoCo playground tasks (MJX physics) as `Env`s: 25 of dm_control, and 29 robots with menagerie.

All dm_control tasks give a flat float32 observation and terminate only if the physics diverged.
This is the one file of rlx that imports mujoco, and it does so inside functions.
`python -m rlx.envs.mjx --fetch` clones mujoco_menagerie, which the locomotion and manipulation
tasks need.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlx.envs import names
from rlx.envs.adapt import adapt, like, strong
from rlx.types import Env, PyTree

IMPLS = ("auto", "jax", "warp")
MENAGERIE_MB = 550  # size of the git repository; the checkout comes on top


def make(name: str, impl: str = "auto", **overrides: Any) -> Env:
    """Make a playground task.

    Args:
      name: as playground spells it, e.g. "CartpoleSwingup".
      impl: "jax" runs everywhere; "warp" is made for CUDA and is no use elsewhere; "auto" takes
        warp on CUDA and jax otherwise. (Playground's own default is warp on every machine.)
      overrides: keys of the task's playground config; nested ones with a dot, e.g.
        `{"vision_config.nworld": 8}`.

    Compile cost of CartpoleSwingup with impl="jax" on 2 CPU cores [measured]: reset 7 s and step
    7 s without a cache (11 CPU-s each, of which 1-2 s are tracing); contact-rich tasks cost several
    times as much.
    """
    if name not in names.DM_CONTROL and name not in names.MENAGERIE:
        raise names.unknown(name)
    impl = choose_impl(impl)
    if name in names.MENAGERIE:
        check_menagerie(name)
    from mujoco_playground import registry

    config: Any = registry.get_default_config(name)
    names.check_overrides(name, overrides, setting_names(config))
    config.update_from_flattened_dict({**overrides, "impl": impl})
    env = registry.load(name, config=config)
    return adapt(
        env,
        name=name,
        action_size=env.action_size,
        dt=float(env.dt),
        episode_length=int(config.episode_length),  # read after load: a vision task changes it
    )


def setting_names(config: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a ConfigDict."""
    found = []
    for key, value in config.items():
        found.append(prefix + key)
        if hasattr(value, "items"):
            found += setting_names(value, f"{prefix}{key}.")
    return found


class Physics(NamedTuple):
    """The dynamics of one MuJoCo model as pure functions."""

    reset: Callable[[jax.Array], PyTree]  # qpos [nq] -> data, at rest
    step: Callable[[PyTree, jax.Array, int], PyTree]  # data, ctrl [nu], frames -> data


def compile_xml(xml: str) -> Physics:
    """Compile a model given as text, for MJX's own implementation in jax.

    `data` is an `mjx.Data` of which callers read `qpos [nq]` and `qvel [nv]`; all else in it is of
    the frame before. For an arm of two joints `step` compiles in 3 s [measured].
    """
    import mujoco
    from mujoco import mjx

    # MjModel is compiled: the type checker sees none of its methods
    model = mujoco.MjModel.from_xml_string(xml)  # pyright: ignore[reportAttributeAccessIssue]
    on_device = mjx.put_model(model, impl="jax")

    def reset(qpos: jax.Array) -> PyTree:
        data = mjx.make_data(model, impl="jax").replace(qpos=qpos)
        return jax.tree.map(strong, data)

    def step(data: PyTree, ctrl: jax.Array, frames: int) -> PyTree:
        def frame(_: int, data: PyTree) -> PyTree:
            return like(mjx.step(on_device, data), data, "mjx")

        return jax.lax.fori_loop(0, frames, frame, data.replace(ctrl=jnp.asarray(ctrl)))

    return Physics(reset, step)


def choose_impl(impl: str) -> str:
    """The physics implementation for this machine: "jax" or "warp"."""
    if impl not in IMPLS:
        raise ValueError(f"env.impl is one of {', '.join(IMPLS)}, got {impl!r}")
    if impl == "jax":
        return impl
    backend = jax.default_backend()
    cuda = backend == "gpu" and "cuda" in jax.devices()[0].client.platform_version.lower()
    installed = importlib.util.find_spec("warp") is not None
    if impl == "auto":
        return "warp" if cuda and installed else "jax"
    if backend == "tpu":
        raise ValueError(
            "impl='warp' needs CUDA and does not exist on TPU; use impl='jax' or 'auto'"
        )
    if not installed:
        raise ValueError(
            "impl='warp' needs the package warp-lang: `pip install warp-lang`, or use impl='jax'"
        )
    if not cuda:
        warnings.warn(
            f"impl='warp' on {backend}: Warp builds C++ kernels for each model at first use, "
            "tens of seconds (44 s for one sphere); impl='jax' is meant for machines without CUDA",
            stacklevel=3,
        )
    return "warp"


def check_menagerie(name: str) -> None:
    """Raise unless mujoco_menagerie is on disk: playground would clone it without asking."""
    from mujoco_playground._src import mjx_env

    if has_files(mjx_env.MENAGERIE_PATH):
        return
    raise ValueError(
        f"{name} needs mujoco_menagerie (about {MENAGERIE_MB} MB, git). Clone it with "
        "`python -m rlx.envs.mjx --fetch`, or choose one of the 25 dm_control tasks: "
        f"{', '.join(names.DM_CONTROL)}"
    )


def has_files(path: Any) -> bool:
    """Whether `path` is a folder with something in it (a refused clone leaves an empty one)."""
    return path.is_dir() and any(path.iterdir())


def fetch() -> None:
    """Clone mujoco_menagerie at the commit that the installed playground asks for."""
    from mujoco_playground._src import mjx_env

    path = mjx_env.MENAGERIE_PATH
    if has_files(path):
        print(f"mujoco_menagerie is already in {path}")
        return
    if path.is_dir():
        path.rmdir()
    mjx_env.ensure_menagerie_exists()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rlx.envs.mjx", description=__doc__)
    parser.add_argument(
        "--fetch",
        action="store_true",
        required=True,
        help=f"clone mujoco_menagerie (about {MENAGERIE_MB} MB)",
    )
    parser.parse_args(argv)
    try:
        fetch()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(
            f"could not clone mujoco_menagerie: {error}. Is git installed, and the network up?",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
