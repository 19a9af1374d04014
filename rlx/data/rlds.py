"""Episodes of an RLDS data set on disk (Ramos et al. 2021, arXiv 2111.02767), read without
TensorFlow: array_record and parquet through TFDS's data sources, TFRecord by its framing.

RLDS: a step is (o_t, a_t, r_t, ...); in the step with `is_last` only the observation counts, and
`is_terminal` there says that the episode ended in a state of value 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_FRAME = 12  # bytes before a record: u64 length, u32 crc of it
_CRC = 4  # bytes after a record


def is_rlds(folder: Path) -> bool:
    """Say whether `folder` holds a prepared TFDS data set."""
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()


def episodes(folder: str | Path, split: str = "train") -> Iterator[dict[str, Any]]:
    """Yield the episodes of `split` in file order: their metadata, and `steps`, a nested dict of
    arrays [T, ...] (T steps, the last one with `is_last`).

    `folder` is the one with `dataset_info.json` (`.../<name>/<config>/<version>`). Raises
    FileNotFoundError where it is none, ValueError for an unknown split or truncated files.
    """
    folder = Path(folder).expanduser()
    if not is_rlds(folder):
        raise FileNotFoundError(
            f"{folder} has no dataset_info.json and features.json; an RLDS data set is the "
            "folder of its version, like d4rl_antmaze/umaze-v2/1.1.1"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    if split not in builder.info.splits:
        raise ValueError(
            f"{folder} has no split '{split}'; it has {', '.join(builder.info.splits)}"
        )
    if builder.info.file_format.value == "tfrecord":
        records: Any = _tfrecord_examples(builder.info, split)
    else:
        records = builder.as_data_source(split=split)
    for episode in records:
        yield {**episode, "steps": _stacked(episode["steps"])}


def _tfrecord_examples(info: Any, split: str) -> Iterator[dict[str, Any]]:
    """The decoded examples of a split in TFRecord files, by TFDS's NumPy parser."""
    from tensorflow_datasets.core import example_parser

    parser = example_parser.ExampleParserNp(info.features.get_serialized_info())
    for name in info.splits[split].filepaths:
        for record in tfrecords(Path(name)):
            yield info.features.decode_example_np(parser.parse_example(record))


def tfrecords(path: Path) -> Iterator[bytes]:
    """Yield the records of one TFRecord file; ValueError where it ends in mid-record.

    Each is a little-endian u64 length, u32 checksum, the payload, u32 checksum. The checksums are
    not verified.
    """
    with open(path, "rb") as file:
        while frame := file.read(_FRAME):
            length = struct.unpack("<Q", frame[:8])[0] if len(frame) == _FRAME else 0
            record = file.read(length + _CRC)
            if len(frame) < _FRAME or len(record) < length + _CRC:
                raise ValueError(f"{path} ends in mid-record: it was not copied completely")
            yield record[:length]


def _stacked(steps: Any) -> dict[str, Any]:
    """Steps as one nested dict of arrays: TFDS gives an iterable of steps, or that already."""
    if isinstance(steps, Mapping):
        return dict(steps)
    return _stack(list(steps))


def _stack(steps: list[Any]) -> Any:
    if isinstance(steps[0], Mapping):
        return {key: _stack([step[key] for step in steps]) for key in steps[0]}
    return np.stack(steps)
