"""Writes small LeRobot data sets of the layouts v2.1 and v3.0 with pyarrow and PyAV."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

LOSSLESS = ("libx264rgb", "rgb24", {"crf": "0", "g": "2"})
AV1 = ("libsvtav1", "yuv420p", {"crf": "30", "g": "2", "svtav1-params": "lp=1"})
VIDEO, IMAGE = "observation.images.top", "observation.wrist"


class Recorded(NamedTuple):
    """One episode."""

    state: np.ndarray  # [T, S]
    action: np.ndarray  # [T, A]
    top: np.ndarray  # uint8 [T, H, W, 3], kept as video
    wrist: np.ndarray  # uint8 [T, H, W, 3], kept as PNG bytes
    tasks: list[str]  # [T]


def video(path: Path, frames: np.ndarray, fps: int, codec: Any) -> None:
    name, pixels, options = codec
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(name, rate=Fraction(fps), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def png(image: np.ndarray) -> dict[str, Any]:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": "frame.png"}


def table(episodes: Sequence[tuple[int, Recorded]], fps: int, tasks: list[str], first: int):
    """The rows of some episodes; `first` is the index of the first row over the whole set."""
    columns: dict[str, list] = {}

    def add(key, values):
        columns.setdefault(key, []).extend(values)

    for number, episode in episodes:
        n = len(episode.action)
        add("observation.state", episode.state.tolist())
        add("action", episode.action.tolist())
        add(IMAGE, map(png, episode.wrist))
        add("timestamp", (np.arange(n) / fps).astype(np.float32).tolist())
        add("frame_index", range(n))
        add("episode_index", [number] * n)
        add("index", range(first, first + n))
        add("task_index", [tasks.index(task) for task in episode.tasks])
        first += n
    types = {"observation.state": pa.list_(pa.float32()), "action": pa.list_(pa.float32())}
    arrays = {key: pa.array(values, types.get(key)) for key, values in columns.items()}
    return pa.table(arrays)


def info(version: str, fps: int, episodes: Sequence[Recorded], **more: Any) -> dict[str, Any]:
    example = episodes[0]
    features = {
        "observation.state": {"dtype": "float32", "shape": [example.state.shape[1]]},
        "action": {"dtype": "float32", "shape": [example.action.shape[1]]},
        VIDEO: {"dtype": "video", "shape": list(example.top.shape[1:])},
        IMAGE: {"dtype": "image", "shape": list(example.wrist.shape[1:])},
        "task_index": {"dtype": "int64", "shape": [1]},
    }
    return {
        "codebase_version": version,
        "fps": fps,
        "features": features,
        "chunks_size": 2,
        "total_episodes": len(episodes),
        **more,
    }


def names(episodes: Sequence[Recorded]) -> list[str]:
    return list(dict.fromkeys(task for episode in episodes for task in episode.tasks))


def write_v2(folder: Path, episodes: Sequence[Recorded], fps: int, codec: Any = LOSSLESS) -> Path:
    """One file per episode; two episodes per chunk folder."""
    (folder / "meta").mkdir(parents=True)
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
    }
    (folder / "meta/info.json").write_text(json.dumps(info("v2.1", fps, episodes, **paths)))
    tasks = names(episodes)
    lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
    (folder / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    lines, first = [], 0
    for number, episode in enumerate(episodes):
        where = {"episode_chunk": number // 2, "episode_index": number}
        path = folder / paths["data_path"].format(**where)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table([(number, episode)], fps, tasks, first), path)
        video(
            folder / paths["video_path"].format(video_key=VIDEO, **where), episode.top, fps, codec
        )
        n = len(episode.action)
        row = {"episode_index": number, "tasks": names([episode]), "length": n}
        lines.append(json.dumps(row))
        first += n
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_v3(
    folder: Path,
    episodes: Sequence[Recorded],
    fps: int,
    codec: Any = LOSSLESS,
    files: Sequence[Sequence[int]] = ((0, 1), (2, 3)),
    videos: Sequence[Sequence[int]] = ((0, 1, 2), (3,)),
) -> Path:
    """Several episodes per file: `files` and `videos` list the episodes of each."""
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info("v3.0", fps, episodes, **paths)))
    tasks = names(episodes)
    frame = pa.table({"task_index": range(len(tasks)), "__index_level_0__": tasks})
    parquet.write_table(frame, folder / "meta/tasks.parquet")
    rows: list[dict[str, Any]] = [{"episode_index": i} for i in range(len(episodes))]
    first = 0
    for file, members in enumerate(files):
        path = folder / paths["data_path"].format(chunk_index=0, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table([(i, episodes[i]) for i in members], fps, tasks, first), path)
        for i in members:
            n = len(episodes[i].action)
            rows[i] |= {"length": n, "tasks": names([episodes[i]])}
            rows[i] |= {"dataset_from_index": first, "dataset_to_index": first + n}
            rows[i] |= {"data/chunk_index": 0, "data/file_index": file, "stats/action/min": [0.0]}
            first += n
    for file, members in enumerate(videos):
        path = folder / paths["video_path"].format(video_key=VIDEO, chunk_index=0, file_index=file)
        video(path, np.concatenate([episodes[i].top for i in members]), fps, codec)
        start = 0.0
        for i in members:
            end = start + len(episodes[i].action) / fps
            rows[i] |= {f"videos/{VIDEO}/chunk_index": 0, f"videos/{VIDEO}/file_index": file}
            rows[i] |= {
                f"videos/{VIDEO}/from_timestamp": start,
                f"videos/{VIDEO}/to_timestamp": end,
            }
            start = end
    for file, part in enumerate((rows[:3], rows[3:])):
        path = folder / f"meta/episodes/chunk-000/file-{file:03d}.parquet"
        parquet.write_table(pa.Table.from_pylist(part), path)
    return folder
