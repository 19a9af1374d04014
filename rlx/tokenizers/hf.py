"""FAST in the format of the public files (`physical-intelligence/fast`), without their code.

  Q = rint(scale DCT(x)),   text = characters U+max(Q - min_token, 0),   ids = byte-level BPE of it
The ids are those of the reference. Its defects are not: a coefficient whose bytes are missing from
the vocabulary is replaced by the nearest one that has them and counted, where the reference drops
it in silence and shifts all that follows; and ids that are no UTF-8 or the wrong length are not
valid, where it returns an action of a thousand, or zeros. `strict="reference"` encodes as it does.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlx.ops.action_tokens import Codec
from rlx.ops.dct import basis, dct
from rlx.tokenizers import files, utf8
from rlx.tokenizers.chunks import (
    as_groups,
    check_scale,
    fit_stats,
    fitted_shape,
    normal,
    rows,
)
from rlx.tokenizers.coded import Coded, Units
from rlx.tokenizers.stats import NormStats

PROCESSOR = "processor_config.json"
PLACES = ("tokenizer.json", "bpe_tokenizer/tokenizer.json")  # older and newer layout
STRICT = (True, "reference")
TIGHT = 100  # ids that the reference wants beside the alphabet


@dataclass(frozen=True, eq=False)
class HFFastTokenizer(Coded):
    """FAST over a byte-level vocabulary; made by `fit` or `load`.

    stats None: actions come normalised. max_token None: the largest coefficient is not known.
    """

    rust: str  # text of tokenizer.json
    scale: float
    min_token: int  # coefficient of character 0
    max_token: int | None = None
    strict: bool | str = True
    horizon: int | None = None
    action_dim: int | None = None
    stats: NormStats | None = None

    name = "hf_fast"

    def __post_init__(self) -> None:
        if self.strict not in STRICT:
            raise ValueError(f"strict is True or 'reference', got {self.strict!r}")

    @classmethod
    def fit(
        cls,
        actions: Any,
        *,
        scale: float = 10.0,
        vocab_size: int = 1024,
        norm_mode: str | None = "quantile",
        strict: bool | str = True,
        allow_any_shape: bool = False,
    ) -> HFFastTokenizer:
        """Train as the reference does on chunks `[B, T, A]`, or on a list of such.

        ValueError if a setting is out of range or the coefficients do not fit into `vocab_size`.
        """
        check_scale(scale)
        groups = as_groups(actions)
        stats = fit_stats(groups, norm_mode)
        found = [_coefficients(normal(group, stats), scale) for group in groups]
        low, high = min(q.min() for q in found), max(q.max() for q in found)
        if high - low > vocab_size:
            fitting = scale * vocab_size / (high - low)
            raise ValueError(
                f"vocab_size {vocab_size} is smaller than the range of {high - low} coefficients; "
                f"use vocab_size >= {high - low} or scale <= {fitting:.3g}"
            )
        if high == low:
            warnings.warn("every coefficient rounds to the same: one symbol", stacklevel=2)
        if high - low + TIGHT > vocab_size:
            warnings.warn(
                f"{high - low} coefficients leave fewer than {TIGHT} of {vocab_size} ids to merges",
                stacklevel=2,
            )
        words = [word for q in found for word in utf8.texts(rows(q) - low)]
        shape = fitted_shape(groups, allow_any_shape)
        rust = utf8.train(words, int(high - low), vocab_size)
        return cls(rust, scale, int(low), int(high), strict, *shape, stats)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._halves.lengths)

    def encode(self, actions: Any, *, normalized: bool = False) -> list[list[int]]:
        """Return the ids of each chunk of `actions [B, T, A]`."""
        texts = utf8.texts(self.characters(actions, normalized=normalized))
        return [found.ids for found in self._tokenizer.encode_batch_fast(texts)]

    def coefficients(self, actions: Any, *, normalized: bool = False) -> np.ndarray:
        """Return Q `[B, T, A]` before anything is clipped or replaced."""
        return _coefficients(self.normal(actions, normalized), self.scale)

    def characters(self, actions: Any, *, normalized: bool = False) -> np.ndarray:
        """Return the characters `[B, T A]` that are written."""
        return self._written(self.coefficients(actions, normalized=normalized))

    def clip_fraction(self, actions: Any, *, normalized: bool = False) -> float:
        """Return the share of coefficients that are clipped or replaced."""
        Q = self.coefficients(actions, normalized=normalized)
        return float((self._written(Q) + self.min_token != rows(Q)).mean())

    def _codec(self, units: Units) -> Codec:
        T, A, scale, offset = units
        table = self._halves
        # The first half of a character carries the shift to its coefficient.
        first = np.arange(len(table.flat)) - np.repeat(table.start, table.lengths)
        first = (first + np.repeat(table.entry, table.lengths)) % 2 == 0
        flat = (table.flat + self.min_token * first) / self.scale
        return Codec(
            lengths=table.lengths,
            size=np.int32(2 * T * A),
            eob=np.bool_(False),
            start=table.start,
            flat=flat.astype(np.float32),
            basis=basis(T),
            scale=scale,
            offset=offset,
            place=np.arange(2 * T * A, dtype=np.int32).reshape(-1, 2),
            entry=table.entry,
            usable=self._usable,
        )

    def save_hf(self, path: str | Path) -> None:
        """Write the three files of the public layout into the folder `path`."""
        folder = Path(path).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        processor = {
            "action_dim": self.action_dim,
            "auto_map": {
                "AutoProcessor": "processing_action_tokenizer.UniversalActionProcessor",
            },
            "min_token": self.min_token,
            "processor_class": "UniversalActionProcessor",
            "scale": self.scale,
            "time_horizon": self.horizon,
            "vocab_size": self.vocab_size,
        }
        config = {
            "clean_up_tokenization_spaces": False,
            "processor_class": "UniversalActionProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        (folder / "tokenizer.json").write_text(self.rust)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
        (folder / PROCESSOR).write_text(json.dumps(processor, indent=2))

    def save(self, path: str | Path) -> None:
        """Write the public layout, and beside it `hf_fast.json` with what it has no place for."""
        self.save_hf(path)
        files.write(
            path, self.name, {"max_token": self.max_token, "strict": self.strict}, self.stats
        )

    @classmethod
    def load(cls, path: str | Path) -> HFFastTokenizer:
        """Read a folder of the public layout, or fetch one by its name on the Hugging Face hub."""
        folder = Path(path).expanduser()
        folder = folder if folder.exists() else _fetched(str(path))
        place = next((folder / name for name in PLACES if (folder / name).is_file()), None)
        if place is None or not (folder / PROCESSOR).is_file():
            raise FileNotFoundError(f"{folder} lacks {PROCESSOR} or {' or '.join(PLACES)}")
        config = json.loads((folder / PROCESSOR).read_text())
        if missing := [key for key in ("scale", "min_token") if key not in config]:
            raise ValueError(f"{folder / PROCESSOR} lacks {', '.join(missing)}")
        own = files.read(folder, cls.name) if (folder / f"{cls.name}.json").is_file() else {}
        return cls(
            place.read_text(),
            config["scale"],
            config["min_token"],
            horizon=config.get("time_horizon"),
            action_dim=config.get("action_dim"),
            **own,
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.rust)
        tokenizer.no_truncation()  # some files ask for it, and for padding
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _vocab(self) -> dict[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @cached_property
    def _halves(self) -> utf8.Halves:
        return utf8.halves(self._vocab)

    @cached_property
    def _largest(self) -> int:
        """The largest character of the fitted range, or of what the vocabulary spells."""
        if self.max_token is not None:
            return self.max_token - self.min_token
        return int(self._halves.largest.max(initial=0))

    @cached_property
    def _nearest(self) -> np.ndarray:
        """For each character the nearest one that can be written."""
        count = self._largest + 1 if self.max_token is not None else utf8.TWO_BYTES
        return utf8.nearest(utf8.representable(self._vocab, count))

    @cached_property
    def _usable(self) -> np.ndarray:
        """Which tokens may be sampled: characters in range, and whatever they begin can be ended.

        A last byte that begins a character outside the range in part is not sampled.
        """
        table, continues = self._halves, 0x3F
        ends = ((table.entry == 1) & (table.lengths == 1)).any()
        inside = table.largest <= self._largest
        closes = (table.pending < 0) | (ends & (table.pending + continues <= self._largest))
        usable = (table.entry >= 0) & inside & closes
        if not (usable & (table.entry == 0) & (table.lengths == 2)).any():
            raise ValueError(
                "no token of this vocabulary is one coefficient: it cannot end a chunk"
            )
        return usable

    def _written(self, Q: np.ndarray) -> np.ndarray:
        wanted = rows(Q) - self.min_token
        if self.strict == "reference":
            return np.maximum(wanted, 0)
        return self._nearest[np.clip(wanted, 0, len(self._nearest) - 1)]


def _coefficients(x: np.ndarray, scale: float) -> np.ndarray:
    return np.rint(dct(x.astype(np.float64)) * scale).astype(np.int64)


def _fetched(name: str) -> Path:
    """The folder of a repository of the hub; an error that says what to do offline."""
    advice = (
        f"{name!r} is no folder and could not be fetched from the Hugging Face hub; download the "
        "repository elsewhere and give the path of its folder"
    )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(f"{advice} (huggingface_hub is not installed)") from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"]))
    except (OSError, ValueError) as error:  # what the hub's errors are: offline, unknown name
        raise FileNotFoundError(f"{advice} ({type(error).__name__}: {error})") from error
