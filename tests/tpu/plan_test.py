"""Packing, names and worker commands."""

from __future__ import annotations

import json
import re
import time
from fractions import Fraction

import pytest
from launches import PACKED, jobs, options

from configs import scaling_laws as scaling_config
from configs.common import product
from experiments import scaling_laws
from rlx.infra import errors
from tpu import plan, sweep
from tpu.errors import LaunchError

GRID = {"train.utd": [0.25, 0.5, 1.0, 2.0, 4.0, 8.0], "learner.lr": [1e-4, 3e-4, 1e-3, 3e-3]}


def folded(entries):
    return plan.fold(entries, list(PACKED))


def test_120_entries_are_6_jobs_of_20_runs():
    entries = list(product(GRID | {"seed": range(5)}))
    found = jobs(options("local"), entries)
    assert (len(entries), len(found)) == (120, 6)
    assert [job.runs for job in found] == [20] * 6
    assert found[0].overrides == {
        "train.utd": 0.25,
        "learner.lr": (1e-4, 3e-4, 1e-3, 3e-3),
        "seed": (0, 1, 2, 3, 4),
    }


def test_what_is_no_full_product_becomes_several_full_products():
    """Seed 2 ran with one learning rate only; UTD 4 sets no learning rate."""
    entries = list(product({"learner.lr": [1e-4, 1e-3], "seed": [0, 1]}))
    entries += [{"learner.lr": 1e-3, "seed": 2}, {"train.utd": 4.0, "seed": 0}]
    assert folded(entries) == [
        {"learner.lr": (1e-4,), "seed": (0, 1)},
        {"learner.lr": (1e-3,), "seed": (0, 1, 2)},
        {"train.utd": 4.0, "seed": (0,)},
    ]


def test_every_entry_is_in_exactly_one_job_whatever_the_sweep():
    entries = [
        entry
        for number, entry in enumerate(product(GRID | {"seed": range(4)}))
        if number % 7 and number % 5
    ]
    runs = [
        {"train.utd": job["train.utd"], "learner.lr": lr, "seed": seed}
        for job in folded(entries)
        for lr in job["learner.lr"]
        for seed in job["seed"]
    ]
    assert len(runs) == len(entries) < 96
    assert sorted(map(repr, map(sorted, map(dict.items, runs)))) == sorted(
        map(repr, map(sorted, map(dict.items, entries)))
    )


def test_without_packed_fields_every_entry_is_a_job():
    entries = [{"seed": 0}, {"seed": 1}]
    found = plan.expand(sweep.Sweep(entries, {}), options("local"))
    assert [job.overrides for job in found] == entries
    assert found[1].argv[4:] == ("--config.seed=1", f"--workdir={found[1].workdir}")


def test_a_name_depends_on_no_order_and_on_no_backend():
    entries = list(product(GRID | {"seed": range(5)}))
    forward = [job.name for job in jobs(options("local"), entries)]
    backward = [job.name for job in jobs(options("local"), entries[::-1])]
    assert forward == backward[::-1]
    assert forward == [job.name for job in jobs(options("skypilot"), entries)]
    other = [{**entry, "seed": entry["seed"] + 1} for entry in entries]
    assert not set(forward) & {job.name for job in jobs(options("local"), other)}


def test_a_thousand_entries_expand_in_two_seconds_to_unique_short_names():
    entries = [{"learner.discount": 1 - 1 / (n + 2), "seed": n} for n in range(1000)]
    start = time.perf_counter()
    found = jobs(options("local", name="a-rather-long-name"), entries)
    assert time.perf_counter() - start < 2
    names = {job.name for job in found}
    assert len(names) == len(found) == 1000
    assert all(plan.NAME.fullmatch(name) and len(name) <= plan.MAX_NAME for name in names)


def test_names_that_meet_are_parted():
    first = plan._job_name(options("local"), {}, PACKED, set())
    second = plan._job_name(options("local"), {}, PACKED, {first})
    assert first != second == plan._job_name(options("local"), {}, PACKED, {first})
    assert all(re.fullmatch("sac-[0-9a-f]{6}", name) for name in (first, second))


def test_other_work_has_another_name_and_workdir():
    """The experiment, the config with its options, and the extra flags are in the hash."""
    config = "configs/scaling_laws.py"
    extra = ("--steps=100", "--config.eval.episodes=4")
    changes = [
        {"config": config},
        {"config": f"{config}:study,algo=sac"},
        {"config": f"{config}:study,algo=bro"},
        {"config": f"{config}:study,algo=bro", "extra": ("--steps=100",)},
        {"config": f"{config}:study,algo=bro", "extra": extra},
        {"config": f"{config}:study,algo=bro", "experiment": "search"},
    ]
    names = [jobs(options("local", **change))[0].name for change in changes]
    assert len(set(names)) == len(names)
    assert all(name.startswith("sac-utd-1-") and len(name) <= plan.MAX_NAME for name in names)
    workdirs = {jobs(options("local", **change))[0].workdir for change in changes}
    assert len(workdirs) == len(changes)


@pytest.mark.parametrize(
    "change",
    [
        {"config": "./configs/scaling_laws.py:wide"},
        {"extra": ("--steps=1", "--config.eval.episodes=4")},
    ],
)
def test_the_same_work_typed_otherwise_has_the_same_name(change):
    base = {"extra": ("--config.eval.episodes=4", "--steps=1")} if "extra" in change else {}
    found, expected = (jobs(options("slurm", **given)) for given in (change, base))
    assert [job.name for job in found] == [job.name for job in expected]


def test_the_worker_command_and_nothing_else():
    job = jobs(options("skypilot", extra=("--steps=1000",)))[1]
    assert job.name == "sac-utd-2-" + job.name[-6:]
    assert job.workdir == f"gs://our-runs/sweeps/first/{job.name}"
    assert job.argv == (
        "python",
        "-m",
        "experiments.scaling_laws",
        "--config=configs/scaling_laws.py:wide",
        "--seed=0,1,2",
        "--config.train.utd=2.0",
        "--steps=1000",
        f"--workdir=/mnt/rlx/sweeps/first/{job.name}",
    )
    assert job.env == {"JAX_PLATFORMS": "tpu,cpu"}
    assert plan.retry(job).argv == (*job.argv, "--retry_failed")


def test_the_experiment_takes_the_command_as_it_is(tmp_path, capsys):
    """The real command line of the worker, as a dry run: two learning rates x three seeds."""
    config = "configs/scaling_laws.py:smoke"
    entries = list(product({"train.utd": [2.0], "learner.lr": [1e-4, 3e-3], "seed": [0, 1, 2]}))
    [job] = jobs(options("local", config=config, workdir=str(tmp_path)), entries)
    assert errors.one_line(scaling_laws.main, [*job.argv[3:], "--dry_run"]) == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert entry["utd"] == 2.0 and entry["workdir"] == job.workdir
    assert len(entry["runs"]) == 6 == job.runs


@pytest.mark.parametrize(
    "value, text",
    [
        (0.1, "0.1"),
        (1e-4, "0.0001"),
        (1 / 3, "0.3333333333333333"),
        (7, "7"),
        (True, "true"),
        (None, "none"),
        ((64, 64), "64,64"),
        ((), "()"),
        (((1, 2), (3,)), "((1, 2), (3,))"),
        ("CheetahRun", "CheetahRun"),
    ],
)
def test_values_as_the_command_line_reads_them(value, text):
    assert sweep.as_text(value) == text


def test_values_take_the_type_of_their_field():
    """An integer is a float where one is wanted, so 2 and 2.0 are one entry; NaN is no setting."""
    fields = {"train.utd": (float, 1.0), "learner.lr": (float, 3e-4)}
    checked = [sweep._checked("train.utd", value, fields, "") for value in (2, Fraction(1, 16))]
    assert checked == [2.0, 0.0625] and set(map(type, checked)) == {float}
    with pytest.raises(LaunchError, match=r"learner\.lr is a number .*, got 'nan'"):
        sweep._checked("learner.lr", float("nan"), fields, "")


@pytest.mark.parametrize(
    "flag, says",
    [
        ("steps=1", "extra flag 'steps=1' after --: write it as --name=value"),
        ("--workdir=x", "extra flag '--workdir=x' after --: the launcher sets --workdir itself"),
        ("--seed=3", "extra flag '--seed=3' after --: the sweep sets seed"),
        ("--seeds=3", "extra flag '--seeds=3' after --: the sweep sets seed"),
        ("--utd=3", "extra flag '--utd=3' after --: the sweep sets train.utd"),
        (
            "--algo=bro",
            "extra flag '--algo=bro' after --: the sweep depends on it, put it into "
            "--config=configs/scaling_laws.py:wide,algo=bro",
        ),
        (
            "--env=pendulum",
            "extra flag '--env=pendulum' after --: the sweep depends on it, put it into "
            "--config=configs/scaling_laws.py:wide,env=pendulum",
        ),
        (
            "--config.train.utd=1",
            "extra flag '--config.train.utd=1' after --: the sweep sets train.utd",
        ),
    ],
)
def test_extra_flags_that_fight_with_the_launcher(flag, says):
    with pytest.raises(LaunchError) as caught:
        jobs(options("local", extra=(flag,)))
    assert str(caught.value) == says


def test_every_short_flag_of_a_swept_field_is_refused_and_others_are_not():
    """The config file names them: FLAGS beside PACKED."""
    short = dict(scaling_laws.SHORT)
    swept = {"train.utd", "learner.batch_size", "width", "learner.lr", "seed"}
    told = scaling_config.FLAGS | {flag: field for field, flag in scaling_config.PACKED.items()}
    assert {flag for flag, field in short.items() if field in swept} <= set(told)
    assert all(short.get(flag, field) in (field, "num_seeds") for flag, field in told.items())
    found = sweep.load("scaling_laws", "configs/scaling_laws.py:demo")
    for word in ("--utd=2", "--seed=1", "--seeds=2", "--config.num_seeds=2"):
        with pytest.raises(LaunchError, match="the sweep sets"):
            plan.expand(found, options("local", extra=(word,)))
    plan.expand(found, options("local", extra=("--batch_size=16", "--width=32", "--lr=0.1")))


def test_the_sweep_of_scaling_laws():
    found = sweep.load("scaling_laws", "configs/scaling_laws.py:demo")
    assert len(found.entries) == 4 * 4 and found.packed == scaling_config.PACKED
    assert found.entries[0] == {"train.utd": 1.0, "seed": 0}
    assert [job.runs for job in plan.expand(found, options("local"))] == [4] * 4
    wide = list(scaling_config.get_sweep("wide"))
    assert len(wide) == 5 * 8 and {entry["train.utd"] for entry in wide} == {
        1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0
    }  # fmt: skip


def test_learning_rates_of_the_sweep_section_are_an_axis(monkeypatch):
    monkeypatch.setitem(scaling_config.SMOKE, "sweep.lr", (1e-3, 1e-4))
    assert list(scaling_config.get_sweep("smoke")) == [
        {"train.utd": 0.5, "learner.lr": 1e-3, "seed": 0},
        {"train.utd": 0.5, "learner.lr": 1e-4, "seed": 0},
    ]
