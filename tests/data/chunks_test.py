"""Chunks against a loop in plain Python: borders, padding, differences, images, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.data.chunks import ArraySource, ChunkSource, Episode, ListStore

LENGTHS = (4, 1, 7)
HORIZON = 3


class Lazy:
    """Images that are made on access, and count how often."""

    def __init__(self, number, length):
        self.number, self.length, self.reads = number, length, []

    def __len__(self):
        return self.length

    def __getitem__(self, step):
        self.reads.append(step)
        return np.full((4, 6, 3), 10 * self.number + step, np.uint8)


def store(kept=None, cameras=("base",)):
    rng = np.random.default_rng(0)
    return ListStore(
        [
            Episode(
                state=rng.normal(size=(n, 3)),
                actions=rng.normal(size=(n, 2)),
                prompts=[[f"task {e}"] * n, [f"do {e}" if e == 2 else ""] * n],
                images={camera: Lazy(e, n) for camera in cameras},
            )
            for e, n in enumerate(LENGTHS)
        ],
        kept,
    )


def wanted(episode, step, zero_pad, delta):
    """The chunk, one number after the other."""
    out = np.zeros((HORIZON, 2))
    for t in range(HORIZON):
        for d in range(2):
            inside = step + t < len(episode.actions)
            if inside:
                out[t, d] = episode.actions[step + t, d]
            elif not zero_pad[d]:
                out[t, d] = episode.actions[-1, d]
            if delta[d]:
                out[t, d] -= episode.state[step, d]
    return out


@pytest.mark.parametrize("zero_pad", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("delta", [(False, False), (True, False)])
def test_every_step_begins_a_chunk_that_stays_in_its_episode(zero_pad, delta):
    data = store()
    source = ChunkSource(data, HORIZON, zero_pad=zero_pad, delta=delta)
    assert len(source) == sum(LENGTHS)
    indices = np.random.default_rng(1).permutation(len(source))
    batch = source.batch(indices)
    places = [(e, t) for e, n in enumerate(LENGTHS) for t in range(n)]
    for row, index in enumerate(indices):
        e, t = places[index]
        assert (batch["episode"][row], batch["step"][row]) == (e, t)
        np.testing.assert_allclose(
            batch["actions"][row], wanted(data[e], t, zero_pad, delta), atol=1e-6
        )
        np.testing.assert_allclose(batch["state"][row], data[e].state[t], atol=1e-6)
        np.testing.assert_array_equal(batch["images"]["base"][row], np.full((4, 6, 3), 10 * e + t))
        assert batch["prompt"][row] in {sentences[t] for sentences in data[e].prompts} - {""}
    assert batch["actions"].dtype == batch["state"].dtype == np.float32
    assert batch["image_mask"]["base"].all()


def test_a_mask_of_delta_shorter_than_the_actions_leaves_the_rest_absolute():
    source = ChunkSource(store(), HORIZON, delta=[True])
    np.testing.assert_allclose(
        source.batch(np.arange(12))["actions"],
        ChunkSource(store(), HORIZON, delta=[True, False]).batch(np.arange(12))["actions"],
    )


def test_only_kept_steps_begin_chunks_but_others_stay_inside_them():
    kept = [np.array([True, False, True, False]), np.zeros(1, bool), np.arange(7) == 6]
    source = ChunkSource(store(kept), HORIZON)
    batch = source.batch(np.arange(len(source)))
    assert list(zip(batch["episode"], batch["step"])) == [(0, 0), (0, 2), (2, 6)]
    np.testing.assert_allclose(batch["actions"][0], store()[0].actions[:3], atol=1e-6)


def test_alternative_sentences_take_turns_and_a_sample_always_has_the_same():
    source = ChunkSource(store(), HORIZON)
    first, again = (source.batch(np.arange(12))["prompt"] for _ in range(2))
    assert first == again
    assert set(first[5:]) == {"task 2", "do 2"}


def test_images_are_decoded_for_the_samples_alone_and_not_at_all_if_unwanted():
    data = store()
    source = ChunkSource(data, HORIZON)
    batch = source.batch(np.array([6, 8]), images=False)
    assert "images" not in batch and "image_mask" not in batch
    assert data[2].images["base"].reads == []
    source.batch(np.array([6, 8]))
    assert data[2].images["base"].reads == [1, 3]


def test_a_camera_that_an_episode_lacks_is_black_and_masked():
    data = store()
    data[1].images["wrist"] = Lazy(1, 1)
    batch = ChunkSource(data, HORIZON).batch(np.array([0, 4, 5]))
    assert batch["image_mask"]["wrist"].tolist() == [False, True, False]
    assert batch["images"]["wrist"][0].max() == 0
    assert batch["images"]["wrist"][1].min() == 10
    assert batch["image_mask"]["base"].all()


def test_images_are_fitted_into_the_size_asked_for():
    source = ChunkSource(store(), HORIZON, image_size=(8, 8))
    assert source.batch(np.arange(2))["images"]["base"].shape == (2, 8, 8, 3)


def test_images_of_two_sizes_ask_for_a_common_one():
    data = store()
    data[1].images["base"] = [np.zeros((5, 5, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"'base' have sizes .*give image_size"):
        ChunkSource(data, HORIZON).batch(np.arange(5))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ChunkSource(store(), 0), "horizon is a whole number >= 1, got 0"),
        (lambda: ChunkSource(ListStore([]), 2), "no step of 0 episodes"),
        (
            lambda: ChunkSource(store([np.zeros(n, bool) for n in LENGTHS]), 2),
            "no step of 3 episodes",
        ),
        (
            lambda: ChunkSource(store(), 2, zero_pad=[True]).batch(np.arange(2)),
            r"zero_pad has one entry per action dimension \(2\), got 1",
        ),
        (
            lambda: ChunkSource(store(), 2, delta=[True] * 3).batch(np.arange(2)),
            r"delta has at most one entry per action dimension \(2\), got 3",
        ),
        (
            lambda: ChunkSource(
                ListStore([Episode(np.zeros((2, 1)), np.zeros((2, 2)), [], {})]),
                2,
                delta=[False, True],
            ).batch(np.arange(2)),
            r"subtracts state\[1\] from actions, but the state of episode 0 has 1",
        ),
        (lambda: ArraySource({"state": np.zeros((2, 1))}), "lack actions, prompt"),
        (
            lambda: ArraySource(
                {"state": np.zeros((2, 1)), "actions": np.zeros((3, 2, 1)), "prompt": ["", ""]}
            ),
            "one and the same length",
        ),
        (
            lambda: ArraySource(
                {"state": np.zeros((2, 1)), "actions": np.zeros((2, 2)), "prompt": ["", ""]}
            ),
            r"actions are \[N, T, A\], got \(2, 1\) and \(2, 2\)",
        ),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_prompts_are_texts():
    arrays = {"state": np.zeros((2, 1)), "actions": np.zeros((2, 3, 1)), "prompt": ["", b"go"]}
    with pytest.raises(TypeError, match="the prompt of sample 1 is a str, got bytes"):
        ArraySource(arrays)
    episode = Episode(np.zeros((2, 1)), np.zeros((2, 1)), [["a", 3]], {})
    source = ChunkSource(ListStore([episode]), 2)
    assert source.batch(np.array([0]))["prompt"] == ["a"]
    with pytest.raises(TypeError, match="step 1 of episode 0 is a str, got int"):
        source.batch(np.array([1]))


def test_rows_of_arrays_are_samples():
    rng = np.random.default_rng(3)
    arrays = {
        "state": rng.normal(size=(5, 2)),
        "actions": rng.normal(size=(5, 4, 3)),
        "prompt": np.array([f"p{i}" for i in range(5)]),
        "images": {"base": rng.integers(0, 256, (5, 2, 2, 3), np.uint8)},
        "goal": rng.normal(size=(5, 2)),
    }
    source = ArraySource(arrays)
    index = np.array([3, 0, 3])
    batch = source.batch(index)
    assert len(source) == 5
    assert batch["prompt"] == ["p3", "p0", "p3"]
    np.testing.assert_array_equal(batch["images"]["base"], arrays["images"]["base"][index])
    np.testing.assert_allclose(batch["actions"], arrays["actions"][index], atol=1e-6)
    assert batch["image_mask"]["base"].tolist() == [True] * 3
    assert set(source.batch(index, images=False)) == {
        "state",
        "actions",
        "prompt",
        "episode",
        "step",
    }
