"""LeRobot: sets of both layouts, written here, come back exactly from a lossless codec (H.264 in
RGB at crf 0), and within a tolerance from AV1.
"""

from __future__ import annotations

import json
import sys

import lerobot_sets
import numpy as np
import pytest

from rlx.data import lerobot
from rlx.data.chunks import ChunkSource

FPS = 10
LENGTHS = (5, 3, 7, 4)


def smooth_frames(rng, n):
    """Colour ramps that move: videos compress them well, and every frame differs."""
    y, x = np.mgrid[0:48, 0:64]
    phase = rng.uniform(0, 255) + 20 * np.arange(n)
    ramp = (2 * x + y)[None] + phase[:, None, None]
    return np.stack([ramp % 200, (ramp * 0.5) % 200, np.full_like(ramp, 60)], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def recorded():
    rng = np.random.default_rng(0)
    return [
        lerobot_sets.Recorded(
            state=rng.normal(size=(n, 3)).astype(np.float32),
            action=rng.normal(size=(n, 2)).astype(np.float32),
            top=smooth_frames(rng, n),
            wrist=rng.integers(0, 256, (n, 4, 6, 3), np.uint8),
            tasks=[f"task {e % 3}" if t < 3 else "then another" for t in range(n)],
        )
        for e, n in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module", params=["v2.1", "v3.0"])
def folder(request, recorded, tmp_path_factory):
    write = lerobot_sets.write_v2 if request.param == "v2.1" else lerobot_sets.write_v3
    return write(tmp_path_factory.mktemp("lerobot") / request.param, recorded, FPS)


def test_all_comes_back_exactly_in_any_order(folder, recorded):
    store = lerobot.Store(folder)
    assert store.lengths.tolist() == list(LENGTHS)
    assert store.fps == FPS
    for number in (2, 0, 3, 1):
        episode, wrote = store[number], recorded[number]
        np.testing.assert_array_equal(episode.state, wrote.state)
        np.testing.assert_array_equal(episode.actions, wrote.action)
        assert [list(sentences) for sentences in episode.prompts] == [wrote.tasks]
        assert set(episode.images) == {"top", "wrist"}
        for step in reversed(range(len(wrote.action))):
            np.testing.assert_array_equal(episode.images["top"][step], wrote.top[step])
            np.testing.assert_array_equal(episode.images["wrist"][step], wrote.wrist[step])
    assert "tensorflow" not in sys.modules
    assert "torch" not in sys.modules


def test_chunks_stay_in_their_episode(folder, recorded):
    store = lerobot.Store(folder, cameras={"base": lerobot_sets.VIDEO})
    source = ChunkSource(store, horizon=4, image_size=(24, 32))
    assert len(source) == sum(LENGTHS)
    batch = source.batch(np.array([4, 5, 18]))
    assert list(zip(batch["episode"], batch["step"])) == [(0, 4), (1, 0), (3, 3)]
    np.testing.assert_array_equal(batch["actions"][0], np.tile(recorded[0].action[4], (4, 1)))
    rows = [0, 1, 2, 2]  # three steps, the last one again
    np.testing.assert_array_equal(batch["actions"][1], recorded[1].action[rows])
    assert batch["prompt"] == ["then another", "task 1", "then another"]
    assert set(batch["images"]) == {"base"}
    assert batch["images"]["base"].shape == (3, 24, 32, 3)


def test_av1_comes_back_within_a_tolerance(recorded, tmp_path):
    folder = lerobot_sets.write_v3(tmp_path / "av1", recorded, FPS, lerobot_sets.AV1)
    store = lerobot.Store(folder)
    for number in (1, 2):
        for step, want in enumerate(recorded[number].top):
            frame = store[number].images["top"][step].astype(int)
            errors = [np.abs(frame - other).mean() for other in recorded[number].top.astype(int)]
            assert np.argmin(errors) == step  # the right frame, and
            assert errors[step] < 8  # of 255, near to what was recorded
            assert frame.shape == want.shape


def test_a_time_without_a_frame_is_named(folder):
    frames = lerobot.Store(folder)[3].images["top"]
    late = lerobot.Frames(frames._path, np.array([99.0]), 0.05)
    with pytest.raises(ValueError, match=r"mp4 has no frame within 0.05 s of 99.0000 s"):
        late[0]


def edit_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bad_input(recorded, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no meta/info.json"):
        lerobot.Store(tmp_path)
    folder = lerobot_sets.write_v2(tmp_path / "set", recorded[:2], FPS)
    with pytest.raises(ValueError, match=r"no feature 'state'; it has observation.state, action"):
        lerobot.Store(folder, state="state")
    lines = (folder / "meta/episodes.jsonl").read_text().splitlines()
    (folder / "meta/episodes.jsonl").write_text(lines[1])
    with pytest.raises(ValueError, match="lists episode 1 where episode 0 should be"):
        lerobot.Store(folder)
    shorter = json.loads(lines[0]) | {"length": 4}
    (folder / "meta/episodes.jsonl").write_text(json.dumps(shorter))
    with pytest.raises(ValueError, match=r"000000.parquet has 5 rows of episode 0, expected 4"):
        lerobot.Store(folder)[0]
    edit_info(folder, codebase_version="v1.6")
    with pytest.raises(ValueError, match=r"one of v2.0, v2.1, v3.0, got v1.6"):
        lerobot.Store(folder)
