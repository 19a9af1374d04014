"""Batches of sequences for ever, prepared by threads, in an order that is a function of the seed.

The order does not depend on threads, prefetch or processes: epoch e is one permutation drawn from
(seed, e), cut into batches; process p of P takes the p-th part of every batch. So two integers say
where a run is, and a resumed run sees the batches that the stopped one would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from rlx.data.chunks import Batch, Source, stack_images

Arrays = dict[str, Any]  # NumPy arrays [B, ...] by name; images and their masks one level deeper
Transform = Callable[[Batch, np.ndarray], Arrays]
_CACHE_ROWS = 1024  # samples whose tokens are computed at once


def shuffled(count: int, *seed: int) -> np.ndarray:
    """Return a permutation of `count` that is a function of the whole numbers `seed`."""
    return np.random.default_rng(seed).permutation(count)


def order_of(source: Source, seed: int, epoch: int) -> np.ndarray:
    """Return the samples of an epoch of `source`, shuffled; a sample's number does not change."""
    if isinstance(source, Mixture):
        return source.order(seed, epoch)
    return shuffled(len(source), seed, epoch)


class Mixture:
    """Several sources as one, each drawn in proportion to weight * its number of samples.

    An epoch has as many samples as the sources of the largest weight: those are seen once, one of
    half that weight by half, another half in the next epoch. Within each source every sample is
    used once before any comes again. A batch has the cameras of all sources.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]):
        """Raise ValueError for weights that are not positive, or not one per source."""
        if len(sources) != len(weights) or not sources or not all(w > 0 for w in weights):
            raise ValueError(
                f"a mixture takes one weight > 0 per source, got {len(sources)} sources and "
                f"weights {list(weights)}"
            )
        self._sources = list(sources)
        sizes = np.array([len(source) for source in sources])
        self._first = np.cumsum([0, *sizes])  # number of each source's sample 0
        self._counts = np.maximum(1, np.rint(sizes * np.array(weights) / max(weights))).astype(int)

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def samples(self) -> int:
        """Samples of all sources; an epoch may have fewer."""
        return int(self._first[-1])

    @cached_property
    def _cameras(self) -> dict[str, tuple]:
        """Image shapes by camera, of each source's first sample."""
        first = [source.batch(np.arange(1))["images"] for source in self._sources]
        return {name: rows.shape[1:] for images in first for name, rows in images.items()}

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the samples of an epoch `[len]`, see `order_of`."""
        picked = []
        for k, (source, count) in enumerate(zip(self._sources, self._counts)):
            n = len(source)
            place = np.arange(epoch * count, (epoch + 1) * count)  # in its endless stream
            rounds = [shuffled(n, seed, k, r) for r in range(place[0] // n, place[-1] // n + 1)]
            picked.append(self._first[k] + np.concatenate(rounds)[place - place[0] // n * n])
        picked = np.concatenate(picked)
        return picked[shuffled(len(picked), seed, epoch)]

    def batch(self, indices: np.ndarray, images: bool = True) -> Batch:
        """Return the samples `indices [B]`; ValueError where sources differ in the shapes of state
        or actions.
        """
        which = np.searchsorted(self._first, indices, side="right") - 1
        parts = {
            int(k): self._sources[k].batch(indices[which == k] - self._first[k], images)
            for k in np.unique(which)
        }
        where = {k: iter(range(len(part["prompt"]))) for k, part in parts.items()}
        rows = [(parts[int(k)], next(where[int(k)])) for k in which]
        for key in ("state", "actions"):
            shapes = {f"source {k}": part[key].shape[1:] for k, part in parts.items()}
            if len(set(shapes.values())) > 1:
                raise ValueError(f"sources of a mixture differ in the shape of {key}: {shapes}")
        batch: Batch = {
            key: np.stack([part[key][i] for part, i in rows])
            for key in ("state", "actions", "episode", "step")
        }
        batch["prompt"] = [part["prompt"][i] for part, i in rows]
        if images:
            seen = [
                {c: images_[i] for c, images_ in part["images"].items() if part["image_mask"][c][i]}
                for part, i in rows
            ]
            batch["images"], batch["image_mask"] = stack_images(seen, self._cameras)
        return batch


class Loader:
    """An endless iterator of what `transform` makes of each batch.

    Close it, or use it as a context: its threads end with it. An exception in a thread reaches the
    caller as a RuntimeError that names the samples; asking again tries the same batch once more.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        workers: int = 2,
        prefetch: int = 2,
        cache_tokens: bool = False,
    ):
        """Start the threads.

        Args:
          transform: (batch of `source`, indices [B]) -> NumPy arrays [B, ...]; called in threads,
            on whole batches.
          batch_size: B over all processes; this one yields `batch_size / process_count` rows.
          workers: threads.   prefetch: batches prepared ahead of the one handed out.
          cache_tokens: call `transform` on every sample once, now, without its images; batches are
            then rows of the results and, where there are any, `images` and `image_mask`.
        Raises ValueError for numbers out of range and sources smaller than a batch.
        """
        _check(len(source), batch_size, process_index, process_count, workers, prefetch)
        self._source, self._transform, self._seed = source, transform, seed
        self._batch_size, self._part = batch_size, (process_index, process_count)
        self._ahead = prefetch + 1
        self._epoch_batches = len(source) // batch_size  # the rest of an epoch is left out
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
        self._order_epoch, self._order_now = -1, np.zeros(0, np.int64)
        self._futures: deque[tuple[dict[str, int], np.ndarray, Future]] = deque()
        self._cache = self._all_rows() if cache_tokens else None
        self.restore({"epoch": 0, "index": -1})

    def __iter__(self) -> Iterator[Arrays]:
        return self

    def __next__(self) -> Arrays:
        while len(self._futures) < self._ahead:
            self._submit()
        place, indices, future = self._futures.popleft()
        try:
            arrays = future.result()
        except Exception as error:
            self.restore(self._state)
            raise RuntimeError(
                f"batch {place['index']} of epoch {place['epoch']}, samples {_shown(indices)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._state = place
        return arrays

    def state(self) -> dict[str, int]:
        """Return the place of the batch handed out last: its epoch, and its number there (-1: none
        yet).
        """
        return dict(self._state)

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on after the batch at `state`, which `state()` returned."""
        epoch, index = int(state["epoch"]), int(state["index"])
        if epoch < 0 or not -1 <= index < self._epoch_batches:
            raise ValueError(
                f"a loader with {self._epoch_batches} batches per epoch cannot go on after {state}"
            )
        for _, _, future in self._futures:
            future.cancel()
        self._futures.clear()
        self._state = {"epoch": epoch, "index": index}
        self._next = epoch * self._epoch_batches + index + 1

    def close(self) -> None:
        """End the threads; what they are working on is finished and dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._futures.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _submit(self) -> None:
        epoch, index = divmod(self._next, self._epoch_batches)
        self._next += 1
        process, count = self._part
        rows = self._batch_size // count
        first = index * self._batch_size + process * rows
        indices = self._order(epoch)[first : first + rows]
        future = self._pool.submit(self._load, indices)
        self._futures.append(({"epoch": epoch, "index": index}, indices, future))

    def _order(self, epoch: int) -> np.ndarray:
        if epoch != self._order_epoch:
            self._order_now, self._order_epoch = order_of(self._source, self._seed, epoch), epoch
        return self._order_now

    def _load(self, indices: np.ndarray) -> Arrays:
        if self._cache is None:
            return self._transform(self._source.batch(indices), indices)
        arrays = {key: rows[indices] for key, rows in self._cache.items()}
        batch = self._source.batch(indices)
        return arrays | {k: batch[k] for k in ("images", "image_mask") if batch["images"]}

    def _all_rows(self) -> dict[str, np.ndarray]:
        """What `transform` makes of every sample without its images, computed once."""
        source = self._source
        count = source.samples if isinstance(source, Mixture) else len(source)

        def rows(first: int) -> Arrays:
            indices = np.arange(first, min(first + _CACHE_ROWS, count))
            return self._transform(source.batch(indices, images=False), indices)

        parts = list(self._pool.map(rows, range(0, count, _CACHE_ROWS)))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _check(samples: int, batch_size: int, index: int, count: int, workers: int, prefetch: int):
    """Raise a ValueError that names the first argument out of range."""
    for name, value in (("batch_size", batch_size), ("process_count", count), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} is a whole number >= 1, got {value}")
    if prefetch < 0:
        raise ValueError(f"prefetch is a whole number >= 0, got {prefetch}")
    if not 0 <= index < count:
        raise ValueError(f"process_index is 0 to {count - 1}, got {index}")
    if batch_size % count:
        raise ValueError(f"batch_size {batch_size} cannot be shared by {count} processes")
    if samples < batch_size:
        raise ValueError(f"batch_size is {batch_size}, but the source has {samples} samples only")


def _shown(indices: np.ndarray) -> str:
    few = ", ".join(map(str, indices[:8]))
    return f"[{few}{', ...' if len(indices) > 8 else ''}]"
