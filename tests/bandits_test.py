"""The bandits: their data, their reward by hand, and the command from end to end."""

from __future__ import annotations

import csv

import jax
import numpy as np
import pytest

from experiments import bandits, bandits_data, bandits_result
from experiments.bandits_parts import BANDITS, METHODS
from experiments.bandits_train import train

PART = {bandit.name: bandit for bandit in BANDITS}
BY_AGENT = {method.agent: method for method in METHODS}
SMALL = {"updates": 6, "hidden": (8,), "flow_hidden": (8, 8)}
TINY = {"batch_size": 8, "flow_steps": 1}


@pytest.mark.parametrize("name", list(PART))
def test_data_covers_all_modes_alike_and_no_datum_is_off_data(name):
    bandit, n = PART[name], 8_000
    batch = jax.jit(bandits_data.draw, static_argnums=(0, 2))(bandit, jax.random.key(3), n)
    assert batch.action.shape == (n, 2) and batch.obs.shape == (n, 2 if bandit.turned else 1)
    assert np.abs(batch.action).max() < 1
    angle = np.zeros(n)
    if bandit.turned:
        angle = np.arctan2(batch.obs[:, 1], batch.obs[:, 0])
        assert abs(angle.mean()) < 0.1 and angle.min() < -3 and angle.max() > 3
    else:
        assert (np.asarray(batch.obs) == 1).all()
    frame = bandits_data.turn(batch.action, -angle)
    mode, near = map(np.asarray, bandits_data.nearest(bandit, frame))
    assert near.all()
    np.testing.assert_allclose(np.bincount(mode) / n, 1 / bandit.modes, atol=0.02)
    away = np.asarray(frame - bandits_data.centers(bandit)[mode])
    np.testing.assert_allclose(away.std(0), bandit.std, rtol=0.05)
    np.testing.assert_allclose(batch.reward, bandits_data.reward(bandit, frame), atol=1e-5)
    assert not batch.extras["discount"].any() and batch.extras["valid"].all()


HALF = 0.7 * np.sqrt(0.5)  # of the ring at 45 degrees


@pytest.mark.parametrize(
    ("name", "action", "worth"),
    [
        ("ring", (0.7, 0.0), 0.7),
        ("ring", (-0.2, 0.1), -0.2),  # off data too
        ("offaxis", (HALF, HALF), 1.0),
        ("offaxis", (HALF, -HALF), 1.0),
        ("offaxis", (-HALF, HALF), 0.0),
        ("offaxis", (HALF + 0.19, HALF), 1.0),
        ("offaxis", (HALF + 0.21, HALF), -1.0),
        ("offaxis", (HALF, 0.0), -1.0),  # between the two good modes
        ("ridge", (HALF + 0.1, HALF), HALF + 0.1),
        ("ridge", (-HALF, -HALF), -HALF),
        ("ridge", (0.7, 0.0), -1.0),  # the top is off data
        ("turned", (0.7, 0.0), 1.0),
        ("turned", (-0.7, 0.1), 1.0),
        ("turned", (0.0, 0.7), 0.0),
        ("turned", (0.0, 0.0), -1.0),
    ],
)
def test_reward_by_hand(name, action, worth):
    found = bandits_data.reward(PART[name], np.asarray([action], np.float32))
    np.testing.assert_allclose(found, [worth], atol=1e-6)


def test_turning():
    turned = bandits_data.turn(np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([np.pi / 2] * 2))
    np.testing.assert_allclose(turned, [[0.0, 1.0], [-2.0, 0.0]], atol=1e-6)


def test_measures_by_hand():
    good, bad, off = (HALF, HALF), (-HALF, HALF), (0.0, 0.0)
    found = bandits_result.measure(PART["offaxis"], np.asarray([good, good, bad, off], np.float32))
    assert found == {"reward": 0.25, "on_data": 0.75, "modes": 2}


def test_rebrac_stays_finite_where_every_input_is_zero():
    """P24: Q is exactly 0 at the first step of the actor."""
    bandit = PART["offaxis"]._replace(constant=0.0, rebrac=(0.1,), **SMALL)
    assert np.isfinite(train(BY_AGENT["rebrac"], bandit, (0,), 4, **TINY)).all()


@pytest.mark.slow
def test_a_run_is_what_it_would_be_alone():
    """Runs of one program share what does not depend on alpha."""
    bandit = PART["turned"]._replace(**SMALL)
    both, one = (bandit._replace(fql=alphas) for alphas in ((0.1, 30.0), (30.0,)))
    together = train(BY_AGENT["fql"], both, (0, 1), 8, **TINY)
    assert together.shape == (2, 2, 8, 2)
    alone = train(BY_AGENT["fql"], one, (1,), 8, **TINY)
    np.testing.assert_allclose(together[1, 1], alone[0, 0], atol=1e-4)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3


def test_the_command_writes_its_files_and_adds_to_them(tmp_path, capsys):
    flags = ["--smoke", "--part=offaxis", f"--workdir={tmp_path}"]
    assert bandits.main([*flags, "--learner=flow_bc,iql"]) == 0
    assert bandits.main([*flags, "--learner=flow_bc", "--first_seed=3"]) == 0
    rows = list(csv.DictReader((tmp_path / "bandits.csv").open()))
    runs = [(row["method"], float(row["alpha"]), row["seed"]) for row in rows]
    assert runs == [("AWR mean", 0.0, "0"), ("flow BC", 0.0, "0"), ("flow BC", 0.0, "3")]
    for row in rows:
        assert -1 <= float(row["reward"]) <= 1 and 0 <= float(row["on_data"]) <= 1
        assert 0 <= int(row["modes"]) <= 4
    assert (tmp_path / "bandits.png").stat().st_size < 200_000
    shown = capsys.readouterr()
    assert "offaxis  flow BC" in shown.out and f"written: {tmp_path}" in shown.out
    assert "ETA" in shown.err


def test_a_table_without_its_samples_is_added_to(tmp_path):
    flags = ["--smoke", "--part=offaxis", f"--workdir={tmp_path}"]
    assert bandits.main([*flags, "--learner=flow_bc"]) == 0
    (tmp_path / "bandits.npz").unlink()
    assert bandits.main([*flags, "--learner=iql"]) == 0
    found = bandits_result.load(tmp_path / "bandits.csv")
    assert [row["method"] for row in found.rows] == ["AWR mean", "flow BC"]
    assert list(found.samples) == ["offaxis/AWR mean/0/0"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("flag", ["--part=rnig", "--learner=fq", "--seeds=0", "--first_seed=-1"])
def test_bad_flags_are_refused(flag, tmp_path):
    with pytest.raises(ValueError, match=r"unknown (part|learner)|--seeds"):
        bandits.main([flag, f"--workdir={tmp_path}"])
