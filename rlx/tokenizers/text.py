"""Text to token ids: bytes, which need no files, or a vocabulary in a `tokenizer.json`.

Both leave room for the action ids of a policy and say where (`room`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Room(NamedTuple):
    """Where action ids go: model id = first + step * action id, in a vocabulary of `size` ids."""

    first: int
    step: int
    size: int


class TextTokenizer(Protocol):
    """Texts to ids without special tokens; `pad`, `bos` and `eos` are ids of their own."""

    pad: int
    bos: int
    eos: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def room(self, count: int) -> Room: ...


class ByteTokenizer:
    """UTF-8 bytes: ids 0, 1, 2 are pad, eos, bos, then the 256 bytes, then the action ids."""

    pad, eos, bos = 0, 1, 2
    first_byte = 3

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [
            (np.frombuffer(text.encode(), np.uint8).astype(int) + self.first_byte).tolist()
            for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids that are bytes; broken UTF-8 is shown as U+FFFD."""
        raw = bytes(i - self.first_byte for i in ids if 0 <= i - self.first_byte < 256)
        return raw.decode(errors="replace")

    def room(self, count: int) -> Room:
        """Put `count` action ids above the bytes, upwards."""
        first = self.first_byte + 256
        return Room(first, 1, first + count)


class HFTextTokenizer:
    """A vocabulary read by the Rust package from `tokenizer.json` (a file or its folder).

    vocab_size: ids of the model, if they are not those of the file. Action ids go downwards from
    `vocab_size - 1 - skip`; of PaliGemma's 257 152 ids the last 128 are segmentation tokens, and
    the action ids below them take the place of location tokens.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        vocab_size: int | None = None,
        skip: int = 128,
        pad: str = "<pad>",
        bos: str = "<bos>",
        eos: str = "<eos>",
    ) -> None:
        file = Path(path).expanduser()
        file = file / "tokenizer.json" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"{file} not found: expected a tokenizer.json or its folder")
        self.path, self.skip = file, skip
        self.vocab_size = vocab_size or self._rust.get_vocab_size()
        self.pad, self.bos, self.eos = (self._special(name) for name in (pad, bos, eos))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        found = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in found]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens left out."""
        return self._rust.decode(list(ids))

    def room(self, count: int) -> Room:
        """Put `count` action ids below the last `skip` ids, downwards."""
        first = self.vocab_size - 1 - self.skip
        if first - count < max(self.pad, self.bos, self.eos):
            raise ValueError(
                f"a vocabulary of {self.vocab_size} ids has no room for {count} action ids below "
                f"id {first}"
            )
        return Room(first, -1, self.vocab_size)

    @cached_property
    def _rust(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.path))
        tokenizer.no_truncation()  # some files ask for it, and for padding
        tokenizer.no_padding()
        return tokenizer

    def _special(self, name: str) -> int:
        found = self._rust.token_to_id(name)
        if found is None:
            raise ValueError(
                f"{self.path} has no token {name!r}; name its own with pad=, bos=, eos="
            )
        return found
