"""Writes small RLDS data sets in the three file formats of TFDS, without TensorFlow."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Steps = list[dict[str, Any]]


def steps(observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, terminal: bool):
    """RLDS steps of one episode: T + 1 observations, T actions and rewards."""
    last = len(actions)
    pad = np.zeros_like(actions[0])
    return [
        {
            "observation": np.asarray(observations[i], np.float32),
            "action": np.asarray(actions[i] if i < last else pad, np.float32),
            "reward": np.float32(rewards[i] if i < last else 0.0),
            "discount": np.float32(not (terminal and i >= last - 1)),
            "is_first": i == 0,
            "is_last": i == last,
            "is_terminal": terminal and i == last,
        }
        for i in range(last + 1)
    ]


def write(folder: Path, episodes: Callable[[], list[Steps]], file_format: str) -> Path:
    """Write `episodes()` as the split train; return the folder of the version."""
    if file_format == "tfrecord":
        return _as_tfrecord(write(folder, episodes, "array_record"))
    import tensorflow_datasets as tfds

    example = episodes()[0][0]
    features = {
        key: tfds.features.Tensor(shape=np.shape(value), dtype=np.asarray(value).dtype)
        for key, value in example.items()
    }
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(features)})
    with tfds.core.registered.skip_registration():

        class Planted(tfds.core.GeneratorBasedBuilder):
            name = "planted"
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for number, episode in enumerate(episodes()):
                    yield number, {"steps": episode}

    builder = Planted(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _as_tfrecord(folder: Path) -> Path:
    """The same records in TFRecord's framing; its checksums are left 0."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in list(folder.glob("*.array_record*")):
        reader = ArrayRecordReader(str(path))
        records = reader.read(0, reader.num_records())
        framed = b"".join(
            struct.pack("<QI", len(record), 0) + record + b"\0\0\0\0" for record in records
        )
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(framed)
        path.unlink()
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text())
    content["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(content))
    return folder
