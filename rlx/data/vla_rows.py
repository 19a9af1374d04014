"""Samples as the rows a vision-language-action model learns from: text, action tokens, numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlx.data.chunks import Batch
from rlx.data.loader import Arrays
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats


@dataclass(frozen=True)
class Rows:
    """A `Transform` for `Loader`: samples `[B]` to the fields of `TokenBatch`, all NumPy.

    state_stats, action_stats: what brings the extras `state [B, S]` and `actions [B, T, A]` to
    [-1, 1].   says_state: the state is part of the text.   says_actions: the model predicts
    action tokens; False: it only reads.
    """

    layout: Layout
    state_stats: NormStats
    action_stats: NormStats
    says_state: bool = True
    says_actions: bool = True

    def __call__(self, batch: Batch, indices: np.ndarray) -> Arrays:
        """Return tokens, mask_loss, mask_ar, segment `[B, L]`, fits `[B]`, state, actions, and
        images.
        """
        del indices
        states = batch["state"] if self.says_state else None
        actions = batch["actions"] if self.says_actions else None
        rows = self.layout.encode(batch["prompt"], states, actions)
        rows["state"] = self.state_stats.normalize(batch["state"]).astype(np.float32)
        rows["actions"] = self.action_stats.normalize(batch["actions"]).astype(np.float32)
        return rows | {k: batch[k] for k in ("images", "image_mask") if batch.get("images")}

    def observed(self, batch: Batch, length: int) -> Arrays:
        """Return what a policy is given of samples: tokens, segment, mask_ar `[B, length]`, state
        and images.
        """
        states = batch["state"] if self.says_state else None
        seen = self.layout.prefix(batch["prompt"], states, length)
        del seen["lengths"]
        seen["state"] = self.state_stats.normalize(batch["state"]).astype(np.float32)
        return seen | {k: batch[k] for k in ("images", "image_mask") if batch.get("images")}
