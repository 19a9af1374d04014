"""A vision-language-action model's networks from its config, and what its config may say."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlx.names import nearest
from rlx.nn import action_expert, transformer, vit
from rlx.nn.action_expert import ActionExpert
from rlx.nn.lora import Lora
from rlx.nn.speaking import vocabulary
from rlx.nn.transformer import Decoder
from rlx.nn.vision_language import Networks, StateToken
from rlx.nn.vit import ViT
from rlx.ops.action_tokens import Codec, Slots
from rlx.ops.schedule import SCHEDULES
from rlx.types import EnvSpec

CHOICES = {
    "head": ("tokens", "flow", "both"),
    "expert": action_expert.KINDS,
    "state_input": ("text", "token"),
    "schedule": SCHEDULES,
    "dtype": ("float32", "bfloat16"),
    "frozen_dtype": ("float32", "bfloat16"),
}
COUNTS = {  # the least of each
    "vocab_size": 1,
    "flow_steps": 1,
    "accumulate": 1,
    "max_new_tokens": 0,
    "lora_rank": 0,
    "expert_lora_rank": 0,
}
ABOVE_ZERO = ("temperature", "max_grad_norm")
SHARES = ("lr_end", "ema")  # in [0, 1], ema below 1


def settings(config: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numeric settings `names`; ValueError naming one that is out of range."""
    found = {name: float(config[name]) for name in names}
    for name, value in found.items():
        if not value >= 0.0 or (name in ABOVE_ZERO and value == 0.0):
            least = "> 0" if name in ABOVE_ZERO else ">= 0"
            raise ValueError(f"learner.{name} is a number {least}, got {value:g}")
        if name in SHARES and (value > 1.0 or (name == "ema" and value == 1.0)):
            raise ValueError(f"learner.{name} is a share, at most 1 (ema: below), got {value:g}")
    return found


def check(config: Any, spec: EnvSpec, slots: Slots | None, codec: Codec | None) -> None:
    """Raise ValueError naming the setting, its value and what was expected."""
    for name, known in CHOICES.items():
        if config[name] not in known:
            near = nearest(str(config[name]), known)[0]
            raise ValueError(
                f"learner.{name} is one of {', '.join(known)}, got {config[name]!r}; "
                f"nearest: {near}"
            )
    for name, least in COUNTS.items():
        if config[name] != int(config[name]) or config[name] < least:
            raise ValueError(f"learner.{name} is a whole number >= {least}, got {config[name]}")
    for name in ("freeze", "learn"):
        try:
            re.compile(config[name])
        except re.error as error:
            raise ValueError(
                f"learner.{name} is a regular expression, got {config[name]!r}: {error}"
            ) from None
    if len(spec.action.shape) != 2 or not np.issubdtype(spec.action.dtype, np.floating):
        raise ValueError(f"vla needs chunks of float actions (T, A), got {spec.action}")
    if not isinstance(spec.obs, dict):
        raise ValueError(f"vla needs a dict of observations by name, got {spec.obs}")
    for name in cameras(spec):
        if len(spec.obs[name].shape) != 3 or spec.obs[name].shape[-1] != 3:
            raise ValueError(f"camera {name!r} is an image (H, W, 3), got {spec.obs[name].shape}")
    if config.head != "tokens" and config.expert == "pi0" and "state" not in spec.obs:
        raise ValueError("learner.expert = 'pi0' reads the state, and spec.obs has none: use pi05")
    if config.state_input == "token" and "state" not in spec.obs:
        raise ValueError("learner.state_input = 'token' reads the state, and spec.obs has none")
    if config.head != "flow":
        _check_tokens(config, spec, slots, codec)


def _check_tokens(config: Any, spec: EnvSpec, slots: Slots | None, codec: Codec | None) -> None:
    if slots is None or codec is None:
        raise ValueError(f"learner.head = {config.head!r} needs slots and codec of a tokenizer")
    if codec.flat is None:
        raise ValueError("the codec decodes with a network of its own: act cannot use it")
    if codec.vocab_size != slots.count:
        raise ValueError(
            f"slots are of {slots.count} action tokens, the codec of {codec.vocab_size}"
        )
    if (codec.horizon, codec.action_dim) != tuple(spec.action.shape):
        raise ValueError(
            f"the codec is of chunks {(codec.horizon, codec.action_dim)}, spec.action of "
            f"{tuple(spec.action.shape)}"
        )
    ids = vocabulary(slots)
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(
            f"learner.vocab_size = {config.vocab_size} has no room for the action tokens, whose "
            f"ids are {ids.min()} to {ids.max()}"
        )
    least = 1 if codec.eob else int(codec.size)
    if config.max_new_tokens and config.max_new_tokens < least:
        raise ValueError(
            f"learner.max_new_tokens = {config.max_new_tokens} may cut a chunk short: this "
            f"tokenizer needs {least}, or 0 for as many as a chunk can take"
        )


def cameras(spec: EnvSpec) -> tuple[str, ...]:
    """Return the names of the images, sorted: the order of their tokens."""
    return tuple(sorted(name for name in spec.obs if name != "state"))


def build(config: Any, spec: EnvSpec) -> Networks:
    """Return the networks of `config`; ValueError for unknown names or an expert that misfits."""
    dtype = jnp.dtype(config.dtype)
    shape = transformer.variant(config.decoder)
    llm = Decoder(shape, config.vocab_size, lora(config), dtype, config.remat)
    img = expert = None
    if cameras(spec):
        img = ViT(vit.variant(config.vit), shape.width, dtype, config.remat)
    if config.head != "tokens":
        small = transformer.variant(config.expert_decoder)
        for name in ("depth", "kv", "head_dim"):
            if getattr(small, name) != getattr(shape, name):
                raise ValueError(
                    f"learner.expert_decoder = {config.expert_decoder!r} has {name} "
                    f"{getattr(small, name)}, it must be that of {config.decoder!r}: "
                    f"{getattr(shape, name)}"
                )
        rank = lora(config, "expert_")
        A = spec.action.shape[1]
        expert = ActionExpert(small, config.expert, A, rank, dtype, config.remat)
    state = StateToken(shape.width) if config.state_input == "token" else None
    return Networks(llm, img, expert, cameras(spec), state)


def lora(config: Any, prefix: str = "") -> Lora | None:
    """Return the low-rank updates of the decoder, or with "expert_" of the expert."""
    rank = config[f"{prefix}lora_rank"]
    if not rank:
        return None
    return Lora(rank, config[f"{prefix}lora_alpha"], config.rank_stabilized)
