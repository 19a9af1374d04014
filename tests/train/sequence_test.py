"""Sequence runs: resume, order of data, meshes, and what stops them."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import vla_runs as toys
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from configs import vla as vla_config
from experiments import vla, vla_result
from experiments.vla_session import session
from rlx.data.loader import shuffled
from rlx.infra import checkpoint
from rlx.infra.errors import ConfigError, NaNError
from rlx.infra.logging import Run
from rlx.infra.sharding import fsdp_specs
from rlx.train import sequence_checks
from rlx.train.feed import Resident
from rlx.train.sequence_pack import AHEAD, near_assets, same_assets


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, toys.train(toys.config(), folder)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()[1:]
    timed = ("wall_s", "time/")
    return [{k: v for k, v in json.loads(x).items() if not k.startswith(timed)} for x in lines]


def same_params(one, other, **tolerance):
    trees = [checkpoint.read_params(folder)["params"] for folder in (one, other)]
    if not tolerance:
        jax.tree.map(np.testing.assert_array_equal, *trees)
    else:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), *trees)


class StopAfter(list):
    """A stop that is asked for when the run looks for the n-th time: it looks once per chunk."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def __iter__(self):
        self.looks -= 1
        if self.looks == 0:
            self.append("preempted")
        return super().__iter__()


def test_stopped_in_the_middle_of_an_epoch_and_resumed_is_undisturbed(tmp_path, undisturbed):
    config = toys.config()  # five batches of 8 per epoch
    facts = toys.train(config, tmp_path, StopAfter(4))
    assert facts["status"] == "preempted" and facts["grad_steps"] % 5 and facts["grad_steps"] < 12
    assert toys.train(config, tmp_path)["status"] == "done"
    assert rows(tmp_path) == rows(undisturbed[0])
    same_params(tmp_path, undisturbed[0])


def test_a_loader_and_rows_on_the_devices_teach_the_same(tmp_path, undisturbed):
    toys.train(toys.config(data__resident=False), tmp_path)
    same_params(tmp_path, undisturbed[0], rtol=0, atol=1e-6)


def test_a_fast_loader_does_not_fill_the_devices(tmp_path):
    """Batches that lie on the devices while the next ones are asked for, counted there."""
    own = toys.config(data__resident=False, train__steps=40, train__log_every=40)
    own.update_from_flattened_dict({"train.eval_every": 40, "checkpoint.every_steps": None})
    with session(own, toys.problem(own)) as opened:
        shape, take, seen = opened.feed.batch.tokens.shape, opened.feed.take, []

        def counted(step, count):
            held = {(opened.feed.per_call, *shape)}
            seen.append(sum(x.shape in held and x.dtype == np.int32 for x in jax.live_arrays()))
            return take(step, count)

        opened.feed.take = counted
        runs = [Run("s0", 0)]
        assert opened.run(own, sequence_checks.plan(own), runs, tmp_path, [])["grad_steps"] == 40
    assert len(seen) >= 10 and 0 < max(seen) <= 2 * (AHEAD + 1)  # tokens and segment of each


def test_an_epoch_has_every_sample_once_and_depends_on_the_seed():
    taken = Resident({"x": np.arange(40)}, 8, seed=3, per_call=8).take(3, 7)
    order = np.concatenate([shuffled(40, 3, 0), shuffled(40, 3, 1)]).reshape(10, 8)
    np.testing.assert_array_equal(taken[:7], order[3:])
    assert not taken[7:].any()
    with pytest.raises(ValueError, match="batch_size is 64, but there are 40 samples"):
        Resident({"x": np.arange(40)}, 64, seed=0)


def test_evaluation_measures_actions_and_success(undisturbed):
    last = undisturbed[1]["evals"][-1]
    assert {"loss", "action_mse", "invalid", "tokens", "success", "expert_mse"} <= last.keys()
    assert last["invalid"] == [0.0]  # constrained decoding, whatever the model


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = toys.config(learner__lr=1e30, train__log_every=4, learner__warmup_steps=0)
    with pytest.raises(NaNError, match=r"not finite between step .* last good checkpoint"):
        toys.train(config, tmp_path)


def test_large_arrays_are_cut_along_an_axis_that_divides_and_layers_are_kept():
    mesh = AbstractMesh((1, 2, 4), ("run", "data", "fsdp"))
    shape = lambda *axes: jax.ShapeDtypeStruct(axes, np.float32)  # noqa: E731
    tree = {
        "table": shape(1024, 1024),
        "layers": shape(1024, 64, 128),
        "odd": shape(1023, 1027),
        "small": shape(8, 8),
        "bias": shape(1 << 22),
    }
    assert fsdp_specs(tree, mesh, 1 << 20) == {
        "table": P("fsdp", None),
        "layers": P(None, None, "fsdp"),
        "odd": P(),
        "small": P(),
        "bias": P(),
    }


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train__steps": 0}, "train.steps is a whole number >= 1, got 0"),
        ({"train__tokens": 0}, "train.tokens is a whole number >= 1, got 0"),
        ({"learner__batch_size": 9}, "learner.batch_size = 9 is not divisible by mesh.shards = 8"),
        ({"learner__accumulate": 2}, "learner.batch_size = 8 is not divisible by .*accumulate = 2"),
        ({"eval__episodes": 12}, "eval.episodes = 12 is not divisible"),
        ({"mesh__fsdp": 0}, "mesh.fsdp is a whole number >= 1, or -1, got 0"),
        ({"mesh__data": 3}, "mesh.shards = 8 is not a multiple of the 3 devices"),
    ],
)
def test_bad_numbers_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        sequence_checks.check(toys.config(**changes))


def test_a_length_in_tokens_is_equal_work_for_every_tokenizer(tmp_path, capsys):
    flags = ["--smoke", "--tokenizer=fast,bins", "--config.train.tokens=40000"]
    assert vla.main([*flags, "--dry_run", f"--workdir={tmp_path}"]) == 0
    fast, bins = json.loads(capsys.readouterr().out)
    assert fast["sequence"] < bins["sequence"]
    assert 0 < fast["parameters"] < bins["parameters"]  # which say more words
    for plan in (fast, bins):
        assert 40_000 - 8 * plan["sequence"] < plan["steps"] * 8 * plan["sequence"] <= 40_000
    with pytest.raises(ConfigError, match=r"train.tokens and train.steps are both given"):
        vla.main([*flags, "--dry_run", "--steps=7", f"--workdir={tmp_path}"])


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--lr=-1", "learner.lr is a number >= 0, got -1"),
        ("--head=floww", "learner.head is one of tokens, flow, both, got 'floww'"),
        ("--config.learner.dtype=float13", "learner.dtype is one of float32, bfloat16"),
        ("--config.data.delta=1,1,0", "data.delta is for recorded data"),
        ("--config.data.horizon=3", "data.horizon is for recorded data"),
        ("--config.data.prompt_room=-1", "data.prompt_room is a whole number >= 0, got -1"),
        ("--config.data.scale=-1", "scale is a number > 0, got -1"),
    ],
)
def test_what_no_learner_can_be_is_refused_before_any_run(tmp_path, flag, text):
    for more in ([], ["--dry_run"]):
        with pytest.raises(ValueError, match=text):
            vla.main(["--smoke", flag, *more, f"--workdir={tmp_path / 'w'}"])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("flags", "decay"),
    [
        ((), 6),
        (("--steps=9",), 9),
        (("--steps=9", "--config.learner.decay_steps=4"), 4),
        (("--config.train.tokens=4000", "--config.learner.decay_steps=4"), 4),
    ],
)
def test_a_cosine_ends_with_the_run_unless_told_otherwise(flags, decay, monkeypatch):
    seen = []
    monkeypatch.setattr(vla_result, "describe", lambda entry, problem: seen.append(entry.config))
    assert vla.main(["--smoke", *flags, "--dry_run"]) == 0
    (config,) = seen
    assert config.learner.decay_steps == decay


@pytest.mark.parametrize(
    ("options", "steps", "lr"),
    [
        ("head=flow", 3_000, 1e-3),
        ("head=flow,size=small", 20_000, 3e-4),
        ("head=flow,size=base", 40_000, 5e-5),
        ("demo,lora", 1_500, 2.5e-4),
    ],
)
def test_sizes_keep_their_length_and_low_rank_its_rate(options, steps, lr):
    config = vla_config.get_config(options)
    assert (config.train.steps, config.learner.lr) == (steps, lr)


def test_the_command_line_trains_resumes_and_refuses(tmp_path, capsys):
    flags = ["--smoke", f"--workdir={tmp_path / 'w'}", "--tokenizer=fast,bins", "--steps=4"]
    assert vla.main(flags) == 0
    assert (tmp_path / "w" / "compare.png").exists()
    assert "fast" in (tmp_path / "w" / "compare.csv").read_text()
    capsys.readouterr()
    assert vla.main(flags) == 0
    assert capsys.readouterr().out.count("finished before, skipped") == 2
    with pytest.raises(ValueError, match="unknown tokenizer 'fastt'"):
        vla.main(["--smoke", "--tokenizer=fastt", "--dry_run"])
    with pytest.raises(ConfigError, match="task"):
        vla.main(["--smoke", "--task=rech", "--dry_run"])


MESHES = """
import sys
sys.path += ["tests", "tests/train"]
from pathlib import Path
import vla_runs as toys
from sequence_test import StopAfter
for data, fsdp in {meshes}:
    config = toys.config(
        mesh__data=data, mesh__fsdp=fsdp, mesh__min_bytes=1, train__steps=5, train__eval_every=5,
        train__log_every=5, eval__episodes=8)
    folder = Path({folder!r}) / f"{{data}}x{{fsdp}}"
    if {stop} and fsdp > 1:
        assert toys.train(config, folder, StopAfter(2))["status"] == "preempted"
    facts = toys.train(config, folder)
    assert (facts["cut"] > 20) == (fsdp > 1), facts["cut"]
"""


@pytest.mark.parametrize(
    ("meshes", "stop"),
    [
        (((1, 1), (2, 4)), False),
        pytest.param(((1, 1), (8, 1), (2, 4), (1, 8)), True, marks=pytest.mark.slow),
    ],
)
def test_any_mesh_learns_the_same(meshes, stop, tmp_path, run_python):
    code = MESHES.format(meshes=meshes, folder=str(tmp_path), stop=stop)
    run_python(code, devices=8, timeout=900)
    first = tmp_path / "1x1"
    for data, fsdp in meshes[1:]:
        other = tmp_path / f"{data}x{fsdp}"
        same_params(first, other, rtol=1e-5, atol=2e-6)
        for a, b in zip(rows(first), rows(other), strict=True):
            np.testing.assert_allclose(a["train/loss"], b["train/loss"], rtol=1e-5)


def test_other_tokens_are_noticed(undisturbed, capsys):
    folder, assets = undisturbed[0], checkpoint.read_assets(undisturbed[0])
    same_assets(folder, assets)
    near_assets(folder, assets)
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"was trained with other norm_stats, tokenizer than"):
        same_assets(folder, assets | {"tokenizer": {}, "norm_stats": {}})
    with pytest.raises(ConfigError, match=r"normalised by quantile, this run has zscore"):
        near_assets(folder, assets | {"norm_mode": "zscore"})
    near_assets(folder, assets | {"tokenizer": {}, "learner": {}})
    assert "was trained with other tokenizer: tokens" in capsys.readouterr().err
