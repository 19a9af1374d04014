"""The order of batches is that of the seed, whatever threads, processes and interruptions do."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest

from rlx.data.chunks import ArraySource
from rlx.data.loader import Loader, Mixture, shuffled


def source(samples=23, images=False, width=2):
    arrays = {
        "state": np.arange(samples * width).reshape(samples, width),
        "actions": np.arange(samples * 6).reshape(samples, 3, 2),
        "prompt": [f"prompt {i}" for i in range(samples)],
    }
    if images:
        arrays["images"] = {"base": np.arange(samples * 12).reshape(samples, 2, 2, 3) % 256}
    return ArraySource(arrays)


def index_of(batch, indices):
    """A transform that takes an irregular time."""
    time.sleep(0.002 * (int(indices[0]) % 3))
    return {"index": indices.copy(), "state": batch["state"]}


def take(loader, count):
    return np.stack([next(loader)["index"] for _ in range(count)])


def wanted(count, seed=7, samples=23, batch=4):
    """The first batches, from the promise: one permutation per epoch, the rest left out."""
    out = []
    for epoch in range(count):
        order = np.random.default_rng((seed, epoch)).permutation(samples)
        out += [order[i : i + batch] for i in range(0, samples - batch + 1, batch)]
    return np.stack(out[:count])


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("prefetch", [0, 1, 9])
def test_the_order_is_that_of_the_seed_whatever_the_threads(workers, prefetch):
    with Loader(source(), index_of, 4, 7, workers=workers, prefetch=prefetch) as loader:
        np.testing.assert_array_equal(take(loader, 13), wanted(13))


def test_processes_share_every_batch():
    parts = []
    for process in range(2):
        with Loader(source(), index_of, 4, 7, process, 2) as loader:
            parts.append(take(loader, 7))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), wanted(7))


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 6, 11])
def test_stopped_and_restored_anywhere_it_goes_on_as_if_nothing_was(stop):
    with Loader(source(), index_of, 4, 7, prefetch=3) as loader:
        for _ in range(stop):
            next(loader)
        state = json.loads(json.dumps(loader.state()))  # as the checkpoint keeps it
    with Loader(source(), index_of, 4, 7, prefetch=1, workers=3) as loader:
        loader.restore(state)
        assert loader.state() == state
        np.testing.assert_array_equal(take(loader, 9), wanted(stop + 9)[stop:])


def test_state_is_the_place_of_the_batch_handed_out_last():
    with Loader(source(), index_of, 4, 7) as loader:
        assert loader.state() == {"epoch": 0, "index": -1}
        places = []
        for _ in range(7):
            next(loader)
            places.append(tuple(loader.state().values()))
    assert places == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]


def test_killed_and_resumed_in_another_process(run_python):
    """A process that dies in mid-flight; another reads the state that it had written."""
    code = """
import json, os, sys
import numpy as np
from rlx.data.chunks import ArraySource
from rlx.data.loader import Loader
arrays = dict(state=np.zeros((23, 1)), actions=np.zeros((23, 1, 1)), prompt=[""] * 23)
loader = Loader(ArraySource(arrays), lambda batch, indices: dict(index=indices), 4, 7)
if {state} is not None:
    loader.restore({state})
got = [next(loader)["index"].tolist() for _ in range({count})]
print(json.dumps([got, loader.state()]), flush=True)
os._exit(0)
"""
    first, state = json.loads(run_python(code.format(state=None, count=4)).stdout)
    second, _ = json.loads(run_python(code.format(state=state, count=5)).stdout)
    np.testing.assert_array_equal(first + second, wanted(9))


@pytest.mark.parametrize(
    ("state", "says"),
    [({"epoch": 0, "index": 5}, "5 batches per epoch"), ({"epoch": -1, "index": 0}, "go on after")],
)
def test_a_state_of_another_loader_is_refused(state, says):
    with Loader(source(), index_of, 4, 7) as loader, pytest.raises(ValueError, match=says):
        loader.restore(state)


def test_an_exception_in_a_thread_names_the_samples_and_the_batch_can_be_tried_again():
    broken = [True]

    def transform(batch, indices):
        if broken[0] and 3 in indices:
            raise ZeroDivisionError("no such token")
        return {"index": indices}

    where = int(np.flatnonzero((wanted(5) == 3).any(1))[0])
    with Loader(source(), transform, 4, 7, prefetch=4, workers=3) as loader:
        for _ in range(where):
            next(loader)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"samples \[.*\b3\b.*ZeroDivisionError: no suc"):
                next(loader)
        broken[0] = False
        np.testing.assert_array_equal(take(loader, 3), wanted(where + 3)[where:])


def test_threads_end_with_the_loader_even_in_mid_batch():
    before = set(threading.enumerate())
    with Loader(source(), lambda b, i: (time.sleep(0.05), {"index": i})[1], 4, 7, workers=4) as it:
        next(it)
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before


def test_no_more_batches_are_prepared_than_asked_for():
    started = []

    def transform(batch, indices):
        started.append(indices)
        return {"index": indices}

    with Loader(source(), transform, 4, 7, prefetch=2, workers=2) as loader:
        next(loader)
        time.sleep(0.1)
        assert len(started) == 3


def test_tokens_are_computed_once_and_kept_by_index():
    seen = Counter()

    def transform(batch, indices):
        assert "images" not in batch
        seen.update(indices.tolist())
        lengths = [len(prompt) for prompt in batch["prompt"]]
        return {"tokens": np.array(lengths), "index": indices, "state": batch["state"]}

    data = source(images=True)
    with Loader(data, transform, 4, 7, cache_tokens=True) as loader:
        for indices in wanted(11):
            batch = next(loader)
            np.testing.assert_array_equal(batch["index"], indices)
            np.testing.assert_array_equal(batch["tokens"], [7 + len(str(i)) for i in indices])
            raw = data.batch(indices)
            np.testing.assert_array_equal(batch["images"]["base"], raw["images"]["base"])
            assert batch["image_mask"]["base"].all()
    assert seen == Counter(range(23))
    with Loader(source(), lambda b, i: {"i": i}, 4, 7, cache_tokens=True) as loader:
        assert set(next(loader)) == {"i"}  # a source without images


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batch_size": 0}, "batch_size is a whole number >= 1, got 0"),
        ({"batch_size": 24}, "batch_size is 24, but the source has 23 samples"),
        ({"process_count": 3}, "batch_size 4 cannot be shared by 3 processes"),
        ({"process_index": 2, "process_count": 2}, "process_index is 0 to 1, got 2"),
        ({"workers": 0}, "workers is a whole number >= 1, got 0"),
        ({"prefetch": -1}, "prefetch is a whole number >= 0, got -1"),
    ],
)
def test_bad_arguments(arguments, says):
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match=says):
        Loader(source(), index_of, **{"batch_size": 4, "seed": 0, **arguments})
    assert set(threading.enumerate()) <= before


def test_a_mixture_draws_by_weight_times_size_and_uses_all_before_any_again():
    mixture = Mixture([source(20), source(10), source(30)], [1.0, 0.5, 0.1])
    assert len(mixture) == 20 + 5 + 3
    drawn = [mixture.order(5, epoch) for epoch in range(10)]
    for order in drawn:
        counts = [((order >= low) & (order < high)).sum() for low, high in ((0, 20), (20, 30))]
        assert counts == [20, 5]
    for first in range(0, 10, 2):
        pair = np.concatenate(drawn[first : first + 2])
        assert sorted(pair[(pair >= 20) & (pair < 30)]) == list(range(20, 30))
    rare = np.concatenate(drawn)
    assert sorted(rare[rare >= 30]) == list(range(30, 60))
    np.testing.assert_array_equal(drawn[3], mixture.order(5, 3))
    assert (drawn[3] != mixture.order(6, 3)).any()
    assert (drawn[0] != np.sort(drawn[0])).any()


def test_a_mixture_through_the_loader_resumes_and_fills_cameras():
    mixture = Mixture([source(8, images=True), source(8)], [1.0, 1.0])

    def transform(batch, indices):
        return {"index": indices, "mask": batch["image_mask"]["base"], "state": batch["state"]}

    with Loader(mixture, transform, 6, 1) as loader:
        batches = [next(loader) for _ in range(5)]
        state = loader.state()
        after = next(loader)["index"]
    for batch in batches:
        np.testing.assert_array_equal(batch["mask"], batch["index"] < 8)
        np.testing.assert_array_equal(batch["state"][:, 0], 2 * (batch["index"] % 8))
    with Loader(mixture, transform, 6, 1) as loader:
        loader.restore(state)
        np.testing.assert_array_equal(next(loader)["index"], after)


def test_a_batch_of_a_mixture_has_every_camera_whatever_is_in_it():
    mixture = Mixture([source(8, images=True), source(8)], [1.0, 1.0])
    alone = mixture.batch(np.arange(8, 12))
    assert not alone["image_mask"]["base"].any() and not alone["images"]["base"].any()
    assert alone["images"]["base"].shape == (4, 2, 2, 3)


def test_cached_tokens_of_a_mixture_whose_epochs_are_shorter_than_its_sources():
    mixture = Mixture([source(8), source(20)], [1.0, 0.1])
    assert len(mixture) == 10 and mixture.samples == 28
    transform = lambda batch, i: {"index": i, "state": batch["state"]}  # noqa: E731
    with Loader(mixture, transform, 5, 1, cache_tokens=True) as loader:
        batches = [next(loader) for _ in range(20)]
    assert max(batch["index"].max() for batch in batches) > 10
    for batch in batches:
        own = np.where(batch["index"] < 8, batch["index"], batch["index"] - 8)
        np.testing.assert_array_equal(batch["state"][:, 0], 2 * own)


def test_bad_mixtures():
    with pytest.raises(ValueError, match="one weight > 0 per source, got 1 sources"):
        Mixture([source()], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"weights \[0.0\]"):
        Mixture([source()], [0.0])
    mixture = Mixture([source(4), source(4, width=3)], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"differ in the shape of state: .*source 1': \(3,\)"):
        mixture.batch(np.arange(8))


def test_permutations_differ_by_each_number_of_the_seed():
    assert sorted(shuffled(50, 1, 2)) == list(range(50))
    orders = {tuple(shuffled(50, *seed)) for seed in ((1, 2), (2, 1), (1, 3), (1, 2, 0, 1))}
    assert len(orders) == 4
