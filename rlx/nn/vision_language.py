"""The networks of a vision-language-action model, and its one sequence: cameras, then text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.action_expert import ActionExpert
from rlx.nn.attention import KeyValue
from rlx.nn.transformer import Decoder
from rlx.nn.vit import ViT
from rlx.ops import masks
from rlx.ops.augment import augment, resize_with_pad
from rlx.types import EnvSpec, PyTree


class StateToken(nn.Module):
    """The numbers of a state, normalised, as one token: `[B, S]` -> `[B, 1, width]` float32.

    Two layers, so that what the numbers mean together is there for the decoder's first layer. The
    first is drawn as wide as the numbers range (random features), the second keeps their scale.
    """

    width: int
    hidden: int = 256

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        unit = nn.initializers.normal(1.0)
        wide = nn.Dense(self.hidden, kernel_init=unit, bias_init=unit, name="in")
        return nn.Dense(self.width, name="out")(nn.gelu(wide(state)))[:, None]


class Networks(NamedTuple):
    """Parameters are a dict of these names; `img` and `expert` only where they are used."""

    llm: Decoder
    img: ViT | None
    expert: ActionExpert | None
    cameras: tuple[str, ...]  # in the order of their tokens
    state: StateToken | None = None  # of the prefix, where the state is not in the text


class Sequence(NamedTuple):
    """What the decoder reads; text token i is at `offset + i`."""

    x: jax.Array  # [B, S, D] embeddings
    segment: jax.Array  # [B, S] int32, 0 = padding or a missing camera
    mask_ar: jax.Array  # [B, S] bool
    offset: int


def init(nets: Networks, key: jax.Array, spec: EnvSpec) -> PyTree:
    """Return random float32 parameters of all networks."""
    keys = jax.random.split(key, 3)
    v = nets.llm.variant
    one = jnp.ones((1, 1), jnp.int32)
    x, mask = jnp.zeros((1, 1, v.width)), jnp.ones((1, 1, 1), bool)
    params = {"llm": nets.llm.init(keys[0], x, one, mask)["params"]}
    if nets.img is not None:
        size = nets.img.variant.image
        params["img"] = nets.img.init(keys[1], jnp.zeros((1, size, size, 3)))["params"]
    if nets.state is not None:
        state = jnp.zeros((1, *spec.obs["state"].shape))
        params["state"] = nets.state.init(jax.random.fold_in(key, 3), state)["params"]
    if nets.expert is not None:
        slot = jnp.zeros((v.depth, 1, 1, v.kv, v.head_dim))
        actions = jnp.zeros((1, *spec.action.shape))
        state = jnp.zeros((1, *spec.obs["state"].shape)) if "state" in spec.obs else None
        args = actions, jnp.ones((1,)), state, (slot, slot), jnp.ones((1, 1), bool)
        params["expert"] = nets.expert.init(keys[2], *args)["params"]
    return params


def need(found: Mapping[str, jax.Array | None], name: str, where: str) -> jax.Array:
    """Return `found[name]`; ValueError saying what the batch or observation has instead."""
    value = found.get(name)
    if value is None:
        there = ", ".join(sorted(k for k, x in found.items() if x is not None)) or "nothing"
        raise ValueError(f"the model reads {name!r} of {where}, which have {there}")
    return value


def prepare(
    nets: Networks, images: dict[str, jax.Array], row_keys: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Return the cameras' uint8 images `[B, H, W, 3]` as `[B, image, image, 3]` in [-1, 1].

    With `row_keys [B]` they are augmented, each camera of each row by a draw of its own; cameras
    with "wrist" in their name only in colour.
    """
    out = {}
    for i, name in enumerate(nets.cameras):
        size = cast(ViT, nets.img).variant.image
        image = need(images, name, "images").astype(jnp.float32) / 255.0
        image = jax.vmap(lambda x, size=size: resize_with_pad(x, size, size))(image)
        if row_keys is not None:
            move = "wrist" not in name
            vary = lambda key, x, i=i, move=move: augment(jax.random.fold_in(key, i), x, move)  # noqa: E731
            image = jax.vmap(vary)(row_keys, image)
        out[name] = 2.0 * image - 1.0
    return out


def sequence(
    nets: Networks,
    params: PyTree,
    text: tuple[jax.Array, jax.Array, jax.Array],
    images: dict[str, jax.Array],
    image_mask: dict[str, jax.Array],
    state: jax.Array | None = None,
) -> Sequence:
    """Embed the prepared `images`, `state [B, S]` where it is a token, and the text (tokens,
    segment, mask_ar, each `[B, L]`) behind them.

    Images and state belong to segment 1 and to the prefix; an image whose `image_mask [B]` is
    False is padding (cameras without a mask are there).
    """
    tokens, segment, mask_ar = text
    B, L = tokens.shape
    parts = [nets.llm.apply({"params": params["llm"]}, tokens, method="embed")]
    segments = [segment]
    if nets.state is not None:
        state = need({"state": state}, "state", "extras")
        token = nets.state.apply({"params": params["state"]}, state)
        parts.insert(0, token.astype(parts[0].dtype))
        segments.insert(0, jnp.ones(token.shape[:2], segment.dtype))
    for name in reversed(nets.cameras):
        image = cast(ViT, nets.img).apply({"params": params["img"]}, images[name])
        there = image_mask.get(name, jnp.ones((B,), bool)).astype(segment.dtype)
        parts.insert(0, image.astype(parts[0].dtype))
        segments.insert(0, jnp.broadcast_to(there[:, None], (B, image.shape[1])))
    x = jnp.concatenate(parts, axis=1)
    offset = x.shape[1] - L
    return Sequence(
        x, jnp.concatenate(segments, axis=1), jnp.pad(mask_ar, [(0, 0), (offset, 0)]), offset
    )


def read(nets: Networks, params: PyTree, seq: Sequence) -> tuple[jax.Array, KeyValue]:
    """Run the decoder over a whole sequence; see `Decoder.__call__`."""
    see = masks.prefix_lm(seq.mask_ar, seq.segment)
    llm = {"params": params["llm"]}
    return nets.llm.apply(llm, seq.x, masks.positions(seq.segment), see)
