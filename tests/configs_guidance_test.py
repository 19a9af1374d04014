"""The config of `experiments.guidance`: its options, and that it survives JSON."""

from __future__ import annotations

import pytest

from configs.guidance import GPU, QUICK
from rlx.infra import config as configs


@pytest.mark.parametrize("option", ["", "quick", "gpu", "gpu,quick"])
def test_every_option_loads_locked_and_survives_json(option):
    config = configs.load(f"configs/guidance.py:{option}")
    assert config.is_locked
    assert configs.flatten(configs.from_json(configs.to_json(config))).keys() == (
        configs.flatten(config).keys()
    )
    flat = configs.flatten(config)
    layers = {"gpu": GPU, "quick": QUICK}  # the later one wins
    expected = {}
    for name in filter(None, option.split(",")):
        expected |= layers[name]
    for field, value in expected.items():
        assert flat[field] == value, field


def test_pre_training_counts_every_sample_alike():
    assert configs.load("configs/guidance.py").denoiser.learner.alpha == float("inf")
