"""A planar arm of two equal links over three coloured discs: geometry, scenes, pictures.

Angles in rad, lengths in m. Joint angles q = (q1, q2), q2 relative to the first link; the base
stands at the origin. Shared by the environments of `rlx.envs.reach` and the demonstrations of
`rlx.data.synth`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from rlx.envs import raster

LINK = 0.12  # length of each link
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.7, 0.1), "blue": (0.1, 0.2, 0.9)}
DISC = 0.015  # radius of a disc
ANNULUS = (0.08, 0.22)  # distances from the base where discs lie
APART = 0.06  # smallest distance between the centres of two discs
REACHED = 0.02  # fingertip to the disc's centre: success below it
PUCK, FINGER = 0.03, 0.008  # radii of the puck and of the fingertip that pushes it
PUSHED = 0.03  # puck to the disc's centre: success below it
# Distances from a puck to its goal at the start. Errors across the way grow e-fold every
# PUCK + FINGER, so a push much longer could only be done with eyes open.
PUSH = (0.05, 0.08)
CLEAR = 0.06  # nearest that a push passes the base: the elbow would flip there
GAP = 0.01  # between finger and puck before a push
SLICES = 20  # of one control step, while the finger pushes

REACH_PHRASES = ("reach the {} target", "move to the {} disc", "touch the {} circle", "go to {}")
PUSH_PHRASES = (
    "push the puck to the {} target",
    "move the puck onto the {} disc",
    "slide the puck to {}",
    "bring the puck to the {} circle",
)
REACH_PROMPTS = tuple(phrase.format(c) for c in COLOURS for phrase in REACH_PHRASES)
PUSH_PROMPTS = tuple(phrase.format(c) for c in COLOURS for phrase in PUSH_PHRASES)
PHRASES = len(REACH_PHRASES)  # prompt number = colour * PHRASES + phrase

SIZE = 32  # pixels along each side of a picture
VIEW = 0.26  # half the width of what a picture shows
_BACKGROUND, _LINK_COLOUR, _PUCK_COLOUR = 0.95, (0.35, 0.35, 0.35), (0.0, 0.0, 0.0)
_LINK_RADIUS = 0.008


class Scene(struct.PyTreeNode):
    """What lies on the table, and what is asked for."""

    discs: jax.Array  # [3, 2] centres: red, green, blue
    prompt: jax.Array  # int32, number of the prompt; it names the colour
    puck: jax.Array | None  # [2], None where there is nothing to push


def goal(scene: Scene) -> jax.Array:
    """Return the centre `[2]` of the disc that the prompt names."""
    return scene.discs[scene.prompt // PHRASES]


def fingertip(q: jax.Array) -> jax.Array:
    """Return the tip `[..., 2]` of the arm at angles `q [..., 2]`."""
    first, second = q[..., 0], q[..., 0] + q[..., 1]
    return LINK * jnp.stack(
        [jnp.cos(first) + jnp.cos(second), jnp.sin(first) + jnp.sin(second)], axis=-1
    )


def inverse(point: jax.Array, elbow: jax.Array) -> jax.Array:
    """Return the angles `[..., 2]` in [-pi, pi] that put the tip on `point [..., 2]`.

    elbow: `[...]`, the sign of q2: with links of one length l, |p|^2 = 2 l^2 (1 + cos q2), and the
    tip stands in the direction q1 + q2 / 2. Beyond its reach the arm points at `point`.
    """
    square = jnp.sum(point**2, axis=-1)
    q2 = elbow * jnp.arccos(jnp.clip(square / (2 * LINK**2) - 1, -1.0, 1.0))
    q1 = jnp.arctan2(point[..., 1], point[..., 0]) - q2 / 2
    return jnp.stack([wrap(q1), q2], axis=-1)


def wrap(angle: jax.Array) -> jax.Array:
    """Return `angle` in [-pi, pi)."""
    return jnp.mod(angle + math.pi, 2 * math.pi) - math.pi


def draw_pose(key: jax.Array) -> jax.Array:
    """Draw angles `[2]` uniformly in [-pi, pi]^2."""
    return jax.random.uniform(key, (2,), jnp.float32, -math.pi, math.pi)


def draw_scene(key: jax.Array, push: bool) -> Scene:
    """Draw discs, a prompt and, to `push`, a puck: uniformly among the scenes that `allowed` lets
    pass, by rejection.
    """

    def draw(key: jax.Array) -> Scene:
        discs, prompt, puck = jax.random.split(key, 3)
        return Scene(
            discs=in_annulus(discs, 3),
            prompt=jax.random.randint(prompt, (), 0, len(REACH_PROMPTS)),
            puck=in_annulus(puck, 1)[0] if push else None,
        )

    def again(key: jax.Array) -> tuple[jax.Array, Scene]:
        own, key = jax.random.split(key)
        return key, draw(own)

    refused = lambda carry: ~allowed(carry[1])  # noqa: E731
    return jax.lax.while_loop(refused, lambda carry: again(carry[0]), again(key))[1]


def in_annulus(key: jax.Array, count: int) -> jax.Array:
    """Draw `count` points `[count, 2]` uniformly over the annulus: r^2 is uniform."""
    square, angle = jax.random.uniform(key, (2, count))
    r = jnp.sqrt(ANNULUS[0] ** 2 + square * (ANNULUS[1] ** 2 - ANNULUS[0] ** 2))
    angle = (2 * angle - 1) * math.pi
    return jnp.stack([r * jnp.cos(angle), r * jnp.sin(angle)], axis=-1)


def allowed(scene: Scene) -> jax.Array:
    """Say whether the discs lie apart, and whether the arm can push the puck to its goal."""
    gaps = [jnp.linalg.norm(scene.discs[i] - scene.discs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    apart = jnp.stack(gaps).min() >= APART
    if scene.puck is None:
        return apart
    way = jnp.linalg.norm(goal(scene) - scene.puck)
    start, end = push_line(scene.puck, goal(scene))
    far = jnp.maximum(jnp.linalg.norm(start), jnp.linalg.norm(end))
    near = raster.link(jnp.zeros(2), start, end, CLEAR)
    return apart & (way >= PUSH[0]) & (way <= PUSH[1]) & (far <= ANNULUS[1]) & (near >= 0)


def push_line(puck: jax.Array, goal: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return where the fingertip begins a push, behind the puck `[..., 2]`, and where it ends."""
    direction = goal - puck
    direction /= jnp.linalg.norm(direction, axis=-1, keepdims=True)
    return puck - (PUCK + FINGER + GAP) * direction, goal - (PUCK + FINGER) * direction


def pushed(puck: jax.Array, tip: jax.Array) -> jax.Array:
    """Return where a puck `[2]` is that a finger at `tip [2]` touches: moved along the line between
    the centres until they only just touch. Slow motion: the puck never slides on.
    """
    away = puck - tip
    distance = jnp.maximum(jnp.linalg.norm(away), 1e-9)
    return tip + away * jnp.maximum(1.0, (PUCK + FINGER) / distance)


def slide(puck: jax.Array, q: jax.Array, target: jax.Array) -> jax.Array:
    """Return where a puck `[2]` is after the lowered finger went from joint angles q to `target`,
    in slices short enough that it cannot jump over the puck unless it crosses the table at once.
    """

    def slice_(i: int, puck: jax.Array) -> jax.Array:
        return pushed(puck, fingertip(q + (target - q) * ((i + 1) / SLICES)))

    return jax.lax.fori_loop(0, SLICES, slice_, puck)


def picture(q: jax.Array, scene: Scene) -> jax.Array:
    """Return the table from above, uint8 `[32, 32, 3]`: the arm at `q [2]`, the discs on top."""
    points, pixel = raster.grid(SIZE, VIEW), 2 * VIEW / SIZE
    elbow = LINK * jnp.stack([jnp.cos(q[0]), jnp.sin(q[0])])
    image = jnp.full((SIZE, SIZE, 3), _BACKGROUND)
    for start, end in ((jnp.zeros(2), elbow), (elbow, fingertip(q))):
        image = raster.paint(
            image, raster.link(points, start, end, _LINK_RADIUS), _LINK_COLOUR, pixel
        )
    if scene.puck is not None:
        image = raster.paint(image, raster.disc(points, scene.puck, PUCK), _PUCK_COLOUR, pixel)
    for centre, colour in zip(scene.discs, COLOURS.values()):
        image = raster.paint(image, raster.disc(points, centre, DISC), colour, pixel)
    return raster.to_bytes(image)


def numbers(q: jax.Array, v: jax.Array, scene: Scene, images: bool) -> jax.Array:
    """Return what is known beside the picture: q, q', and without pictures the positions too.

    Returns: `[4]` with images, otherwise `[6]` (... goal) or `[8]` (... puck, goal).
    """
    seen = [] if images else [x for x in (scene.puck, goal(scene)) if x is not None]
    return jnp.concatenate([q, v, *seen])
