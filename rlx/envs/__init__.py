"""Environments by name: pure-JAX classics, MuJoCo playground and brax, all as `rlx.types.Env`.

Importing this package imports no simulator; `make` imports the one that a name needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlx.envs import names

if TYPE_CHECKING:
    from rlx.types import Env

__all__ = ["make"]


def make(name: str, impl: str = "auto", **overrides: Any) -> Env:
    """Make the environment `name`; `python -m rlx.envs` lists all names.

    Args:
      name: a classic ("pendulum"), the arm ("reach"), a playground task as playground spells it
        ("CartpoleSwingup"), or a brax task with its prefix ("brax/inverted_pendulum").
      impl: physics of playground tasks: "jax", "warp" (CUDA only) or "auto"; see
      `rlx.envs.mjx.make`.
      overrides: settings of that environment: keyword arguments of the functions in
        `rlx.envs.classic` or of `rlx.envs.reach.build`, keys of the playground task's config
        (`sim_dt=0.005`), or arguments of the brax task (`backend="generalized"`).

    Returns:
      One environment without batch axis, time limit or automatic reset, which
      `rlx.envs.core.vectorize` adds.
    """
    if name in names.DM_CONTROL or name in names.MENAGERIE:
        from rlx.envs import mjx

        return mjx.make(name, impl, **overrides)
    if name not in names.ALL:
        raise names.unknown(name)
    if impl not in ("auto", "jax"):
        raise ValueError(f"impl={impl!r} is for playground tasks only; {name} runs on jax alone")
    if name in names.BRAX:
        from rlx.envs import brax

        return brax.make(name, **overrides)
    if name in names.ARM:
        from rlx.envs import reach

        return reach.make(name, **overrides)
    from rlx.envs import classic

    return classic.make(name, **overrides)
