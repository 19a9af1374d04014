"""Small pictures in pure JAX: discs and thick lines with smooth edges, on device, by the thousand.

A shape is its signed distance, in metres, from each pixel's centre; a pixel is covered by the share
`clip(1/2 - distance / pixel width, 0, 1)`, exact for a straight edge along the pixels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def grid(size: int, half_width: float) -> jax.Array:
    """Return the centres `[size, size, 2]` (x, y in m) of a picture's pixels, whose row 0 is the
    top; the picture shows `[-half_width, half_width]` along x and y.
    """
    x = ((jnp.arange(size) + 0.5) / size * 2 - 1) * half_width
    return jnp.stack(jnp.meshgrid(x, -x), axis=-1)


def disc(points: jax.Array, centre: jax.Array, radius: float) -> jax.Array:
    """Return the distance of `points [..., 2]` from the rim of a disc, negative inside."""
    return jnp.linalg.norm(points - centre, axis=-1) - radius


def link(points: jax.Array, start: jax.Array, end: jax.Array, radius: float) -> jax.Array:
    """Return the distance of `points [..., 2]` from a line of width `2 radius` with round ends."""
    along = end - start
    share = (points - start) @ along / jnp.maximum(along @ along, 1e-12)
    nearest = start + jnp.clip(share, 0.0, 1.0)[..., None] * along
    return jnp.linalg.norm(points - nearest, axis=-1) - radius


def paint(
    image: jax.Array, distance: jax.Array, colour: tuple[float, float, float], pixel: float
) -> jax.Array:
    """Lay a shape of one colour (each part in [0, 1]) over `image [H, W, 3]`.

    distance: `[H, W]` in m.   pixel: width of a pixel in m.
    """
    cover = jnp.clip(0.5 - distance / pixel, 0.0, 1.0)[..., None]
    return image * (1 - cover) + jnp.asarray(colour) * cover


def to_bytes(image: jax.Array) -> jax.Array:
    """Return an image of numbers in [0, 1] as uint8."""
    return jnp.round(image * 255).astype(jnp.uint8)
