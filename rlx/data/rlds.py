"""Episodes of an RLDS data set on disk (Ramos et al. 2021, arXiv 2111.02767), read without
TensorFlow: TFRecord by our own parser, array_record and parquet through TFDS's data sources.

RLDS: a step is (o_t, a_t, r_t, ...); in the step with `is_last` only the observation counts, and
`is_terminal` there says that the episode ended in a state of value 0.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlx.data import features, tfrecord

INDEX_VERSION = 1  # of the cached files; another number makes them anew


def is_rlds(folder: Path) -> bool:
    """Say whether `folder` holds a prepared TFDS data set."""
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()


def episodes(folder: str | Path, split: str = "train") -> Iterator[dict[str, Any]]:
    """Yield the episodes of `split` in file order: their metadata, and `steps`, a nested dict of
    arrays [T, ...] (T steps, the last one with `is_last`); images are decoded on access.

    `folder` is the one with `dataset_info.json` (`.../<name>/<config>/<version>`). Raises
    FileNotFoundError where it is none, ValueError for an unknown split and for damaged files.
    """
    split_ = Split(folder, split)
    for number in range(len(split_)):
        yield split_[number]


class Split:
    """The episodes of one split, at random access.

    The places of records are found by their framing, and kept in `rlx-index-<split>.npz` beside the
    data. A record's checksum is verified whenever it is read.
    """

    def __init__(self, folder: str | Path, split: str = "train"):
        """Raise as `episodes` does."""
        self.folder, self.split = Path(folder).expanduser(), split
        if not is_rlds(self.folder):
            raise FileNotFoundError(
                f"{self.folder} has no dataset_info.json and features.json; an RLDS data set is "
                "the folder of its version, like d4rl_antmaze/umaze-v2/1.1.1"
            )
        info = json.loads((self.folder / "dataset_info.json").read_text())
        splits = {entry["name"]: entry for entry in info["splits"]}
        if split not in splits:
            raise ValueError(f"{self.folder} has no split '{split}'; it has {', '.join(splits)}")
        self._format = info.get("fileFormat", "tfrecord")
        self._leaves = features.leaves(json.loads((self.folder / "features.json").read_text()))
        shards = [int(length) for length in splits[split].get("shardLengths", [])]
        if self._format == "tfrecord":
            self._open_tfrecords(shards)
        else:
            self._open_with_tfds()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> dict[str, Any]:
        record = self._source[number]
        if isinstance(record, bytes):
            return features.decode(record, self._leaves)
        return {**record, "steps": _stacked(record["steps"])}

    def cached(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of `make()`, kept in `rlx-<name>-<split>.npz` beside the data for as
        long as its files stay what they are; where that folder cannot be written, made each time.
        """
        path = self.folder / f"rlx-{name}-{self.split}.npz"
        files = sorted(self.folder.glob(f"*-{self.split}.{self._format}*"))
        stats = [file.stat() for file in files]
        mark = np.array([[INDEX_VERSION, s.st_size, s.st_mtime_ns] for s in stats], np.int64)
        if path.is_file():
            with np.load(path) as file:
                if np.array_equal(file["mark"], mark):
                    return {key: file[key] for key in file.files if key != "mark"}
        arrays: dict[str, Any] = make()  # Any: a name could be an option of savez
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                np.savez(file, mark=mark, **arrays)
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            text = f"{path} cannot be written ({error}): it is made at each start"
            warnings.warn(text, stacklevel=3)
        return arrays

    def _open_tfrecords(self, shards: Sequence[int]) -> None:
        files = sorted(self.folder.glob(f"*-{self.split}.tfrecord*"))
        if shards and len(files) != len(shards):
            raise ValueError(
                f"{self.folder}: split '{self.split}' has {len(shards)} files, found {len(files)}"
            )

        def index() -> dict[str, np.ndarray]:
            rows = []
            for shard, path in enumerate(files):
                found = list(tfrecord.places(path))
                if shards and len(found) != shards[shard]:
                    raise ValueError(f"{path} has {len(found)} records, expected {shards[shard]}")
                rows += [(shard, *place) for place in found]
            return {"rows": np.array(rows, np.int64).reshape(-1, 3)}

        self._source: Any = _TFRecords(files, self.cached("index", index)["rows"])

    def _open_with_tfds(self) -> None:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder_from_directory(str(self.folder))
        arguments: dict[str, Any] = {}
        if self._format == "array_record":  # its records are the same Examples
            arguments["deserialize_method"] = tfds.decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split=self.split, **arguments)


class _TFRecords:
    """The records of several files by number."""

    def __init__(self, files: Sequence[Path], rows: np.ndarray):
        self._files, self._rows = files, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self._rows):
            raise IndexError(f"episode {number} of {len(self._rows)}")
        shard, offset, length = (int(value) for value in self._rows[number])
        return tfrecord.read(self._files[shard], tfrecord.Place(offset, length))


def _stacked(steps: Any) -> dict[str, Any]:
    """Steps as one nested dict of arrays: TFDS gives an iterable of steps, or that already."""
    if isinstance(steps, Mapping):
        return dict(steps)
    return _stack(list(steps))


def _stack(steps: list[Any]) -> Any:
    if isinstance(steps[0], Mapping):
        return {key: _stack([step[key] for step in steps]) for key in steps[0]}
    if isinstance(steps[0], bytes):
        return np.array([step.decode() for step in steps], object)
    return np.stack(steps)
