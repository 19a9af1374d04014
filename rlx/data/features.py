"""What TFDS's `features.json` says of a data set, and records decoded by it.

A leaf of the feature tree is named by its path, `steps/observation/image`. A leaf inside a
sequence holds the values of all its steps one after the other.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from rlx.data import example

Kind = str  # "tensor", "image" or "text"


class Leaf(NamedTuple):
    """How the values of one feature are stored."""

    kind: Kind
    shape: tuple[int, ...]  # of one step; -1 = unknown
    dtype: str  # of NumPy, "string" for text
    encoding: str  # of tensors: "none", or "zlib" and "bytes" for one string of bytes per step
    sequences: int  # how many sequences it stands in: 1 for what lies in `steps`


class Images(Sequence[np.ndarray]):
    """Encoded images [T], each decoded when it is asked for; `np.asarray` decodes all."""

    def __init__(self, encoded: Sequence[memoryview], leaf: Leaf):
        """Keep the bytes of T images."""
        self._encoded, self._leaf = encoded, leaf

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, step: Any) -> np.ndarray:
        """The image `[H, W, C]` of a step."""
        from PIL import Image

        image = np.asarray(Image.open(io.BytesIO(self._encoded[step])))
        image = image.astype(self._leaf.dtype, copy=False)
        return image[:, :, None] if image.ndim == 2 else image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return np.stack(list(self)).astype(dtype or self._leaf.dtype, copy=False)


def leaves(tree: Mapping[str, Any]) -> dict[str, Leaf]:
    """Return the leaves of a `features.json` by path.

    Raises ValueError for features that no robot data set is known to have (audio, ragged tensors).
    """
    return dict(_walk(tree, "", 0))


def _walk(node: Mapping[str, Any], path: str, sequences: int) -> Iterator[tuple[str, Leaf]]:
    if "featuresDict" in node:
        for name, child in node["featuresDict"]["features"].items():
            yield from _walk(child, f"{path}/{name}" if path else name, sequences)
    elif "sequence" in node:
        yield from _walk(node["sequence"]["feature"], path, sequences + 1)
    elif "tensor" in node:
        tensor = node["tensor"]
        dtype, encoding = tensor["dtype"], tensor.get("encoding", "none").lower()
        leaf = Leaf("tensor", _shape(tensor), dtype, encoding, sequences)
        if dtype == "string":
            leaf = leaf._replace(kind="text")
        if sequences + sum(n < 0 for n in leaf.shape) > 1 and encoding == "none":
            raise ValueError(
                f"feature {path} is ragged (shape {leaf.shape} in {sequences} sequences)"
            )
        yield path, leaf
    elif "image" in node:
        image = node["image"]
        yield path, Leaf("image", _shape(image), image.get("dtype", "uint8"), "none", sequences)
    elif "text" in node:
        yield path, Leaf("text", (), "string", "none", sequences)
    elif "classLabel" in node:
        yield path, Leaf("tensor", (), "int64", "none", sequences)
    else:
        name = node.get("pythonClassName", ", ".join(node))
        raise ValueError(f"feature {path or 'root'} is a {name}, which is not read here")


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in node.get("shape", {}).get("dimensions", ()))


def decode(record: bytes, leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Return a record as the nested dict of its features: arrays, str, and `Images`.

    Raises ValueError where a feature is missing or has another size than `leaves` say.
    """
    values = example.parse(record)
    out: dict[str, Any] = {}
    for path, leaf in leaves.items():
        if path not in values:
            raise ValueError(f"a record has no feature {path}; it has {', '.join(sorted(values))}")
        *parents, name = path.split("/")
        node = out
        for parent in parents:
            node = node.setdefault(parent, {})
        try:
            node[name] = _decoded(values[path], leaf)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"feature {path} of a record: {error}") from error
    return out


def _decoded(values: example.Values, leaf: Leaf) -> Any:
    if leaf.kind == "image":
        images = Images(cast(Sequence[memoryview], values), leaf)
        return images if leaf.sequences else images[0]
    if leaf.kind == "text":
        texts = np.array([bytes(value).decode() for value in values], object)
        texts = texts.reshape((-1,) * leaf.sequences + leaf.shape)
        return texts if texts.ndim else texts.item()
    shape = leaf.shape
    if leaf.encoding != "none":
        rows = [_tensor(value, leaf) for value in values]
        return np.stack(rows) if leaf.sequences else rows[0]
    array = np.asarray(values).astype(leaf.dtype).reshape((-1,) * leaf.sequences + shape)
    return array if array.ndim else array[()]


def _tensor(value: memoryview, leaf: Leaf) -> np.ndarray:
    data = zlib.decompress(value) if leaf.encoding == "zlib" else value
    return np.frombuffer(data, leaf.dtype).reshape(leaf.shape)
