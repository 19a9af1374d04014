"""Images of cameras made ready for a network: resized without distortion, varied in training."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

CROP = 0.95  # side of the random crop, as a share of the image's
ANGLE = 5.0  # degrees, largest rotation either way
BRIGHTNESS, CONTRAST, SATURATION = 0.3, 0.4, 0.5  # factors are drawn from 1 +- these
LUMA = (0.299, 0.587, 0.114)  # of Rec. 601


def resize_with_pad(image: jax.Array, height: int, width: int) -> jax.Array:
    """Scale `image [H, W, C]` of numbers in [0, 1] into the frame, keeping its aspect; what is left
    of the frame is black, half on each side. Returns `[height, width, C]`.
    """
    chex.assert_rank(image, 3)
    H, W, C = image.shape
    if (H, W) == (height, width):
        return image
    scale = min(height / H, width / W)
    inner = max(1, round(H * scale)), max(1, round(W * scale))
    small = jax.image.resize(image, (*inner, C), "linear")
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    bottom, right = height - inner[0] - top, width - inner[1] - left
    return jnp.pad(small, ((top, bottom), (left, right), (0, 0)))


def augment(key: jax.Array, image: jax.Array, move: bool) -> jax.Array:
    """Vary one image `[H, W, 3]` in [0, 1]: crop, rotate (if `move`), then jitter its colours."""
    where, colours = jax.random.split(key)
    return jitter(colours, shaken(where, image) if move else image)


def shaken(key: jax.Array, image: jax.Array) -> jax.Array:
    """Cut out a random CROP of `image [H, W, C]`, resize it back and rotate it by up to ANGLE.

    The two are one warp, interpolated linearly once; beyond the image's edge it is black.
    """
    chex.assert_rank(image, 3)
    crop_key, angle_key = jax.random.split(key)
    offset = jax.random.uniform(crop_key, (2,)) * (1.0 - CROP)
    angle = jnp.deg2rad(jax.random.uniform(angle_key, (), minval=-ANGLE, maxval=ANGLE))
    return warp(image, offset, angle)


def warp(image: jax.Array, offset: jax.Array, angle: jax.Array) -> jax.Array:
    """Crop `image` at `offset` (shares of height and width), resize it back, rotate by `angle`.

    Output pixel p shows the crop's point R(angle) (p - middle) + middle.
    """
    size = jnp.array(image.shape[:2], jnp.float32)
    middle = (size - 1.0) / 2.0
    row, column = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in image.shape[:2]),
                               indexing="ij")  # fmt: skip
    y, x = row - middle[0], column - middle[1]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.stack([cos * y - sin * x, sin * y + cos * x]) + middle[:, None, None]
    # Pixel i covers [i, i + 1): centres of the resized crop's pixels in the image's coordinates.
    inside = (turned + 0.5) * CROP + (offset * size)[:, None, None] - 0.5
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(  # noqa: E731
        channel, [inside[0], inside[1]], order=1, mode="constant", cval=0.0
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def jitter(key: jax.Array, image: jax.Array) -> jax.Array:
    """Vary brightness, contrast and saturation of `image [H, W, 3]` in [0, 1], in this order."""
    chex.assert_axis_dimension(image, -1, 3)
    spread = jnp.array([BRIGHTNESS, CONTRAST, SATURATION])
    return recolour(image, 1.0 + spread * jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0))


def recolour(image: jax.Array, factors: jax.Array) -> jax.Array:
    """Scale the image; its distance from its mean grey; that from its own grey. factors `[3]`."""
    luma = jnp.array(LUMA, image.dtype)
    image = jnp.clip(image * factors[0], 0.0, 1.0)
    mean = (image @ luma).mean()
    image = jnp.clip(mean + factors[1] * (image - mean), 0.0, 1.0)
    grey = (image @ luma)[..., None]
    return jnp.clip(grey + factors[2] * (image - grey), 0.0, 1.0)
