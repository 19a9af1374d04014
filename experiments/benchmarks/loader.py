"""Speed of what feeds a vision-language-action model, and of the server that answers with one.

  python -m experiments.benchmarks.loader           some minutes on 2 busy cores
  python -m experiments.benchmarks.loader --quick   fewer rounds

made      demonstrations generated, with and without pictures
checksum  of TFRecord, beside zlib's crc32 (C, another polynomial)
rlds      samples from TFRecord files: 40-step episodes with JPEG images of 256 x 256
loader    batches of 64 rows from memory, prepared by 2 threads
server    answers of a policy that costs nothing, to 1 and to 32 clients
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import measure, online
from experiments.benchmarks.measure import Line
from rlx.data import example, oxe, tfrecord
from rlx.data.chunks import ArraySource
from rlx.data.loader import Loader
from rlx.data.synth import reach
from rlx.infra import files
from rlx.serve.client import Client
from rlx.serve.server import Options, background

STEPS, EPISODES, SIDE = 40, 16, 256


def made() -> dict[str, measure.Block]:
    """Blocks that count episodes at 50 Hz; compiled beforehand."""

    def block(images: bool) -> measure.Block:
        return lambda: len(reach.generate(0, 20_000, 50, images)["prompt"])

    return {"made": block(False), "made with pictures": block(True)}


def checksum() -> dict[str, measure.Block]:
    """Blocks that count megabytes."""
    data = np.random.default_rng(0).bytes(8_000_000)
    return {
        "crc32c, MB": lambda: (tfrecord.crc32c(data), 8)[1],
        "zlib crc32, MB": lambda: (zlib.crc32(data), 8)[1],
    }


def write_libero(folder: Path) -> None:
    """Write a set laid out like LIBERO's: smooth pictures, as JPEG compresses them."""
    from PIL import Image

    def leaf(*shape: int) -> dict[str, Any]:
        return {"tensor": {"shape": {"dimensions": list(map(str, shape))}, "dtype": "float32"}}

    def tree(**children: Any) -> dict[str, Any]:
        return {"featuresDict": {"features": children}}

    image = {"image": {"shape": {"dimensions": [str(SIDE), str(SIDE), "3"]}, "dtype": "uint8"}}
    seen = tree(image=image, wrist_image=image, state=leaf(8))
    steps = tree(observation=seen, action=leaf(7), language_instruction={"text": {}})
    (folder / "features.json").write_text(json.dumps(tree(steps={"sequence": {"feature": steps}})))
    split = {"name": "train", "shardLengths": [str(EPISODES)]}
    (folder / "dataset_info.json").write_text(json.dumps({"splits": [split]}))
    rng, (y, x) = np.random.default_rng(0), np.mgrid[0:SIDE, 0:SIDE]

    def jpeg(t: int) -> bytes:
        out, wave = io.BytesIO(), np.sin(x / 20 + t / 5) * np.cos(y / 30) * 100 + 128
        Image.fromarray(np.stack([wave, 255 - wave, wave / 2], -1).astype(np.uint8)).save(
            out, "JPEG"
        )
        return out.getvalue()

    def episode() -> bytes:
        frames = [jpeg(t) for t in range(STEPS)]
        return example.serialize(
            {
                "steps/observation/image": frames,
                "steps/observation/wrist_image": frames,
                "steps/observation/state": rng.normal(size=STEPS * 8),
                "steps/action": rng.normal(size=STEPS * 7),
                "steps/language_instruction": ["put the cup on the plate"] * STEPS,
            }
        )

    path = folder / "libero-train.tfrecord-00000-of-00001"
    tfrecord.write(path, (episode() for _ in range(EPISODES)))


def rlds(folder: Path) -> dict[str, measure.Block]:
    """Blocks that count samples, in random order, on one thread."""
    write_libero(folder)
    source = oxe.chunks(folder, "libero")
    rng = np.random.default_rng(0)

    def read(images: bool) -> int:
        indices = rng.integers(0, len(source), 32)
        return len(source.batch(indices, images)["prompt"])

    return {"rlds": lambda: read(True), "rlds without images": lambda: read(False)}


def loader() -> dict[str, measure.Block]:
    """Blocks that count samples; the transform pads sentences of bytes, which costs something."""
    source = ArraySource(reach.generate(0, 4096, 50, images=True))

    def transform(batch: dict[str, Any], indices: np.ndarray) -> dict[str, Any]:
        tokens = np.zeros((len(indices), 64), np.uint8)
        for row, prompt in zip(tokens, batch["prompt"]):
            row[: len(prompt)] = np.frombuffer(prompt.encode(), np.uint8)
        return {"tokens": tokens, "state": batch["state"], "actions": batch["actions"]}

    def take(cached: bool) -> measure.Block:
        it = Loader(source, transform, 64, 0, cache_tokens=cached)
        return lambda: sum(len(next(it)["tokens"]) for _ in range(100))

    return {"loader": take(False), "loader, tokens kept": take(True)}


def server(port: int, clients: int, turns: int) -> measure.Block:
    """A block that counts answers to observations with one picture of 224 x 224."""
    observation = {"image": np.zeros((224, 224, 3), np.uint8), "state": np.zeros(8, np.float32)}

    def talk() -> None:
        with Client(port=port) as client:
            for _ in range(turns):
                client.infer(observation)

    def block() -> int:
        threads = [threading.Thread(target=talk) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return clients * turns

    return block


def blocks(folder: Path, port: int) -> Iterator[dict[str, measure.Block]]:
    """What is measured, in groups that take turns."""
    yield made()
    yield checksum()
    yield rlds(folder)
    yield loader()
    yield {"server, 1 client": server(port, 1, 50), "server, 32 clients": server(port, 32, 10)}


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, write `loader_<backend>.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--out", type=Path, default=online.RESULTS, help="folder of the JSON")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"machine": measure.machine(), "quick": options.quick}
    chunk = np.zeros((50, 7), np.float32)

    def policy(observations: list[Any]) -> list[Any]:
        return [{"actions": chunk}] * len(observations)

    with tempfile.TemporaryDirectory() as folder, background(policy, Options(port=0)) as port:
        start = time.perf_counter()
        for group in blocks(Path(folder), port):
            samples = measure.alternate(group, 3 if options.quick else 7)
            figures = {name: measure.summary(samples[name]) for name in group}
            online.show(
                next(iter(group)), [Line(f"{n}, per s", f["per_s"]) for n, f in figures.items()]
            )
            found |= figures
    found["wall_s"] = time.perf_counter() - start
    path = options.out / f"loader_{found['machine']['backend']}.json"
    files.write_json(path, found)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
