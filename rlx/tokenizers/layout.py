"""The sequence of a vision-language-action model, as pi0-FAST orders it (Pertsch et al. 2025).

  prefix   <bos> "Task: {prompt}, State: {s_1 ... s_S};\\n" "Action: "   seen in both directions
  suffix   action tokens "|" <eos>                                      causal, predicted
State numbers are 256 bins of [-1, 1], written as integers. Differs from the reference: "Action: "
is given, not generated, which saves three steps per chunk; state bins are clipped; ids are mapped
directly, never through text; a sample that does not fit teaches nothing instead of losing its end.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rlx.ops.action_tokens import Slots
from rlx.tokenizers.chunks import Ids
from rlx.tokenizers.stats import NormStats
from rlx.tokenizers.text import TextTokenizer

if TYPE_CHECKING:
    from rlx.tokenizers import ActionTokenizer

STATE_BINS = 256
END = "|"
TOLERATED = 0.01  # share of samples that may be too long


@dataclass(frozen=True, eq=False)
class Layout:
    """Text, state and actions as tokens of one model.

    max_len: tokens of a whole sequence, L. state_stats: None = states come normalised.
    """

    text: TextTokenizer
    action: ActionTokenizer
    max_len: int
    state_stats: NormStats | None = None

    @cached_property
    def slots(self) -> Slots:
        """Where action ids, end marker, eos and pad lie in the model's vocabulary."""
        room = self.text.room(self.action.vocab_size)
        end = self.text.encode([END])[0]
        if len(end) != 1:
            raise ValueError(f"the end marker {END!r} must be one token of the text, got ids {end}")
        slots = Slots(
            room.first, room.step, self.action.vocab_size, end[0], self.text.eos, self.text.pad
        )
        used = slots.to_action(np.array([slots.end, slots.eos, slots.pad, self.text.bos]))
        if ((used >= 0) & (used < slots.count)).any():
            raise ValueError(f"action ids cover special tokens of the text: {slots}")
        return slots

    @property
    def vocab_size(self) -> int:
        """Ids of the model, text and actions."""
        return self.text.room(self.action.vocab_size).size

    def encode(
        self,
        prompts: Sequence[str],
        states: np.ndarray | None,
        actions: Any = None,
        *,
        action_ids: Ids | None = None,
    ) -> dict[str, np.ndarray]:
        """Return training sequences of chunks `actions [B, T, A]`, or of their ids if known; with
        neither, of what a model reads that does not say its actions: there is no suffix.

        states: `[B, S]`, or None for a prompt without them. Returns the fields of
        `rlx.types.TokenBatch`, each `[B, L]`: tokens int32, mask_loss, mask_ar bool, segment int32
        (0 = padding); and fits, bool `[B]`: a sample longer than L is cut, has `mask_loss` False
        throughout and must teach nothing else either; a warning counts them.
        """
        prefix, suffix = self._pieces(prompts, states, actions, action_ids)
        before = _sizes(prefix)[:, None]
        total = before + _sizes(suffix)[:, None]
        tokens = self._filled([a + b for a, b in zip(prefix, suffix)], self.max_len)
        position = np.arange(self.max_len)
        is_suffix = (position >= before) & (position < total)
        fits = total <= self.max_len
        if not fits.all():
            warnings.warn(
                f"{int((~fits).sum())} of {len(fits)} samples are longer than max_len "
                f"{self.max_len} (longest {int(total.max())}) and teach nothing",
                stacklevel=2,
            )
        return {
            "tokens": tokens,
            "mask_loss": is_suffix & fits,
            "mask_ar": is_suffix,
            "segment": (position < total).astype(np.int32),
            "fits": fits[:, 0],
        }

    def prefix(
        self, prompts: Sequence[str], states: np.ndarray | None, length: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return what a policy is given before it generates: tokens, segment and mask_ar
        `[B, length]` (`max_len` if None) and lengths `[B]`.

        ValueError where a prefix is longer than that.
        """
        length = self.max_len if length is None else length
        rows = self._prefixes(prompts, states)
        lengths = _sizes(rows)
        if (lengths > length).any():
            row = int(lengths.argmax())
            raise ValueError(
                f"prompt {row} makes a prefix of {lengths[row]} tokens, longer than {length}: "
                f"{prompts[row]!r}"
            )
        return {
            "tokens": self._filled(rows, length),
            "segment": (np.arange(length) < lengths[:, None]).astype(np.int32),
            "mask_ar": np.zeros((len(rows), length), bool),
            "lengths": lengths.astype(np.int32),
        }

    def lengths(
        self,
        prompts: Sequence[str],
        states: np.ndarray | None,
        actions: Any = None,
        *,
        action_ids: Ids | None = None,
    ) -> np.ndarray:
        """Return the number of tokens of each sample of `encode`, `[B]`, whatever `max_len` is."""
        prefix, suffix = self._pieces(prompts, states, actions, action_ids)
        return _sizes(prefix) + _sizes(suffix)

    def check(
        self,
        prompts: Sequence[str],
        states: np.ndarray | None,
        actions: Any = None,
        *,
        action_ids: Ids | None = None,
    ) -> dict[str, float]:
        """Measure samples at start-up: mean, longest and 99.9 % length, truncated_frac.

        Raises ValueError if more than 1 % of them are longer than `max_len`.
        """
        lengths = self.lengths(prompts, states, actions, action_ids=action_ids)
        p999 = int(np.quantile(lengths, 0.999, method="higher"))
        truncated = float((lengths > self.max_len).mean())
        if truncated > TOLERATED:
            raise ValueError(
                f"max_len {self.max_len} is too short: {truncated:.1%} of {len(lengths)} samples "
                f"are longer; 99.9 % of them have at most {p999} tokens"
            )
        return {
            "mean": float(lengths.mean()),
            "longest": float(lengths.max()),
            "p999": float(p999),
            "truncated_frac": truncated,
        }

    def _pieces(
        self,
        prompts: Sequence[str],
        states: np.ndarray | None,
        actions: Any,
        action_ids: Ids | None,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Prefix and suffix of every sample, in model ids."""
        if actions is not None and action_ids is not None:
            raise ValueError("give actions or action_ids, not both")
        slots, prefix = self.slots, self._prefixes(prompts, states)
        if actions is None and action_ids is None:
            return prefix, [[] for _ in prefix]
        ids = self.action.encode(actions) if action_ids is None else action_ids
        if len(ids) != len(prefix):
            raise ValueError(f"{len(prefix)} prompts, but {len(ids)} chunks of actions")
        suffix = []
        for row in ids:
            row = np.asarray(row, np.int64)
            row = row[row != -1]
            if ((row < 0) | (row >= slots.count)).any():
                raise ValueError(f"action ids are in [0, {slots.count}), got {row.tolist()}")
            suffix.append([*slots.to_model(row).tolist(), slots.end, slots.eos])
        return prefix, suffix

    def _prefixes(self, prompts: Sequence[str], states: np.ndarray | None) -> list[list[int]]:
        cleaned = [_clean(prompt) for prompt in prompts]
        if "" in cleaned:
            warnings.warn("a prompt is empty: the policy is told no task", stacklevel=4)
        if states is None:
            texts = [f"Task: {prompt};\n" for prompt in cleaned]
        else:
            digits = self._digits(states)
            if len(digits) != len(cleaned):
                raise ValueError(f"{len(cleaned)} prompts, but {len(digits)} states")
            texts = [
                f"Task: {prompt}, State: {' '.join(map(str, row))};\n"
                for prompt, row in zip(cleaned, digits.tolist())
            ]
        action = self.text.encode(["Action: "])[0]
        return [[self.text.bos, *ids, *action] for ids in self.text.encode(texts)]

    def _digits(self, states: np.ndarray) -> np.ndarray:
        """The bin of every number of `states [B, S]`."""
        states = np.asarray(states)
        if states.ndim != 2:
            raise ValueError(f"states are [B, S], got shape {states.shape}")
        if not np.isfinite(states).all():
            row, dim = np.argwhere(~np.isfinite(states))[0]
            raise ValueError(f"states are not finite: sample {row}, dim {dim}: {states[row, dim]}")
        if self.state_stats is not None:
            states = self.state_stats.normalize(states)
        edges = np.linspace(-1, 1, STATE_BINS + 1)[:-1]
        return np.clip(np.digitize(states, edges) - 1, 0, STATE_BINS - 1)

    def _filled(self, rows: list[list[int]], length: int) -> np.ndarray:
        out = np.full((len(rows), length), self.slots.pad, np.int32)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row[:length]
        return out


def _clean(prompt: str) -> str:
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt is a string, got {type(prompt).__name__}: {prompt!r}")
    return prompt.lower().strip().replace("_", " ")


def _sizes(rows: list[list[int]]) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int64)
