"""Demonstrations of a two-link arm that reaches for the disc which a sentence names.

An episode lasts 1 s. The arm goes from q0 to one of the two poses that put its tip on the disc
(elbow up or down, by chance: no mean of the two reaches anything), through a via point at mid-time
that lies N(0, 0.1^2) rad beside the straight way, on the path of least jerk:

  q(s) = q0 + (q* - q0) m(s) + d b(s),   s in [0, 1]
  m(s) = 10 s^3 - 15 s^4 + 6 s^5                        at rest at both ends, m(1/2) = 1/2
  b(s) = (20 u^3 - 25 u^4 + 8 u^5) / 3,  u = 2 min(s, 1 - s)     b(1/2) = 1, four derivatives
                                                        continuous there (Flash and Hogan 1985)

An action is (q(s) - q0, gripper), s = 1/hz, 2/hz ... 1: joint targets in rad relative to the start
of the chunk, and a bit that closes at s = 0.8. A control frequency samples the SAME motions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlx.envs import arm
from rlx.infra.random import key_for

SPLITS = ("train", "test")
VIA = 0.1  # rad, standard deviation of the via point, per joint
CLOSE = (4, 5)  # the gripper closes at 4/5 of the motion
RATES = (5, 10, 20, 50, 100)  # Hz, control frequencies that are commonly compared


def generate(
    seed: int, episodes: int, hz: int, images: bool = False, split: str = "train"
) -> dict[str, Any]:
    """Make `episodes` demonstrations; the first n of them do not depend on `episodes`.

    Returns: NumPy arrays, N = episodes, T = hz (one chunk is one second)
      state   f32 [N, S]: q, q' (0: at rest), and without images the goal; S = 6, with images 4
      actions f32 [N, T, 3], see above.   prompt: str [N];   prompt_id: int32 [N]
      images  {"base": uint8 [N, 32, 32, 3]}, only with `images`
      q0 f32 [N, 2];  goal f32 [N, 2];  discs f32 [N, 3, 2];  elbow f32 [N], +1 or -1
    Raises ValueError for numbers below 1 and unknown splits.
    """
    check(episodes, hz, split)
    made = jax.device_get(_episodes(keys(seed, episodes, split), hz, images))
    return {**made, "prompt": np.array(arm.REACH_PROMPTS)[made["prompt_id"]]}


def check(episodes: int, hz: int, split: str) -> None:
    """Raise a ValueError for arguments that no data set can be made of."""
    for name, value in (("episodes", episodes), ("hz", hz)):
        if value < 1 or int(value) != value:
            raise ValueError(f"{name} is a whole number >= 1, got {value!r}")
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, got {split!r}")


def keys(seed: int, episodes: int, split: str) -> jax.Array:
    """Return one key per episode `[episodes]`."""
    key = key_for(seed, SPLITS.index(split), "sample")
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(episodes))


@partial(jax.jit, static_argnums=(1, 2))
def _episodes(keys: jax.Array, hz: int, images: bool) -> dict[str, Any]:
    return jax.vmap(partial(_episode, hz=hz, images=images))(keys)


def _episode(key: jax.Array, hz: int, images: bool) -> dict[str, Any]:
    pose_key, scene_key, elbow_key, via_key = jax.random.split(key, 4)
    q0, scene = arm.draw_pose(pose_key), arm.draw_scene(scene_key, push=False)
    elbow = jax.random.rademacher(elbow_key, (), jnp.float32)
    via = VIA * jax.random.normal(via_key, (2,))
    move = arm.inverse(arm.goal(scene), elbow) - q0
    s = times(hz)
    joints = move * minimum_jerk(s)[:, None] + via * bump(s)[:, None]
    made = {
        "state": arm.numbers(q0, jnp.zeros(2), scene, images),
        "actions": jnp.concatenate([joints, gripper(hz)[:, None]], axis=1),
        "prompt_id": scene.prompt,
        "q0": q0,
        "goal": arm.goal(scene),
        "discs": scene.discs,
        "elbow": elbow,
    }
    return made | ({"images": {"base": arm.picture(q0, scene)}} if images else {})


def times(hz: int) -> jax.Array:
    """Return when the actions of a second are due, as shares `[hz]` of it: 1/hz ... 1."""
    return jnp.arange(1, hz + 1, dtype=jnp.float32) / hz


def minimum_jerk(s: jax.Array) -> jax.Array:
    """Return m(s): from 0 to 1 along the path of least jerk, at rest at both ends."""
    return s**3 * (10 - 15 * s + 6 * s**2)


def bump(s: jax.Array) -> jax.Array:
    """Return b(s): from 0 through 1 at s = 1/2 back to 0 along the path of least jerk."""
    u = 2 * jnp.minimum(s, 1 - s)
    return u**3 * (20 - 25 * u + 8 * u**2) / 3


def gripper(hz: int) -> jax.Array:
    """Return the gripper's bit `[hz]`, 0 open, 1 closed; in whole numbers: 0.8 has no float."""
    part, whole = CLOSE
    return (whole * jnp.arange(1, hz + 1) >= part * hz).astype(jnp.float32)


@jax.jit
def success(q0: jax.Array, actions: jax.Array, goal: jax.Array) -> jax.Array:
    """Say of each episode whether its last action puts the tip within 0.02 m of the goal.

    Args: q0 `[..., 2]` or the whole state `[..., S]`; actions `[..., T, A]`; goal `[..., 2]`.
    """
    tip = arm.fingertip(q0[..., :2] + actions[..., -1, :2])
    return jnp.linalg.norm(tip - goal, axis=-1) < arm.REACHED


@jax.jit
def expert_error(q0: jax.Array, actions: jax.Array, goal: jax.Array) -> jax.Array:
    """Return the mean squared error (rad^2, over joints and steps) of `actions` to the noiseless
    expert with the elbow that is nearer; demonstrations themselves have 0.1^2 * mean b(s)^2.

    Args and shapes: as `success`.   Returns: `[...]`.
    """
    way = minimum_jerk(times(actions.shape[-2]))[:, None]

    def error(elbow: float) -> jax.Array:
        move = arm.inverse(goal, jnp.float32(elbow)) - q0[..., :2]
        return jnp.mean((actions[..., :2] - move[..., None, :] * way) ** 2, axis=(-2, -1))

    return jnp.minimum(error(1.0), error(-1.0))
