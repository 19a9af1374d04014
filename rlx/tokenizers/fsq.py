"""The learned FSQ tokenizer in NumPy: `rlx.nn.fsq.Fsq`, applied with the parameters that
`rlx.agents.fsq` trained. A chunk is a fixed number of ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlx.ops.action_tokens import Codec
from rlx.tokenizers import files
from rlx.tokenizers.chunks import Decoded
from rlx.tokenizers.coded import Coded, Units
from rlx.tokenizers.stats import NormStats

BLOCK = 256  # chunks at a time: bounds the memory of attention weights

Params = Mapping[str, Any]  # nested dicts of arrays, as flax names them


@dataclass(frozen=True, eq=False)
class FsqTokenizer(Coded):
    """Made of trained parameters (`variables["params"]` of the network), or by `load`.

    stats None: actions come normalised; otherwise the network was trained on chunks normalised by
    them.
    """

    params: Params
    levels: tuple[int, ...]
    heads: int
    stats: NormStats | None = None

    name = "fsq"

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return int(np.prod(self.levels))

    @property
    def tokens(self) -> int:
        """Ids per chunk."""
        return self.params["encoder"]["queries"].shape[0]

    @property
    def horizon(self) -> int:
        """Steps of a chunk."""
        return self.params["decoder"]["queries"].shape[0]

    @property
    def action_dim(self) -> int:
        """Numbers of an action."""
        return self.params["head"]["bias"].shape[0]

    def encode(self, actions: Any, *, normalized: bool = False) -> list[list[int]]:
        """Return the ids of each chunk of `actions [B, T, A]`."""
        x = self.normal(actions, normalized).astype(np.float32)
        return [ids for block in _blocks(x) for ids in self._encode(block).tolist()]

    def _decoded(self, codec: Codec, ids: np.ndarray) -> Decoded:
        """Missing and unknown ids count as the middle code, those too many are dropped."""
        n = self.tokens
        known = (ids >= 0) & (ids < self.vocab_size)
        malformed = (~known & (ids != -1)).any(1)
        count = (ids != -1).sum(1)
        middle = int(np.sum((np.array(self.levels) // 2) * self._place))
        whole = np.full((len(ids), n), middle, np.int32)
        width = min(n, ids.shape[1])
        whole[:, :width] = np.where(known, ids, middle)[:, :width]
        blocks = [self._decode(block) for block in _blocks(whole)]
        x = np.concatenate([np.zeros((0, self.horizon, self.action_dim), np.float32), *blocks])
        valid = ~malformed & (count == n) & known[:, :n].all(1)
        info = {
            "n_tokens": count,
            "n_symbols": count,
            "overflow": np.maximum(count - n, 0),
            "padded": np.maximum(n - count, 0),
            "malformed": malformed,
        }
        return x * codec.scale + codec.offset, valid, info

    def clip_fraction(self, actions: Any, *, normalized: bool = False) -> float:
        """Return 0: the network has no range."""
        del actions, normalized
        return 0.0

    def _codec(self, units: Units) -> Codec:
        """What constrains sampling; actions come from the network."""
        T, _, scale, offset = units
        return Codec(
            lengths=np.ones(self.vocab_size, np.int32),
            size=np.int32(self.tokens),
            eob=np.bool_(False),
            start=np.arange(self.vocab_size, dtype=np.int32),
            flat=None,
            basis=np.eye(T, dtype=np.float32),
            scale=scale,
            offset=offset,
        )

    def save(self, path: str | Path) -> None:
        """Write `fsq.json` and the parameters, `fsq.npz`, into the folder `path`."""
        fields = {"levels": list(self.levels), "heads": self.heads}
        files.write(path, self.name, fields, self.stats)
        arrays: dict[str, Any] = dict(_flat(self.params))  # Any: could be an option of savez
        np.savez(Path(path).expanduser() / "fsq.npz", **arrays)

    @classmethod
    def load(cls, path: str | Path) -> FsqTokenizer:
        """Read what `save` wrote."""
        fields = files.read(path, cls.name)
        with np.load(Path(path).expanduser() / "fsq.npz") as saved:
            params = _nested({name: saved[name] for name in saved.files})
        return cls(params, tuple(fields["levels"]), fields["heads"], fields["stats"])

    @property
    def _place(self) -> np.ndarray:
        """The worth of each digit of an id."""
        return np.cumprod((1, *self.levels[:-1]))

    def _encode(self, x: np.ndarray) -> np.ndarray:
        p, levels = self.params, np.array(self.levels)
        h = _resample(p["encoder"], _dense(p["embed"], x), self.heads)
        z = np.tanh(_dense(p["to_code"], h))
        return (np.rint((z + 1) * (levels - 1) / 2).astype(int) * self._place).sum(-1)

    def _decode(self, ids: np.ndarray) -> np.ndarray:
        p, levels = self.params, np.array(self.levels)
        digits = ids[..., None] // self._place % levels
        code = (digits * 2 / (levels - 1) - 1).astype(np.float32)
        h = _resample(p["decoder"], _dense(p["from_code"], code), self.heads)
        return p["gain"] * _dense(p["head"], h)


def _resample(p: Params, y: np.ndarray, heads: int) -> np.ndarray:
    y = y + p["position"]
    x = np.broadcast_to(p["queries"], (len(y), *p["queries"].shape))
    for i in range(sum(name.startswith("block_") for name in p)):
        x = _block(p[f"block_{i}"], x, y, heads)
    return _norm(p["norm"], x)


def _block(p: Params, x: np.ndarray, y: np.ndarray, heads: int) -> np.ndarray:
    h = _norm(p["self_norm"], x)
    x = x + _attend(p["self"], h, h, heads)
    x = x + _attend(p["cross"], _norm(p["cross_norm"], x), y, heads)
    h = _norm(p["mlp_norm"], x)
    return x + _dense(p["down"], _gelu(_dense(p["gate"], h)) * _dense(p["up"], h))


def _attend(p: Params, x: np.ndarray, y: np.ndarray, heads: int) -> np.ndarray:
    split = lambda z: z.reshape(*z.shape[:2], heads, -1).swapaxes(1, 2)  # noqa: E731
    q, k, v = split(_dense(p["q"], x)), split(_dense(p["k"], y)), split(_dense(p["v"], y))
    score = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(q.shape[-1]))
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    return _dense(p["out"], (weight @ v).swapaxes(1, 2).reshape(x.shape))


def _dense(p: Params, x: np.ndarray) -> np.ndarray:
    return x @ p["kernel"] + p["bias"]


def _norm(p: Params, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    size = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-6))
    return centred / size * p["scale"] + p["bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3)))


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[i : i + BLOCK] for i in range(0, len(x), BLOCK))


def _flat(params: Params, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)


def _nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        place = out
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return out
