"""Chunks of actions with what was seen before them: the samples of vision-language-action models.

A sample is (episode, step): state and images of that step, the sentence of the episode, and the
actions of the steps step ... step + T - 1. A batch is a dict, B = samples,
  images {camera: uint8 [B, H, W, 3]}     image_mask {camera: bool [B]}, False = no such camera
  state f32 [B, S]     actions f32 [B, T, A]     prompt list of B str     episode, step int64 [B]
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rlx.ops.images_host import fit

Batch = dict[str, Any]


class Source(Protocol):
    """Numbered samples; `batch(indices, images=False)` leaves out `images` and `image_mask`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, images: bool = True) -> Batch: ...


class Episode(NamedTuple):
    """One recorded episode of T steps."""

    state: np.ndarray  # [T, S]
    actions: np.ndarray  # [T, A]
    # K sentences for each step, [K][T], that say the same; a sample takes one that is not empty.
    prompts: Sequence[Sequence[str]]
    images: Mapping[str, Sequence[np.ndarray]]  # camera: T images, which may be decoded on access


class Store(Protocol):
    """Episodes at random access: `rlx.data.oxe.Store`, `rlx.data.lerobot.Store`, `ListStore`."""

    @property
    def lengths(self) -> np.ndarray: ...  # [E] steps of each episode

    @property
    def kept(self) -> Sequence[np.ndarray] | None: ...  # [T] bool each: where chunks may begin

    def __getitem__(self, episode: int, /) -> Episode: ...


class ListStore:
    """Episodes that lie in memory."""

    def __init__(self, episodes: Sequence[Episode], kept: Sequence[np.ndarray] | None = None):
        """Keep `episodes` as they are."""
        self.lengths = np.array([len(episode.actions) for episode in episodes], np.int64)
        self.kept = kept
        self._episodes = episodes

    def __getitem__(self, episode: int) -> Episode:
        return self._episodes[episode]


class ChunkSource:
    """Every step of every episode (where the store keeps it) begins a chunk; none crosses the end
    of its episode.
    """

    def __init__(
        self,
        store: Store,
        horizon: int,
        *,
        zero_pad: Sequence[bool] | None = None,
        delta: Sequence[bool] | None = None,
        image_size: tuple[int, int] | None = None,
        episodes: Sequence[int] | np.ndarray | None = None,
    ):
        """Number the samples; reads no episode.

        Args:
          horizon: T, steps of a chunk.
          zero_pad: [A] per action dimension, what stands beyond the end: True 0 (velocities and
            differences: stand still), False the last action again (positions). None: all False.
          delta: [<= A] dimensions that become differences to the state at the chunk's first step,
            `a[t, d] - state[d]`; the rest, such as grippers, stay absolute. None: none.
          image_size: (H, W) that all images are fitted into; None leaves them.
          episodes: those whose steps begin chunks; None: all.
        Raises ValueError for a horizon below 1 and stores without samples.
        """
        if horizon < 1:
            raise ValueError(f"horizon is a whole number >= 1, got {horizon}")
        self._store, self._horizon, self._image_size = store, horizon, image_size
        self._zero_pad = None if zero_pad is None else np.asarray(zero_pad, bool)
        self._delta = None if delta is None else np.asarray(delta, bool)
        starts = [np.arange(n) for n in store.lengths]
        if store.kept is not None:
            starts = [np.flatnonzero(kept) for kept in store.kept]
        if episodes is not None:
            chosen = set(map(int, episodes))
            starts = [own if e in chosen else own[:0] for e, own in enumerate(starts)]
        self._step = np.concatenate([np.zeros(0, np.int64), *starts])
        self._episode = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
        if not len(self._step):
            raise ValueError(f"no step of {len(store.lengths)} episodes can begin a chunk")

    def __len__(self) -> int:
        return len(self._step)

    def batch(self, indices: np.ndarray, images: bool = True) -> Batch:
        """Return the samples `indices [B]` in this order; each episode is read once."""
        numbers, steps = self._episode[indices], self._step[indices]
        episodes = {number: self._store[int(number)] for number in np.unique(numbers)}
        samples = [(episodes[n], int(n), int(t)) for n, t in zip(numbers, steps)]
        batch: Batch = {
            "state": np.stack([e.state[t] for e, _, t in samples]).astype(np.float32),
            "actions": np.stack([self._chunk(e, n, t) for e, n, t in samples]),
            "prompt": [_sentence(e, n, t) for e, n, t in samples],
            "episode": numbers,
            "step": steps,
        }
        if images:
            pictures = [
                {camera: self._fitted(list_[t]) for camera, list_ in e.images.items()}
                for e, _, t in samples
            ]
            batch["images"], batch["image_mask"] = stack_images(pictures)
        return batch

    def _chunk(self, episode: Episode, number: int, step: int) -> np.ndarray:
        """The actions [T, A] from `step` on, padded, then as differences."""
        last = len(episode.actions) - 1
        rows = step + np.arange(self._horizon)
        chunk = episode.actions[np.minimum(rows, last)].astype(np.float32)
        if self._zero_pad is not None:
            check_mask("zero_pad", self._zero_pad, chunk.shape[1])
            chunk[np.ix_(rows > last, self._zero_pad)] = 0.0
        if self._delta is not None:
            check_mask("delta", self._delta, chunk.shape[1], at_most=True)
            dims = np.flatnonzero(self._delta)
            if len(dims) and dims[-1] >= episode.state.shape[1]:
                raise ValueError(
                    f"delta subtracts state[{dims[-1]}] from actions, but the state of episode "
                    f"{number} has {episode.state.shape[1]} numbers"
                )
            chunk[:, dims] -= episode.state[step, dims].astype(np.float32)
        return chunk

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        return image if self._image_size is None else fit(image, *self._image_size)


class ArraySource:
    """Samples that are rows of arrays: what `rlx.data.synth.reach.generate` returns."""

    def __init__(self, arrays: Mapping[str, Any]):
        """Check `state [N, S]`, `actions [N, T, A]`, `prompt [N]` and `images {camera: [N, ...]}`,
        if there are any; further arrays are not looked at. Raises ValueError if lengths differ,
        TypeError for prompts that are no text.
        """
        missing = {"state", "actions", "prompt"} - set(arrays)
        if missing:
            raise ValueError(f"arrays of samples lack {', '.join(sorted(missing))}")
        self._images = dict(arrays.get("images", {}))
        self._state = np.asarray(arrays["state"], np.float32)
        self._actions = np.asarray(arrays["actions"], np.float32)
        self._prompt = arrays["prompt"]
        sizes = {key: len(arrays[key]) for key in ("state", "actions", "prompt")}
        sizes |= {f"images/{camera}": len(images) for camera, images in self._images.items()}
        if len(set(sizes.values())) > 1 or not len(self._state):
            raise ValueError(f"arrays of samples have one and the same length > 0, got {sizes}")
        if self._actions.ndim != 3 or self._state.ndim != 2:
            raise ValueError(
                "state is [N, S] and actions are [N, T, A], got "
                f"{self._state.shape} and {self._actions.shape}"
            )
        for i, prompt in enumerate(self._prompt):
            _check_prompt(prompt, f"sample {i}")

    def __len__(self) -> int:
        return len(self._state)

    def batch(self, indices: np.ndarray, images: bool = True) -> Batch:
        """Return the rows `indices [B]`; each is the first step of its own episode."""
        indices = np.asarray(indices, np.int64)
        batch: Batch = {
            "state": self._state[indices],
            "actions": self._actions[indices],
            "prompt": [str(self._prompt[i]) for i in indices],
            "episode": indices,
            "step": np.zeros_like(indices),
        }
        if images:
            batch["images"] = {camera: rows[indices] for camera, rows in self._images.items()}
            batch["image_mask"] = {camera: np.ones(len(indices), bool) for camera in self._images}
        return batch


def check_mask(name: str, mask: np.ndarray, dims: int, at_most: bool = False) -> None:
    """Raise a ValueError unless `mask` has one entry per action dimension."""
    if len(mask) == dims or (at_most and len(mask) < dims):
        return
    limit = "at most " if at_most else ""
    raise ValueError(f"{name} has {limit}one entry per action dimension ({dims}), got {len(mask)}")


def _sentence(episode: Episode, number: int, step: int) -> str:
    sentences = [column[step] for column in episode.prompts]
    for sentence in sentences:
        _check_prompt(sentence, f"step {step} of episode {number}")
    sentences = [str(sentence) for sentence in sentences if sentence] or [""]
    return sentences[choice(number, step, len(sentences))]


def _check_prompt(prompt: object, where: str) -> None:
    if not isinstance(prompt, str):
        raise TypeError(f"the prompt of {where} is a str, got {type(prompt).__name__}")


def choice(episode: int, step: int, count: int) -> int:
    """Return which of `count` alternatives the sample (episode, step) takes: always the same."""
    return zlib.crc32(f"{episode}/{step}".encode()) % count if count > 1 else 0


def stack_images(
    pictures: Sequence[Mapping[str, np.ndarray]], cameras: Mapping[str, tuple] | None = None
) -> tuple[dict, dict]:
    """Stack the images of B samples: ({camera: [B, H, W, 3]}, {camera: bool [B]}); where a sample
    has no such camera the image is black and the mask False.

    cameras: image shapes of those that are there whatever the samples have.
    Raises ValueError if the images of a camera differ in size.
    """
    images, masks, cameras = {}, {}, cameras or {}
    for camera in sorted({*cameras, *(camera for picture in pictures for camera in picture)}):
        shapes = {picture[camera].shape for picture in pictures if camera in picture}
        shapes |= {cameras[camera]} if camera in cameras else set()
        if len(shapes) > 1:
            raise ValueError(
                f"images of camera '{camera}' have sizes {sorted(shapes)}; give image_size=(H, W)"
            )
        black = np.zeros(shapes.pop(), np.uint8)
        images[camera] = np.stack([picture.get(camera, black) for picture in pictures])
        masks[camera] = np.array([camera in picture for picture in pictures])
    return images, masks
