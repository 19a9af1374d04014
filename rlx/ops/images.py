"""Random crops of images (Kostrikov et al. 2020), as offline RL from pixels uses them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.ops.shards import rows
from rlx.types import Keys, Transition

PAD = 3  # pixels on each side


def crop_batch(batch: Transition, keys: Keys, probability: float) -> Transition:
    """With `probability`, ONE coin for the whole batch, shift every image by up to 3 pixels.

    obs and next_obs `[B, H, W, C]` are padded by their edges and cut back; an example's two images
    move by the same offset (in {0..6}**2).
    """
    coin = jax.random.uniform(keys.shared) < probability
    per_shard = batch.reward.shape[0] // keys.keys.shape[0]

    def draw(key: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, PAD)  # the rows of the batch were drawn with the key itself
        return jax.random.randint(own, (per_shard, 2), 0, 2 * PAD + 1)

    offset = rows(draw, keys)
    offset = jnp.where(coin, offset, PAD)  # the middle is the image itself
    move = jax.vmap(shift)
    return batch.replace(obs=move(batch.obs, offset), next_obs=move(batch.next_obs, offset))


def shift(image: jax.Array, offset: jax.Array) -> jax.Array:
    """Pad `image [H, W, C]` by its edges and cut it back at `offset` int32[2]."""
    padded = jnp.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge")
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), image.shape)
