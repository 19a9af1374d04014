"""What clients of a vision-language-action model send, checked and brought to the model's shapes
before anything is compiled.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlx.ops.images_host import fit
from rlx.serve.batching import BadObservation, Message
from rlx.serve.wire import pack
from rlx.types import Spec

CHARACTERS = 64  # of a prompt per token, at most: no text's tokenizer comes near


def checked(observation: Message, obs: Mapping[str, Spec], room: int) -> Message:
    """Return prompt, state f32 [S] and cameras uint8 [H, W, 3], and nothing else that came.

    Args: obs: `state` and cameras as the model takes them; room: its tokens before the action.
    Raises BadObservation naming the entry, what came and what was expected.
    """
    if missing := {"prompt", *obs} - observation.keys():
        raise BadObservation(f"the observation lacks {', '.join(sorted(missing))}")
    cameras = [name for name in obs if name != "state"]
    return {
        "prompt": _prompt(observation["prompt"], room),
        "state": _state(observation["state"], obs["state"].shape),
        **{name: _image(name, observation[name], obs[name].shape) for name in cameras},
    }


def number(observation: Message) -> int:
    """Return 32 bits that stand for all of a checked observation."""
    return zlib.crc32(pack(observation))


def _prompt(prompt: Any, room: int) -> str:
    if not isinstance(prompt, str):
        raise BadObservation(f"prompt is a str, got {type(prompt).__name__}")
    if len(prompt) > CHARACTERS * room:  # before it is made tokens, which takes memory
        raise BadObservation(
            f"prompt has {len(prompt)} characters, the model has room for {room} tokens"
        )
    return str(prompt)


def _state(state: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        given = np.asarray(state)
    except ValueError as error:
        raise BadObservation(f"state is numbers {list(shape)}, got lists that differ") from error
    if given.dtype.kind not in "fiu":
        raise BadObservation(f"state is numbers {list(shape)}, got {_kind(given)}")
    if given.shape != shape:
        raise BadObservation(f"state has shape {list(shape)}, got {list(given.shape)}")
    with np.errstate(over="ignore"):  # what is too large for float32 is said below
        numbers = given.astype(np.float32)
    if not np.isfinite(numbers).all():
        at = np.argwhere(~np.isfinite(numbers))[0]
        raise BadObservation(f"state is finite, got {given[tuple(at)]} at {at.tolist()}")
    return numbers


def _image(name: str, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise BadObservation(f"{name} is uint8 [h, w, 3], got {_kind(image)}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise BadObservation(f"{name} has shape [h, w, 3], got {list(image.shape)}")
    return fit(image, *shape[:2])


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
