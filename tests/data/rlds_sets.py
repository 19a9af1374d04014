"""Writes small RLDS data sets in the three file formats of TFDS, without TensorFlow."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlx.data import example, tfrecord

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

    features = {
        key: tfds.features.Tensor(shape=np.shape(value), dtype=np.asarray(value).dtype)
        for key, value in episodes()[0][0].items()
    }
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(features)})
    return build(folder, features, [{"steps": steps} for steps in episodes()], file_format)


def build(folder: Path, features: Any, examples: list[Any], file_format: str) -> Path:
    """Let TFDS write `examples` as the split train; return the folder of the version."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Planted(tfds.core.GeneratorBasedBuilder):
            name = "planted"
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

    builder = Planted(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _as_tfrecord(folder: Path) -> Path:
    """The same records, which TFDS serialised, in TFRecord's framing."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in list(folder.glob("*.array_record*")):
        reader = ArrayRecordReader(str(path))
        records = reader.read(0, reader.num_records())
        tfrecord.write(path.with_name(path.name.replace("array_record", "tfrecord")), records)
        path.unlink()
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text())
    content["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(content))
    return folder


def png(image: np.ndarray) -> bytes:
    """Encode without loss."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def write_robot(folder: Path, episodes: list[dict[str, Any]], shards: int = 2) -> Path:
    """Write episodes {"steps": nested arrays [T, ...], ...} as TFRecord files like those of Open
    X-Embodiment: uint8 [T, H, W, 3] as PNG images, str as texts. TFDS describes the features.
    """
    import tensorflow_datasets as tfds

    def feature(value: Any, sequence: bool) -> Any:
        if isinstance(value, Mapping):
            return {key: feature(child, sequence) for key, child in value.items()}
        value = np.asarray(value[0] if sequence else value)
        if value.dtype == np.uint8:
            return tfds.features.Image(shape=value.shape, dtype=np.uint8, encoding_format="png")
        if value.dtype.kind in "UO":
            return tfds.features.Text()
        return tfds.features.Tensor(shape=value.shape, dtype=value.dtype)

    tree = {key: feature(value, False) for key, value in episodes[0].items() if key != "steps"}
    tree["steps"] = tfds.features.Dataset(feature(episodes[0]["steps"], True))
    tree = tfds.features.FeaturesDict(tree)
    kind = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    on_disk = {"pythonClassName": kind, "featuresDict": tree.to_json()["content"]}
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(on_disk))
    parts = np.array_split(np.arange(len(episodes)), shards)
    split = {"name": "train", "shardLengths": [str(len(part)) for part in parts]}
    info = {"name": "robot", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for number, part in enumerate(parts):
        records = [example.serialize(dict(_flat(episodes[i], ""))) for i in part]
        name = f"robot-train.tfrecord-{number:05d}-of-{shards:05d}"
        tfrecord.write(folder / name, records)
    return folder


def _flat(value: Any, path: str):
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _flat(child, f"{path}/{key}" if path else key)
    elif isinstance(value, str):
        yield path, [value]
    elif isinstance(value, np.ndarray) and value.dtype == np.uint8:
        yield path, [png(image) for image in value]
    else:
        yield path, value if isinstance(value, list) else value.reshape(-1)
