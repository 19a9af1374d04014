"""A trained vision-language-action model as a served policy: answers, refusals, MuJoCo."""

from __future__ import annotations

import numpy as np
import pytest
import vla_toys as toys

from experiments import vla_served
from rlx.infra import checkpoint
from rlx.infra.errors import ConfigError
from rlx.serve import vla
from rlx.serve.batching import BadObservation
from rlx.serve.client import Client
from rlx.serve.server import background


@pytest.fixture(scope="module", params=["text", "numbers"])
def trained(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("trained")
    config = toys.config(
        train__steps=2, train__eval_every=2, train__log_every=2, learner__state_input=request.param
    )
    toys.train(config, folder)
    return folder, toys.problem(config)


def observations(problem, count):
    test = problem.test
    return [{"prompt": test["prompt"][i], "state": test["state"][i]} for i in range(count)]


def test_answers_do_not_depend_on_who_else_asks(trained):
    folder, problem = trained
    served = vla.load(folder)
    asked = observations(problem, 4)
    together = served.policy(asked)
    for one, reply in zip(asked, together, strict=True):
        alone = served.policy([one])[0]
        np.testing.assert_allclose(alone["actions"], reply["actions"], atol=1e-5)
        assert reply["valid"] and reply["actions"].shape == problem.spec.action.shape
    assert served.policy([served.example])[0]["valid"]
    assert served.metadata["chunk"] == list(problem.spec.action.shape)


def test_what_is_missing_is_named(trained):
    served = vla.load(trained[0])
    with pytest.raises(BadObservation, match="the observation lacks prompt"):
        served.policy([{"state": np.zeros(6, np.float32)}])


def test_statistics_of_another_mode_are_refused(trained, monkeypatch):
    saved = checkpoint.read_assets(trained[0])
    monkeypatch.setattr(vla, "read_assets", lambda workdir: saved | {"norm_mode": "zscore"})
    with pytest.raises(ConfigError, match="normalised by zscore, its statistics are of quantile"):
        vla.load(trained[0])


@pytest.mark.slow
def test_a_client_plays_in_mujoco_what_the_policy_says(trained):
    served = vla.load(trained[0])
    with background(served.policy, metadata=served.metadata, example=served.example) as port:
        with Client(port=port) as client:
            found = vla_served.play(client, "reach", 5, 6, images=False)
    assert 0.0 <= found["success"] <= 1.0
    assert found["actions"].shape == (6, 5, 3) and np.isfinite(found["actions"]).all()
