"""Reading and refusing tables: forms, joins, types, duplicates, truncation (5.1, 12)."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from rlx.scaling import ScalingError, published, read_table
from rlx.scaling.cells import auto_thresholds, make_cells, make_scale
from rlx.scaling.table import snap

HEADER = "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return"
ROWS = [
    "sac,t,1,256,0.001,1000,0,10,1.5",
    "sac,t,1,256,0.001,1000,0,20,2.5",
    "sac,t,1,256,0.001,1000,1,10,3.5",
]


def _write(path, rows, header=HEADER, end="\n"):
    path.write_text("\n".join([header, *rows]) + end)
    return path


def _row(**changes):
    base = {"task": "t", "utd": 1.0, "seed": 0, "env_step": 10, "return": 1.0}
    return base | changes


def test_csv_gz_npz_and_rows_give_the_same_table(tmp_path):
    csv = _write(tmp_path / "a.csv", ROWS)
    gz = tmp_path / "a.csv.gz"
    gz.write_bytes(gzip.compress(csv.read_bytes()))
    table = read_table(csv)
    columns = {
        k: table[k]
        for k in ("algo", "task", "utd", "batch_size", "learning_rate", "model_size", "seed")
    }
    npz = tmp_path / "a.npz"
    np.savez(npz, **columns, env_step=table["env_step"], **{"return": table["return"]})
    rows = [dict(zip(HEADER.split(","), row.split(","))) for row in ROWS]
    for source in (gz, npz, rows, {k: [r[k] for r in rows] for k in rows[0]}):
        other = read_table(source)
        for name in (*columns, "env_step", "return"):
            np.testing.assert_array_equal(other[name], table[name])
    np.testing.assert_array_equal(table["return"], [1.5, 2.5, 3.5])


def test_the_wide_form_unfolds_and_blank_cells_have_no_row(tmp_path):
    path = _write(
        tmp_path / "w.csv",
        ["t,2,10,1.0,5.0", "t,2,20,2.0,"],
        "task,utd,env_step,return_seed0,return_seed1",
    )
    table = read_table(path)
    got = sorted(zip(table["seed"].tolist(), table["env_step"].tolist(), table["return"].tolist()))
    assert got == [("0", 10.0, 1.0), ("0", 20.0, 2.0), ("1", 10.0, 5.0)]
    assert np.isnan(table["batch_size"]).all()


def test_the_shipped_curves_are_complete():
    table = read_table(published.path("bro_dmc_curves.csv.gz"))
    cells = make_cells(table, [], [])
    assert len(table) == 70_000 and len(cells) == 175
    assert {c.returns.shape for c in cells} == {(40, 10)}


def test_many_files_join_and_a_duplicate_names_both(tmp_path):
    a = _write(tmp_path / "a.csv", ROWS[:2])
    b = _write(tmp_path / "b.csv", ROWS[2:])
    assert len(read_table([a, b])) == 3
    c = _write(tmp_path / "c.csv", [ROWS[1]])
    with pytest.raises(ScalingError) as error:
        read_table([a, b, c])
    assert (
        "a.csv" in str(error.value)
        and "c.csv" in str(error.value)
        and "env_step=20" in str(error.value)
    )


@pytest.mark.parametrize("missing", ["task", "utd", "seed", "env_step", "return"])
def test_a_missing_column_is_named_with_the_accepted_names(missing):
    row = _row()
    del row[missing]
    with pytest.raises(ScalingError, match=f"missing column '{missing}'.*names: {missing}"):
        read_table([row])


def test_wrong_types_name_column_and_row(tmp_path):
    path = _write(tmp_path / "a.csv", [ROWS[0], "sac,t,fast,256,0.001,1000,0,20,2.5"])
    with pytest.raises(ScalingError, match="column 'utd', row 2: 'fast' is not a number"):
        read_table(path)
    with pytest.raises(ScalingError, match=r"column 'utd', row 1: 0\.0 is not a positive number"):
        read_table([_row(utd=0)])
    with pytest.raises(ScalingError, match="'env_step', row 1"):
        read_table([_row(env_step="")])


def test_a_truncated_last_line_is_skipped_with_a_warning(tmp_path):
    cut = _write(tmp_path / "cut.csv", [ROWS[0], "sac,t,1,256"])
    table = read_table(cut)
    assert len(table) == 1 and "truncated last line" in table.warnings[0]
    # the number itself may be cut: 2.5 -> 2 with every field present
    half = _write(tmp_path / "half.csv", [ROWS[0], ROWS[1][:-2]], end="")
    table = read_table(half)
    assert table["return"].tolist() == [1.5] and "newline" in table.warnings[0]
    middle = _write(tmp_path / "middle.csv", ["sac,t,1", ROWS[0]])
    with pytest.raises(ScalingError, match="line 2 has 3 fields, the header 9"):
        read_table(middle)


def test_a_truncated_gzip_file_gives_what_is_readable(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"sac,t,1,256,0.001,1000,0,{i},{rng.normal()}" for i in range(3000)]
    data = gzip.compress("\n".join([HEADER, *rows, ""]).encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(data[: len(data) // 2])
    table = read_table(path)
    assert 500 < len(table) < 3000
    assert any("cut short" in w for w in table.warnings)


def test_unknown_files_and_kinds(tmp_path):
    with pytest.raises(ScalingError, match="no such table"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ScalingError, match=r"accepted: \.csv"):
        read_table(tmp_path / "a.txt")
    with pytest.raises(ScalingError, match="at least one row"):
        read_table([])


def test_run_logs_become_a_table_and_return_source_selects(tmp_path):
    hp = {
        "utd": 2.0,
        "task": "pendulum",
        "algo": "sac",
        "batch_size": 64,
        "learning_rate": 1e-3,
        "model_size": 9,
    }
    lines = [
        {"schema": 1, "hp": hp},
        {"step": 0, "env_steps": 10, "seed": 3, "train/return": 7.0},
        {"step": 1, "env_steps": 20, "seed": 3, "train/return": 8.0, "eval/return": 4.0},
        {"step": 2, "env_steps": 30, "seed": 3, "eval/return": None, "nan": ["eval/return"]},
    ]
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    evals = read_table([run])
    np.testing.assert_array_equal(evals["return"], [4.0, np.nan])  # kept, to be told
    np.testing.assert_array_equal(evals["env_step"], [20.0, 30.0])
    assert evals["batch_size"].tolist() == [64.0, 64.0]
    assert read_table([run], return_source="train")["return"].tolist() == [7.0, 8.0]
    with pytest.raises(ScalingError, match="eval, train"):
        read_table([run], return_source="online")


def test_utds_within_one_percent_are_one():
    got = snap(np.array([0.999, 1.0, 1.004, 2.0, 0.25, 0.2501]))
    np.testing.assert_allclose(got, [1.0, 1.0, 1.0, 2.0, 0.25005, 0.25005])
    np.testing.assert_array_equal(snap(np.array([1.0, 1.02])), [1.0, 1.02])


def test_nan_seeds_are_excluded_by_name_and_empty_configs_are_missing():
    rows = [_row(seed=s, env_step=t, **{"return": r}) for s, t, r in
            [(0, 10, 1.0), (0, 20, 2.0), (1, 10, "nan"), (1, 20, 2.0)]]  # fmt: skip
    rows += [_row(utd=4, seed=7, **{"return": "inf"})]
    notes, missing = [], []
    (cell,) = make_cells(read_table(rows), notes, missing)
    assert cell.seeds == ("0",) and cell.returns.shape == (2, 1)
    assert any("excluded seed 1 of task=t, utd=1: 1 of 2 returns" in n for n in notes)
    assert missing == ["task=t, utd=4: no seed with finite returns"]


def test_unequal_grids_are_held_on_their_union_and_short_seeds_are_told():
    rows = [_row(seed=0, env_step=t, **{"return": t}) for t in (10, 20, 40)]
    rows += [_row(seed=1, env_step=t, **{"return": 100 + t}) for t in (15, 30)]
    notes = []
    (cell,) = make_cells(read_table(rows), notes, [])
    np.testing.assert_array_equal(cell.steps, [15, 20, 30, 40])
    np.testing.assert_array_equal(cell.returns, [[10, 115], [20, 115], [20, 130], [40, 130]])
    assert len(notes) == 1 and "seed(s) 1 of" in notes[0] and "last return held" in notes[0]


def test_return_scale_and_automatic_levels():
    points = [(1, 10, -200), (1, 20, -80), (2, 10, -190), (2, 20, -50)]
    rows = [_row(utd=u, env_step=t, **{"return": r}) for u, t, r in points]
    cells = make_cells(read_table(rows), [], [])
    scale = make_scale(cells, "auto")
    assert (scale.base["t"], scale.top["t"]) == (-200.0, -80.0)
    np.testing.assert_allclose(scale.apply(cells[1])[:, 0], [1000 * 10 / 120, 1000 * 150 / 120])
    levels = auto_thresholds(cells, scale)
    np.testing.assert_allclose([levels[0], levels[-1], len(levels)], [200, 900, 10])
    assert make_scale(cells, {"t": 500.0}).top["t"] == 500.0
    with pytest.raises(ScalingError, match="max_return lacks t"):
        make_scale(cells, {"other": 1.0})
    with pytest.raises(ScalingError, match="--max_return=auto"):
        make_scale(cells, -3.0)
