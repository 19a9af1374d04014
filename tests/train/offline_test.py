"""Learning from data, going on online: resumed runs, packs, what batches hold, what is refused."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import offline_toys as toys
import pytest

from rlx import agents
from rlx.data.growing import append, empty
from rlx.data.rows import Windows, window
from rlx.infra import checkpoint
from rlx.infra.errors import ConfigError, NaNError
from rlx.ops.shards import pmean_if
from rlx.train import offline_checks
from rlx.train.clock import Clock, Decision
from rlx.train.offline_plan import OfflinePlan

ONLINE = {"train__online_steps": 30, "train__capacity": 40}


def rows_of(workdir, run: str = "") -> list[dict]:
    """Rows of a run without what the clock decides."""
    folder = workdir / "runs" / run if run else workdir
    lines = (folder / "metrics.jsonl").read_text().splitlines()[1:]
    rows = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time/")}
        for row in rows
    ]


def timeless(evals: list[dict]) -> list[dict]:
    return [{k: v for k, v in point.items() if k != "wall_s"} for point in evals]


def stop_at(monkeypatch, step: int) -> None:
    """Let the driver be told to stop once it has reached `step`."""
    decide = Clock.decide

    def decided(self, stop, now):
        found = decide(self, stop, now)
        return Decision("preempted", *found[1:]) if now >= step else found

    monkeypatch.setattr(Clock, "decide", decided)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("offline") / "run"
    config = toys.config(**ONLINE)
    facts, session = toys.train(config, workdir, seeds=(0, 1))
    assert facts["status"] == "done" and facts["grad_steps"] == 70
    assert session.programs.traces["learn"] == session.programs.traces["record"] == 1
    return workdir, facts


@pytest.mark.parametrize("step", [23, 40, 51])
def test_interrupted_in_any_phase_and_resumed_is_undisturbed(
    undisturbed, tmp_path, monkeypatch, step
):
    config = toys.config(**ONLINE)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        facts, _ = toys.train(config, tmp_path, seeds=(0, 1))
        assert facts["status"] == "preempted"
    facts, _ = toys.train(config, tmp_path, seeds=(0, 1))
    assert facts["status"] == "done"
    assert timeless(facts["evals"]) == timeless(undisturbed[1]["evals"])
    for run in ("s0", "s1"):
        assert rows_of(tmp_path, run) == rows_of(undisturbed[0], run)
    params = [checkpoint.read_params(folder) for folder in (tmp_path, undisturbed[0])]
    jax.tree.map(np.testing.assert_array_equal, *params)


def test_rows_hold_what_the_documentation_says(undisturbed):
    rows = rows_of(undisturbed[0], "s0")
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60, 70]
    assert [row["env_steps"] for row in rows] == [0, 0, 0, 0, 10, 20, 30]
    assert all(np.isfinite(row["train/critic_loss"]) for row in rows)
    evaluated = [row for row in rows if "eval/success" in row]
    assert [row["step"] for row in evaluated] == [20, 40, 60, 70]
    assert all(row["eval/score"] == 100 * row["eval/success"] for row in evaluated)
    assert all("val/loss" in row for row in evaluated)
    assert sum(row.get("train/episodes", 0) for row in rows) >= 1  # of 20 steps at most


def test_a_pack_equals_its_runs_alone(tmp_path):
    points = [{"alpha": 1.0}, {"alpha": 30.0}]
    config = toys.config(train__offline_steps=20, eval__episodes=0)
    toys.train(config, tmp_path / "pack", seeds=(0, 1), points=points)
    packed = checkpoint.read_params(tmp_path / "pack")
    for place, seed, alpha in ((1, 1, 1.0), (2, 0, 30.0)):
        alone = tmp_path / f"{place}"
        toys.train(config, alone, seeds=(seed,), points=[{"alpha": alpha}])
        for one, many in zip(
            jax.tree.leaves(checkpoint.read_params(alone)), jax.tree.leaves(packed), strict=True
        ):
            np.testing.assert_allclose(one[0], many[place], rtol=0, atol=1e-5)
    policies = packed["params"]["policy"]
    assert any(np.abs(leaf[0] - leaf[2]).max() > 1e-4 for leaf in jax.tree.leaves(policies))


def test_nan_freezes_one_run_and_stops_the_last(tmp_path, capsys):
    config = toys.config(train__offline_steps=30, eval__episodes=0)
    facts, _ = toys.train(config, tmp_path, points=[{"lr": 1e-3}, {"lr": 1e30}])
    assert list(facts["dead"]) == ["s0_lr1e+30"] and facts["status"] == "done"
    assert "it is frozen, the others go on" in capsys.readouterr().err
    params = checkpoint.read_params(tmp_path)["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    with pytest.raises(NaNError, match="not finite between step 1 and 2"):
        toys.train(config, tmp_path / "alone", points=[{"lr": 1e30}])


EVERY = [
    agent if agent in ("rebrac", "rlpd") else pytest.param(agent, marks=pytest.mark.slow)
    for agent in agents.OFFLINE
]


@pytest.mark.parametrize("agent", EVERY)
def test_every_learner_trains_in_chunks_and_goes_on_online(tmp_path, agent):
    fields = {"train__offline_steps": 4, "train__online_steps": 4, "data__chunk": 2}
    config = toys.config(agent, **fields, train__eval_every=8, train__log_every=4)
    small = {"flow_steps": 2, "diffusion_steps": 2, "samples": 3, "backup_samples": 2}
    config.learner.update({name: n for name, n in small.items() if name in config.learner})
    facts, _ = toys.train(config, tmp_path, seeds=(0, 1))
    assert facts["status"] == "done" and facts["grad_steps"] == 8 and not facts["dead"]
    assert all(0 <= success <= 1 for success in facts["evals"][-1]["success"])


def test_images_are_learned_from_and_collected_online(tmp_path):
    fields = {"data__frame_stack": 2, "data__crop": 0.5, "train__capacity": 12}
    config = toys.config(learner__encoder="impala_debug", train__online_steps=25, **fields)
    config.train.offline_steps, config.learner.flow_steps = 5, 2
    data = toys.dataset(images=True)
    facts, session = toys.train(config, tmp_path, data=data)
    assert facts["status"] == "done" and facts["grad_steps"] == 30 and not facts["dead"]
    assert session.data.obs.dtype == np.uint8 and session.data.obs.shape == (50, 2, 2, 3)
    ring = session.compiled.template.buffer.rows.obs
    assert ring.shape == (1, 12, 2, 2, 3) and ring.dtype == np.uint8  # frames, not stacks of them


def test_a_task_without_its_environment_trains_without_evaluation(tmp_path):
    data = toys.dataset()._replace(env="antmaze-large-play-v2")
    with pytest.raises(
        ConfigError, match=r"unknown environment 'antmaze-large-play-v2'.*episodes=0"
    ):
        toys.train(toys.config(), tmp_path, data=data)
    facts, _ = toys.train(toys.config(eval__episodes=0), tmp_path, data=data)
    assert facts["status"] == "done" and "val/loss" in rows_of(tmp_path)[-1]


# The ring that grows.


def test_the_ring_keeps_the_newest_transitions_and_every_window_of_them():
    ring = empty(jax.ShapeDtypeStruct((1,), jnp.float32), 1, capacity=11)
    add, held, number = jax.jit(append), [], 0
    look = jax.jit(window, static_argnames="how")
    rng = np.random.default_rng(0)
    for _ in range(12):
        length = int(rng.integers(1, 6))
        for age in range(length):
            args = [float(number)], [number / 100], -float(number), [number + 1.0]
            flags = age == length - 1 and length % 2 == 0, age == length - 1
            ring = add(ring, *map(jnp.asarray, args), *flags, age)
            held.append((number, flags[0], age == length - 1))
            number += 1
            count = int(ring.count)
            index = ring.rows.index[(int(ring.head) + np.arange(11)) % 11]  # `count` of them hold
            batch = jax.device_get(look(ring.rows, index, jnp.float32(0.9), how=Windows()))
            newest = held[-count:]
            assert batch.obs[:count, 0].tolist() == [n for n, *_ in newest]
            assert batch.next_obs[:count, 0].tolist() == [n + 1 for n, *_ in newest]
            assert batch.reward[:count].tolist() == [-n for n, *_ in newest]
            assert batch.terminated[:count].tolist() == [t for _, t, _ in newest]
            double = look(ring.rows, index, jnp.float32(0.5), how=Windows(n_step=2))
            double = jax.device_get(double)
            for i, (n, _, done) in enumerate(newest):
                follows = not done and i + 1 < count
                assert bool(double.extras["valid"][i]) == follows
                assert double.reward[i] == (-n - 0.5 * (n + 1) if follows else -n)
        number += 1  # the last observation of an episode is no transition's first
    assert 5 <= count <= 10  # 11 rows hold so many, beside the ends of episodes


@pytest.mark.parametrize("balanced", [False, True])
def test_online_batches_mix_as_announced(tmp_path, balanced):
    """What share of every batch was collected, told by rewards that the data does not have."""

    def spying(config, spec, axis_name=None):
        learner = agents.make(config, spec, axis_name)

        def update(state, batch, keys):
            new, metrics = learner.update(state, batch, keys)
            return new, metrics | {"collected": pmean_if(jnp.mean(batch.reward > 500), axis_name)}

        return learner._replace(update=update)

    fields = {"train__log_every": 1, "learner__batch_size": 64, "eval__episodes": 0}
    fields["train__offline_steps"] = 5
    config = toys.config(train__online_steps=47, train__balanced_sampling=balanced, **fields)
    data = toys.dataset()._replace(reward_offset=1000.0)
    toys.train(config, tmp_path, data=data, make=spying)
    share = {row["step"]: row["train/collected"] for row in rows_of(tmp_path)}
    assert all(value == 0 for step, value in share.items() if step <= 5)
    online = np.array([share[5 + k] for k in range(1, 48)])
    if balanced:
        assert (online == 0.5).all()
    else:  # 47 transitions in the data: k / (47 + k) of 64 rows, 47 times
        expected = np.arange(1, 48) / (47 + np.arange(1, 48))
        error = np.sqrt((expected * (1 - expected) / 64).sum())
        assert abs(online.sum() - expected.sum()) < 4 * error


# The plan.


def test_steps_of_the_plan():
    plan = OfflinePlan(100, 50, log_every=30, eval_every=40, warmup=10, utd=2)
    step, grad, seen = 0, 0, []
    while not plan.done(step):
        n, (_, online), after, grad = plan.next_chunk(step, grad, limit=25)
        assert after == step + n and n <= 25 and online == (step >= 100)
        seen.append(step := after)
    assert {30, 40, 60, 80, 90, 100, 120, 150} <= set(seen)
    assert grad == plan.grad_steps(150) == 100 + 2 * 40 and plan.env_steps(150) == 50
    assert [plan.grad_steps(s) for s in (99, 100, 110, 111)] == [99, 100, 100, 102]


# What is refused, before any compile.

WRONG = [
    ({"train__offline_steps": 0}, "train.offline_steps = 0 and train.online_steps = 0: nothing"),
    ({"train__offline_steps": -1}, "train.offline_steps is a whole number >= 0, got -1"),
    ({"learner__batch_size": 0}, "learner.batch_size is a whole number >= 1, got 0"),
    ({"data__n_step": 3, "data__chunk": 3}, "data.n_step = 3 and data.chunk = 3: a chunk"),
    ({"data__crop": 1.5}, "data.crop is a probability in \\[0, 1\\], got 1.5"),
    ({"data__crop": 0.5}, "data.crop = 0.5 is for images"),
    ({"data__frame_stack": 3}, "data.frame_stack = 3 is for images; observations are vectors"),
    ({"data__chunk": 13}, "data.chunk = 13 is longer than the shortest trajectory .*12 trans"),
    ({"data__n_step": 13}, "data.n_step = 13 is longer than the shortest trajectory"),
    (
        {"train__balanced_sampling": True, "learner__batch_size": 15},
        "train.balanced_sampling takes half .* learner.batch_size = 15 is odd",
    ),
    ({"learner__alpha": -1.0}, "learner.alpha is a number >= 0, got -1"),
    ({"learner__flow_steps": 0}, "learner.flow_steps is a whole number >= 1, got 0"),
    ({"learner__tau": 0.0}, "learner.tau is a number in \\(0, 1\\], got 0"),
    ({"learner__q_agg": "max"}, "learner.q_agg is one of mean, min, got 'max'; nearest"),
    ({"learner__encoder": "impala"}, "learner.encoder = 'impala' is for images"),
]


@pytest.mark.parametrize("fields, text", WRONG)
def test_what_cannot_run_is_refused(fields, text, tmp_path):
    with pytest.raises((ConfigError, ValueError), match=text):
        offline_checks.entry(
            toys.config(**fields), toys.dataset(), agents.make, (0,), [{}], tmp_path
        )


def test_a_small_data_set_warns_and_other_shapes_are_refused(tmp_path):
    config = toys.config(learner__batch_size=64)
    with pytest.warns(UserWarning, match="47 transitions, fewer than learner.batch_size = 64"):
        offline_checks.entry(config, toys.dataset(), agents.make, (0,), [{}], tmp_path)
    data = toys.dataset()
    wide = data.train.replace(obs=np.repeat(data.train.obs, 2, axis=1))
    with pytest.raises(ConfigError, match=r"observations \(4,\) and actions \(1,\), .* \(2,\)"):
        toys.train(toys.config(), tmp_path, data=data._replace(train=wide))


def test_stacked_frames_at_the_edge_of_a_full_ring():
    """The oldest observations repeat their first frame that is still there."""
    ring, add = (
        empty(jax.ShapeDtypeStruct((1, 1, 1), jnp.uint8), 1, capacity=8),
        jax.jit(append, static_argnames="frame_stack"),
    )
    frame = lambda n: jnp.full((1, 1, 1), n, jnp.uint8)  # noqa: E731
    for n in range(30):  # episodes of ten; frames count on, each episode's last one included
        number = n + n // 10
        args = frame(number), jnp.zeros(1), 0.0, frame(number + 1), False, n % 10 == 9, n % 10
        ring = add(ring, *args, frame_stack=3)
        index = ring.rows.index[(int(ring.head) + np.arange(int(ring.count))) % 8]
        batch = window(ring.rows, index, jnp.float32(1), Windows(frame_stack=3))
        stacks = np.asarray(batch.obs)[:, 0, 0].astype(int)
        begin = {int(s[-1]) // 11 * 11 for s in stacks}
        for stack in stacks:
            first = max(stack[-1] // 11 * 11, int(stacks[:, -1].min()))
            assert stack.tolist() == [max(stack[-1] - k, first) for k in (2, 1, 0)], begin


def test_a_run_from_data_goes_on_online_where_another_begins(tmp_path):
    toys.train(toys.config(), tmp_path / "data")
    config = toys.config(train__online_steps=6, resume_from=str(tmp_path / "data"))
    facts, _ = toys.train(config, tmp_path / "on")
    assert facts["status"] == "done" and facts["grad_steps"] == 46
    assert [row["step"] for row in rows_of(tmp_path / "on")] == [46]
    toys.train(toys.config(train__online_steps=6), tmp_path / "whole")
    params = [checkpoint.read_params(tmp_path / name) for name in ("on", "whole")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), *params)
