"""Demonstrations of a two-link arm that pushes a puck onto the disc which a sentence names.

An episode lasts 1 s, in three parts of 0.4, 0.2 and 0.4 s: to a pose behind the puck, with the
finger up (path of least jerk through a via point, as in `rlx.data.synth.reach`); down with the
finger; straight on until the puck lies on the disc (least jerk along the line). The elbow is up or
down by chance. Actions are joint targets in rad relative to the start, and a bit: 1 = finger down.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from rlx.data.synth import reach
from rlx.envs import arm

BEHIND, GO = 0.4, 0.6  # when the arm has arrived behind the puck, and when it begins to push


def generate(
    seed: int, episodes: int, hz: int, images: bool = False, split: str = "train"
) -> dict[str, Any]:
    """Make `episodes` demonstrations; the first n of them do not depend on `episodes`.

    hz: a multiple of 5, so that the parts of an episode are whole numbers of steps.
    Returns: as `rlx.data.synth.reach.generate`, and `puck` f32 [N, 2]; `state` is q, q' and without
    images puck and goal; S = 8, with images 4.
    """
    reach.check(episodes, hz, split)
    if hz % 5:
        raise ValueError(f"hz is a multiple of 5 for pushes, got {hz}")
    made = jax.device_get(_episodes(reach.keys(seed, episodes, split), hz, images))
    return {**made, "prompt": np.array(arm.PUSH_PROMPTS)[made["prompt_id"]]}


@partial(jax.jit, static_argnums=(1, 2))
def _episodes(keys: jax.Array, hz: int, images: bool) -> dict[str, Any]:
    return jax.vmap(partial(_episode, hz=hz, images=images))(keys)


def _episode(key: jax.Array, hz: int, images: bool) -> dict[str, Any]:
    pose_key, scene_key, elbow_key, via_key = jax.random.split(key, 4)
    q0, scene = arm.draw_pose(pose_key), arm.draw_scene(scene_key, push=True)
    elbow = jax.random.rademacher(elbow_key, (), jnp.float32)
    via = reach.VIA * jax.random.normal(via_key, (2,))
    start, end = arm.push_line(cast(jax.Array, scene.puck), arm.goal(scene))
    behind = arm.inverse(start, elbow)

    s = reach.times(hz)
    first = jnp.minimum(s / BEHIND, 1.0)[:, None]
    approach = (behind - q0) * reach.minimum_jerk(first) + via * reach.bump(first)
    second = jnp.clip((s - GO) / (1 - GO), 0.0, 1.0)[:, None]
    line = start + (end - start) * reach.minimum_jerk(second)
    push = arm.wrap(arm.inverse(line, elbow) - behind)  # turns by less than pi: no jumps
    down = 5 * jnp.arange(1, hz + 1) > 2 * hz  # after 0.4 s, in whole numbers
    made = {
        "state": arm.numbers(q0, jnp.zeros(2), scene, images),
        "actions": jnp.concatenate([approach + push, down.astype(jnp.float32)[:, None]], axis=1),
        "prompt_id": scene.prompt,
        "q0": q0,
        "goal": arm.goal(scene),
        "discs": scene.discs,
        "puck": scene.puck,
        "elbow": elbow,
    }
    return made | ({"images": {"base": arm.picture(q0, scene)}} if images else {})


@jax.jit
def success(q0: jax.Array, puck: jax.Array, actions: jax.Array, goal: jax.Array) -> jax.Array:
    """Say of each episode `[N]` whether its actions, played with exact joints, leave the puck
    within 0.03 m of the goal.

    Args: q0 `[N, 2]` or the whole state `[N, S]`; puck, goal `[N, 2]`; actions `[N, T, 3]`.
    """

    def one(q0: jax.Array, puck: jax.Array, actions: jax.Array, goal: jax.Array) -> jax.Array:
        def step(carry: tuple[jax.Array, jax.Array], action: jax.Array):
            q, puck = carry
            target = q0 + action[:2]
            puck = jnp.where(action[2] > 0.5, arm.slide(puck, q, target), puck)
            return (target, puck), None

        (_, puck), _ = jax.lax.scan(step, (q0, puck), actions)
        return jnp.linalg.norm(puck - goal) < arm.PUSHED

    return jax.vmap(one)(q0[:, :2], puck, actions, goal)
