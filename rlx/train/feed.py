"""Batches of sequences for `train/sequence.py`, both in the loader's order: rows that all lie on
the devices, or batches that a `Loader` prepares while the devices work.

The batch of gradient step s is a function of s and the seed, so a run that resumes needs to know
no more than s.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rlx.data.loader import Loader, shuffled
from rlx.types import PyTree, TokenBatch

FIELDS = ("tokens", "mask_loss", "mask_ar", "segment", "images", "image_mask")


def token_batch(arrays: dict[str, Any]) -> TokenBatch:
    """Return arrays by name as a batch; what is no field of it goes into its extras."""
    own = {name: arrays[name] for name in FIELDS if name in arrays}
    return TokenBatch(**own, extras={k: x for k, x in arrays.items() if k not in FIELDS})


class Resident:
    """All rows on every device; a call is handed the numbers of the rows it takes."""

    def __init__(self, rows: PyTree, batch_size: int, seed: int, per_call: int = 256):
        """Keep `rows [N, ...]`, NumPy; ValueError for fewer than a batch."""
        count = len(jax.tree.leaves(rows)[0])
        if count < batch_size:
            raise ValueError(f"batch_size is {batch_size}, but there are {count} samples only")
        self.rows, self.per_call = rows, per_call
        self.batch = shapes(rows, batch_size)
        self._size, self._count, self._seed = batch_size, count, seed
        self._epoch: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def take(self, step: int, count: int) -> np.ndarray:
        """Return the rows of `count` batches from `step` on, int32 [per_call, B], padded with 0."""
        taken = np.zeros((self.per_call, self._size), np.int32)
        per_epoch = self._count // self._size  # the rest of an epoch is left out
        for k in range(count):
            epoch, index = divmod(step + k, per_epoch)
            if epoch != self._epoch[0]:
                self._epoch = epoch, shuffled(self._count, self._seed, epoch)
            taken[k] = self._epoch[1][index * self._size : (index + 1) * self._size]
        return taken

    def close(self) -> None:
        """Nothing runs."""


class Streamed:
    """Batches of a `Loader`, whose `transform` returns the arrays of `token_batch`."""

    rows = None

    def __init__(self, loader: Loader, batch_size: int, per_epoch: int, per_call: int = 4):
        """Read one batch for its shapes; `per_epoch`: batches of an epoch of the loader."""
        self._loader, self._per_epoch, self.per_call = loader, per_epoch, per_call
        self.batch = shapes(token_batch(next(loader)), batch_size)
        self._next = 1

    def take(self, step: int, count: int) -> TokenBatch:
        """Return this process's part of `count` batches from `step` on, [per_call, b, ...]."""
        if step != self._next:
            epoch, index = divmod(step, self._per_epoch)
            self._loader.restore({"epoch": epoch, "index": index - 1})
        batches = [token_batch(next(self._loader)) for _ in range(count)]
        self._next = step + count
        batches += batches[-1:] * (self.per_call - count)
        return jax.tree.map(lambda *x: np.stack(x), *batches)

    def close(self) -> None:
        """End the loader's threads."""
        self._loader.close()


def shapes(rows: PyTree, batch_size: int) -> PyTree:
    """Return ShapeDtypeStructs of a batch of such rows."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), rows)
