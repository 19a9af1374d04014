"""Action tokenizers and the text around them; `make` fits one by name, `load` reads one back.

All follow `ActionTokenizer`. Importing this costs NumPy only: no JAX, and the Rust package
`tokenizers` when text or merges are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlx.ops.action_tokens import Codec
from rlx.tokenizers.bins import BinningTokenizer, OpenVLATokenizer
from rlx.tokenizers.chunks import Decoded, Ids
from rlx.tokenizers.fast import DctNoBpeTokenizer, FastTokenizer
from rlx.tokenizers.fsq import FsqTokenizer
from rlx.tokenizers.hf import PROCESSOR, HFFastTokenizer
from rlx.tokenizers.stats import NormStats

CLASSES: dict[str, Any] = {
    kind.name: kind
    for kind in (
        FastTokenizer,
        DctNoBpeTokenizer,
        BinningTokenizer,
        OpenVLATokenizer,
        HFFastTokenizer,
        FsqTokenizer,
    )
}
LEARNED = (FsqTokenizer.name,)  # trained by a learner, not fitted by `make`


class ActionTokenizer(Protocol):
    """Chunks of actions to lists of ids 0..vocab_size-1 and back; immutable.

    horizon, action_dim: the fitted shape, None = any. stats: normalisation, None = actions come
    normalised.
    """

    name: str

    @property
    def horizon(self) -> int | None: ...

    @property
    def action_dim(self) -> int | None: ...

    @property
    def stats(self) -> NormStats | None: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, actions: Any, *, normalized: bool = False) -> list[list[int]]:
        """Return the ids of each chunk of `actions [B, T, A]` (or `[T, A]`, one chunk)."""
        ...

    def decode(
        self,
        ids: Ids,
        *,
        horizon: int | None = None,
        action_dim: int | None = None,
        normalized: bool = False,
        on_error: str = "repair",
        fallback: np.ndarray | None = None,
    ) -> Decoded:
        """Return actions `[B, T, A]` float32, valid `[B]` bool, info; see `chunks.settle`."""
        ...

    def clip_fraction(self, actions: Any, *, normalized: bool = False) -> float: ...

    def codec(
        self,
        horizon: int | None = None,
        action_dim: int | None = None,
        *,
        normalized: bool = False,
    ) -> Codec:
        """Return what decodes under `jit` and constrains sampling, for one shape of chunk."""
        ...

    def save(self, path: str | Path) -> None: ...


def make(name: str, actions: Any, **settings: Any) -> ActionTokenizer:
    """Fit the tokenizer `name` on chunks `[B, T, A]`; `settings` are those of its `fit`.

    Raises ValueError for an unknown name, and for FSQ, which `rlx.agents.fsq` trains.
    """
    if name not in CLASSES:
        raise ValueError(f"unknown tokenizer {name!r}; expected one of {', '.join(CLASSES)}")
    if name in LEARNED:
        raise ValueError(f"tokenizer {name!r} is learned: train rlx.agents.{name}, then load it")
    return CLASSES[name].fit(actions, **settings)


def load(path: str | Path) -> ActionTokenizer:
    """Read a tokenizer from its folder; the file in it tells which one it is.

    A folder of the public FAST layout is read too, and what is no folder is looked for by its name
    on the Hugging Face hub.
    """
    folder = Path(path).expanduser()
    for name, kind in CLASSES.items():
        if (folder / f"{name}.json").is_file():
            return kind.load(folder)
    if (folder / PROCESSOR).is_file() or not folder.exists():
        return HFFastTokenizer.load(path)
    raise FileNotFoundError(
        f"{folder} holds no tokenizer; expected one of {', '.join(f'{n}.json' for n in CLASSES)}"
    )
