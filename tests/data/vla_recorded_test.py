"""Recorded data in `experiments.vla`: what is held out, rates, sizes; no frozen randomness."""

from __future__ import annotations

import jax
import lerobot_sets
import numpy as np
import pytest
import vla_runs as toys

from experiments import vla_recorded, vla_result
from experiments.vla_data import feed, load
from experiments.vla_session import session
from rlx.infra import runtime
from rlx.infra.errors import ConfigError


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return written(tmp_path_factory.mktemp("set") / "lerobot", 5)


def written(folder, hz, state=3):
    rng = np.random.default_rng(hz)
    episodes = [
        lerobot_sets.Recorded(
            rng.standard_normal((12, state)).astype(np.float32),
            rng.standard_normal((12, 2)).astype(np.float32).cumsum(0),
            rng.integers(0, 255, (12, 16, 16, 3), np.uint8),
            rng.integers(0, 255, (12, 16, 16, 3), np.uint8),
            ["lift the cube"] * 12,
        )
        for _ in range(4)
    ]
    return lerobot_sets.write_v3(folder, episodes, hz)


def config(recorded, **changes):
    given = {"data__path": str(recorded), "data__hz": 5, "data__image_size": 32}
    return toys.config(**given | changes)


def test_no_held_out_episode_is_trained_on(recorded):
    source, test = vla_recorded.read(config(recorded), 5)
    trained = {source.batch(np.array([i]), images=False)["episode"][0] for i in range(len(source))}
    assert set(test["episode"]) == {3} and trained == {0, 1, 2}
    assert len(test["prompt"]) == 8 and test["images"]["top"].shape == (8, 32, 32, 3)


def test_batches_of_recorded_data_have_all_that_the_model_wants(recorded):
    own = config(recorded, data__delta=(1, 0), data__resident=False)
    problem = load(own, 5, "bins")
    assert problem.spec.action.shape == (5, 2) and problem.prefix >= 16
    batches = feed(own, problem)
    first = batches.take(0, 1)
    batches.close()
    assert first.images["wrist"].shape == (4, 8, 32, 32, 3)
    assert first.extras["actions"].shape == (4, 8, 5, 2)


def test_a_mixture_of_rates_draws_by_weight_and_holds_out_of_each(recorded, tmp_path):
    both = f"{recorded},{written(tmp_path / 'fast', 10)}"
    changes = {"data__horizon": 4, "data__weights": (1.0, 0.25), "data__resident": False}
    own = config(both, **changes, eval__episodes=24)
    problem = load(own, 5, "bins")
    assert len(problem.source) == 36 + 9 and problem.spec.action.shape == (4, 2)
    assert {"top", "wrist"} <= problem.spec.obs.keys() and len(problem.test["prompt"]) == 24
    found = []
    for cached in (False, True):
        own.data.cache_tokens = cached
        batches = feed(own, problem)
        found.append([batches.take(k, 1) for k in range(6)])
        batches.close()
    for one, other in zip(*found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data__resident": False}, r"is of 10 Hz: --hz=10, or, for a mixture of rates"),
        ({"data__horizon": 4}, "a mixture is handed over by a loader: --config.data.resident=fal"),
        ({"eval__mujoco": True}, "eval.mujoco plays the made tasks"),
        ({"data__weights": (1.0,)}, "data.weights has 1 entries for 2 data sets"),
        ({"data__format": "lerobot,bridge,droid"}, "data.format has 3 entries for 2 data sets"),
    ],
)
def test_bad_mixtures(recorded, tmp_path, changes, says):
    both = f"{recorded},{written(tmp_path / 'fast', 10)}"
    with pytest.raises(ConfigError, match=says):
        vla_recorded.read(config(both, **changes), 5)


def test_the_sets_of_a_mixture_have_one_shape(recorded, tmp_path):
    both = f"{recorded},{written(tmp_path / 'wide', 5, state=4)}"
    with pytest.raises(ConfigError, match=r"the sets of a mixture have as many state, got .*: 4"):
        vla_recorded.read(config(both, data__resident=False), 5)


def test_bad_settings_of_recorded_data(recorded, monkeypatch):
    with pytest.raises(ConfigError, match=r"data.hz = 50, but .* is of 5 Hz: --hz=5"):
        vla_recorded.read(config(recorded), 50)
    with pytest.raises(ConfigError, match=r"held-out samples, mesh.shards = 16"):
        vla_recorded.read(config(recorded, mesh__shards=16), 5)
    monkeypatch.setattr(runtime, "device_bytes", lambda: 1000)
    own = config(recorded)
    with pytest.raises(ConfigError, match=r"data.resident = True puts"):
        feed(own, load(own, 5, "bins"))


def test_a_random_network_is_not_frozen():
    own = toys.config(learner__freeze="llm", learner__learn="lora", learner__lora_rank=2)
    own.tag = "micro"
    with pytest.raises(ConfigError, match=r"learner.freeze = 'llm' keeps parameters as they begin"):
        session(own, None)


def test_runs_on_recorded_data_are_named_after_its_folders():
    own = config("recordings/kitchen,recordings/lab/")
    assert vla_result.data_name(own) == "kitchen_lab"
    own.data.path = None
    assert vla_result.data_name(own) == own.env.name == "reach"
