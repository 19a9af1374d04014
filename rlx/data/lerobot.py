"""LeRobot data sets on disk, of the layouts v2.0, v2.1 and v3.0, read with pyarrow and PyAV.

  meta/info.json    codebase_version, fps, features {key: {dtype, shape}}, and templates of paths
  v2.x  one parquet and, per camera, one mp4 for each episode; meta/episodes.jsonl, tasks.jsonl
  v3.0  many episodes per file; meta/episodes/*/*.parquet says where each one is: its data file,
        per camera its video file and the time at which it begins there; meta/tasks.parquet

A camera is a feature of dtype "video" (frames found by their time stamps) or "image" (encoded
bytes inside the parquet).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlx.data.chunks import Episode

_VERSIONS = ("v2.0", "v2.1", "v3.0")
_PREFIXES = ("observation.images.", "observation.")  # left out of the names of cameras


class Clip(NamedTuple):
    """Where the frames of an episode are: in this video, from this time on (s)."""

    path: Path
    start: float


class _Place(NamedTuple):
    """Where an episode is."""

    length: int
    data: Path
    clips: dict[str, Clip]  # by key of the camera


class Store:
    """The episodes of a LeRobot folder as `rlx.data.chunks` wants them.

    The numbers of a parquet file stay in memory once it was read; images and frames do not.
    """

    kept = None

    def __init__(
        self,
        folder: str | Path,
        *,
        state: str = "observation.state",
        action: str = "action",
        cameras: Mapping[str, str] | None = None,
    ):
        """Read the metadata.

        Args:
          state, action: the features to read as such.
          cameras: {our name: feature}; None: all of them, "observation.images.top" as "top".
        Raises FileNotFoundError where there is no data set, ValueError for a version that is not
        read here and for features that it does not have.
        """
        self._folder = Path(folder).expanduser()
        self._info = _read_info(self._folder)
        features = self._info["features"]
        self._cameras = dict(_cameras(features) if cameras is None else cameras)
        for wanted in (state, action, *self._cameras.values()):
            if wanted not in features:
                found = ", ".join(features)
                raise ValueError(f"{self._folder} has no feature '{wanted}'; it has {found}")
        self._state, self._action = state, action
        self._dtypes = {key: feature["dtype"] for key, feature in features.items()}
        if self._info["codebase_version"] == "v3.0":
            self._places, self._tasks = self._layout_v3()
        else:
            self._places, self._tasks = self._layout_v2()
        self.lengths = np.array([place.length for place in self._places], np.int64)
        self.fps = float(self._info["fps"])
        self._numbers: dict[Path, dict[str, np.ndarray]] = {}

    def __getitem__(self, number: int) -> Episode:
        place = self._places[number]
        numbers = self._numbers_of(place.data)
        rows = np.flatnonzero(numbers["episode_index"] == number)
        if len(rows) != place.length:
            raise ValueError(
                f"{place.data} has {len(rows)} rows of episode {number}, expected {place.length}"
            )
        images: dict[str, Sequence[np.ndarray]] = {}
        for name, key in self._cameras.items():
            if self._dtypes[key] == "video":
                clip = place.clips[key]
                times = clip.start + numbers["timestamp"][rows]
                images[name] = Frames(clip.path, times, 0.5 / self.fps)
            else:
                images[name] = _Encoded(place, key, number, self._folder)
        sentences = [self._tasks[int(task)] for task in numbers["task_index"][rows]]
        return Episode(numbers[self._state][rows], numbers[self._action][rows], [sentences], images)

    def _numbers_of(self, path: Path) -> dict[str, np.ndarray]:
        """The columns of a parquet file that are no images: `[rows]` or f32 `[rows, D]`."""
        if path not in self._numbers:
            from pyarrow import parquet

            keys = [self._state, self._action, "timestamp", "episode_index", "task_index"]
            table = parquet.read_table(path, columns=keys)
            columns = {key: table.column(key).to_numpy() for key in keys[2:]}
            columns |= {key: _matrix(table.column(key)) for key in keys[:2]}
            self._numbers[path] = columns
        return self._numbers[path]

    def _layout_v2(self) -> tuple[list[_Place], dict[int, str]]:
        tasks = {
            row["task_index"]: row["task"] for row in _jsonl(self._folder / "meta/tasks.jsonl")
        }
        rows = sorted(
            _jsonl(self._folder / "meta/episodes.jsonl"), key=lambda row: row["episode_index"]
        )
        places = []
        for number, row in enumerate(rows):
            _check_number(self._folder, number, row["episode_index"])
            where = {"episode_index": number}
            where["episode_chunk"] = number // self._info["chunks_size"]
            clips = {
                key: Clip(self._folder / self._info["video_path"].format(video_key=key, **where), 0)
                for key in self._videos()
            }
            data = self._folder / self._info["data_path"].format(**where)
            places.append(_Place(row["length"], data, clips))
        return places, tasks

    def _layout_v3(self) -> tuple[list[_Place], dict[int, str]]:
        from pyarrow import parquet

        table = parquet.read_table(self._folder / "meta/tasks.parquet").to_pydict()
        indices = table.pop("task_index")
        (texts,) = table.values()  # the other column is the index of a pandas frame
        rows: list[dict[str, Any]] = []
        for path in sorted((self._folder / "meta/episodes").glob("*/*.parquet")):
            names = parquet.read_schema(path).names
            wanted = [name for name in names if not name.startswith("stats/")]
            rows += parquet.read_table(path, columns=wanted).to_pylist()
        rows.sort(key=lambda row: row["episode_index"])
        places = []
        for number, row in enumerate(rows):
            _check_number(self._folder, number, row["episode_index"])

            def at(template: str, prefix: str, row: Mapping[str, Any] = row, **more: str) -> Path:
                chunk, file = row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"]
                return self._folder / self._info[template].format(
                    chunk_index=chunk, file_index=file, **more
                )

            clips = {
                key: Clip(
                    at("video_path", f"videos/{key}", video_key=key),
                    row[f"videos/{key}/from_timestamp"],
                )
                for key in self._videos()
            }
            places.append(_Place(row["length"], at("data_path", "data"), clips))
        return places, dict(zip(indices, texts))

    def _videos(self) -> list[str]:
        return [key for key in self._cameras.values() if self._dtypes[key] == "video"]


class Frames(Sequence[np.ndarray]):
    """Frames of a video by their times; each access opens the file and decodes from the key frame
    before, so threads do not share a decoder.
    """

    def __init__(self, path: Path, times: np.ndarray, tolerance: float):
        """times: `[T]` s.   tolerance: s, how far a frame's own time may be from the one asked."""
        self._path, self._times, self._tolerance = path, times, tolerance

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, step: Any) -> np.ndarray:
        """The frame uint8 `[H, W, 3]` of a step; ValueError if the video has none at its time."""
        import av

        time = float(self._times[step])
        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            container.seek(max(0, int((time - self._tolerance) * av.time_base)))
            for frame in container.decode(stream):
                if abs(frame.time - time) < self._tolerance:
                    return frame.to_ndarray(format="rgb24")
                if frame.time > time:
                    break
        raise ValueError(
            f"{self._path} has no frame within {self._tolerance:.4g} s of {time:.4f} s"
        )


class _Encoded(Sequence[np.ndarray]):
    """Images of an episode whose bytes (or paths) are a column of a parquet file."""

    def __init__(self, place: _Place, key: str, episode: int, folder: Path):
        self._place, self._key, self._episode, self._folder = place, key, episode, folder

    def __len__(self) -> int:
        return self._place.length

    def __getitem__(self, step: Any) -> np.ndarray:
        from PIL import Image

        cell = self._cells[step]
        source = io.BytesIO(cell["bytes"]) if cell["bytes"] else self._folder / cell["path"]
        return np.asarray(Image.open(source).convert("RGB"))

    @cached_property
    def _cells(self) -> list[dict[str, Any]]:
        from pyarrow import parquet

        mine = [("episode_index", "==", self._episode)]
        table = parquet.read_table(self._place.data, columns=[self._key], filters=mine)
        return table.column(self._key).to_pylist()


def _matrix(column: Any) -> np.ndarray:
    """A column of numbers, or of lists of one length, as f32 `[rows, D]`."""
    import pyarrow as pa

    values = column.combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return values.to_numpy().astype(np.float32).reshape(len(column), -1)


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no meta/info.json: it is no LeRobot data set")
    info = json.loads(path.read_text())
    version = info.get("codebase_version")
    if version not in _VERSIONS:
        raise ValueError(
            f"{path}: codebase_version is one of {', '.join(_VERSIONS)}, got {version}"
        )
    if missing := [key for key in ("fps", "features", "data_path") if key not in info]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return info


def _cameras(features: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, feature in features.items():
        if feature["dtype"] in ("video", "image"):
            prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
            yield key.removeprefix(prefix), key


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _check_number(folder: Path, expected: int, found: int) -> None:
    if found != expected:
        raise ValueError(f"{folder} lists episode {found} where episode {expected} should be")
