"""The comparison of algorithms: a ratio that is known, its interval, and what is refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from experiments import scaling_compare
from rlx.infra import errors

COLUMNS = "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return".split(",")


def write(path, algo: str, speed: float, utds=(1.0, 2.0, 4.0), first=0, lr=1e-3):
    """Returns rise linearly at `speed` x utd per step, six seeds 2 % apart."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for utd in utds:
            for seed in range(6):
                for step in range(0, 1010, 10):
                    value = speed * utd * step * (1 + 0.02 * (seed - 2.5))
                    writer.writerow([algo, "toy", utd, 64, lr, 100, first + seed, step, value])
    return str(path)


def test_half_the_data_is_a_ratio_of_one_half(tmp_path):
    tables = [write(tmp_path / "a.csv", "sac", 0.4), write(tmp_path / "b.csv", "bro", 0.8)]
    assert scaling_compare.main([*tables, f"--out={tmp_path}"]) == 0
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    # bro at UTD 1 comes to 800, in 95 % of the resamples to 750 and no further.
    assert {row["utd"]: row["J"] for row in rows} == {
        "1.0": "750.0",
        "2.0": "950.0",
        "4.0": "950.0",
    }
    for row in rows:
        speed, utd = 0.4 if row["algo"] == "sac" else 0.8, float(row["utd"])
        level = float(row["J"])
        if speed * utd < level / 1000:  # sac at UTD 1, 2: its 1000 steps stand for it
            assert row["D"] == "nan"
            continue
        assert float(row["D"]) == pytest.approx(level / (speed * utd), rel=0.01)
        if row["algo"] == "bro":
            assert row["at_most"] == str(int(utd < 4))  # sac reaches J at UTD 4 alone
            want = {1.0: 750 / 800, 2.0: 950 / 1600, 4.0: 0.5}[utd]
            assert float(row["ratio"]) == pytest.approx(want, rel=0.01)
            assert float(row["ratio_low"]) < want * 1.01 and float(row["ratio_high"]) > want
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_labels_and_small_utds(tmp_path):
    one, two = write(tmp_path / "a.csv", "sac", 0.4), write(tmp_path / "b.csv", "sac", 0.8)
    assert scaling_compare.main([one, f"fast={two}", "--min_utd=2", f"--out={tmp_path}"]) == 0
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert {row["utd"] for row in rows} == {"2.0", "4.0"} and {r["J"] for r in rows} == {"950.0"}
    assert np.unique([row["algo"] for row in rows]).tolist() == ["fast", "sac"]


def test_more_seeds_join_whatever_the_order(tmp_path):
    sac = write(tmp_path / "a.csv", "sac", 0.4)
    more = [write(tmp_path / "b.csv", "bro", 0.8), write(tmp_path / "c.csv", "bro", 0.4, first=6)]
    tables = []
    for own in (more, more[::-1]):
        assert scaling_compare.main([sac, *own, f"--out={tmp_path}"]) == 0
        tables.append((tmp_path / "compare.csv").read_text())
    assert tables[0] == tables[1]
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert {(row["algo"], row["seeds"]) for row in rows} == {("sac", "6"), ("bro", "12")}


def test_two_settings_at_one_utd_are_refused(tmp_path):
    sac = write(tmp_path / "a.csv", "sac", 0.4)
    grid = [write(tmp_path / "b.csv", "bro", 0.8), write(tmp_path / "c.csv", "bro", 0.4, lr=1e-4)]
    with pytest.raises(errors.ConfigError, match=r"learning_rate=0.0001.*; .*learning_rate=0.001"):
        scaling_compare.main([sac, *grid, f"--out={tmp_path}"])


def test_one_algorithm_alone_or_no_common_level_is_refused(tmp_path):
    one = write(tmp_path / "a.csv", "sac", 0.4)
    with pytest.raises(errors.ConfigError, match="needs sac and another algorithm"):
        scaling_compare.main([one, f"--out={tmp_path}"])
    slow = [write(tmp_path / f"{name}.csv", name, 0.001) for name in ("sac", "bro")]
    with pytest.raises(errors.ConfigError, match="toy: no level is reached"):
        scaling_compare.main([*slow, f"--out={tmp_path}"])
