"""The doctor's figures against the tokenizers themselves, its advice, its command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from action_data import smooth

from rlx.tokenizers import doctor
from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.doctor import __main__ as command
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.measure import measure
from rlx.tokenizers.stats import NormStats

DATA = smooth(500, 12, 4, 0)


@pytest.fixture(scope="module")
def found():
    return doctor.diagnose(DATA, rmse=0.025)


def test_measure_by_hand():
    t = BinningTokenizer(4, stats=None)
    x = np.array([[[-0.75], [0.25]], [[0.5], [3.0]]])  # centres are +-0.25, +-0.75
    got = measure(t, x)
    assert got["mean_tokens"] == got["p95_tokens"] == got["max_tokens"] == 2 and got["ratio"] == 1
    np.testing.assert_allclose(got["rmse"], np.sqrt((0.25**2 + 2.25**2) / 4))
    assert got["max_error"] == 2.25 and got["clip_frac"] == 0.25 and got["failures"] == 0


def test_the_advice_holds_on_the_held_out_chunks(found):
    best = found["recommended"]
    mixed = np.random.default_rng(0).permutation(500)
    held_out, rest = DATA[mixed[:100]], DATA[mixed[100:]]
    t = FastTokenizer.fit(rest, scale=best["scale"], vocab_size=best["vocab_size"])
    got = measure(t, held_out)
    assert got["rmse"] <= 0.025 and best["meets_rmse"]
    assert got["p999_tokens"] + 2 == best["max_action_tokens"]
    errors = {row["scale"]: row["rmse"] for row in found["scales"]}
    assert all(error > 0.025 for scale, error in errors.items() if scale < best["scale"])
    counts = [row["mean_tokens"] for row in found["vocabularies"]]
    assert counts == sorted(counts, reverse=True)
    assert got["mean_tokens"] <= 1.1 * min(counts)
    assert found["binning"]["mean_tokens"] == 48


def test_round_trips(found):
    assert found["round_trip_failures"]["ours"] == 0
    few = np.concatenate([DATA[:40], 4 * DATA[40:60]])  # held-out extremes that were never fitted
    failed = doctor.diagnose(few, rmse=0.025)["round_trip_failures"]
    assert failed["reference_format"] > 0
    small = doctor.diagnose(DATA, vocab_size=20)
    assert small["round_trip_failures"]["reference_format"] is None


def test_long_chunks_leave_out_scales_whose_alphabet_is_too_large():
    data = np.random.default_rng(0).uniform(1, 2, (20, 3000, 1))
    data[:10] *= -1  # the mean of a chunk is far from that of the set
    tried = [row["scale"] for row in doctor.diagnose(data)["scales"]]
    assert tried == [2, 5, 10, 20]


def test_an_error_that_no_scale_meets():
    best = doctor.diagnose(DATA, rmse=1e-6)["recommended"]
    assert best["scale"] == 50 and not best["meets_rmse"]


@pytest.mark.parametrize("how", ["npy", "npz", "key"])
def test_command_line(tmp_path, capsys, how):
    path = tmp_path / ("a.npy" if how == "npy" else "a.npz")
    if how == "npy":
        np.save(path, DATA)
    else:
        np.savez(path, **{"actions" if how == "npz" else "moves": DATA, "other": DATA[:1]})
    key = ["--key=moves"] if how == "key" else []
    assert command.main([str(path), "--json", "--horizon=6", *key]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["shape"] == [1000, 6, 4]
    assert command.main([str(path), *key]) == 0
    said = capsys.readouterr().out
    assert "500 chunks of 12 steps x 4 dims; binning writes 48 tokens" in said
    assert "recommended: scale=" in said


def test_constant_dims_are_named(tmp_path, capsys):
    data = DATA.copy()
    data[..., 1] = 2.0
    np.save(tmp_path / "a.npy", data)
    assert command.main([str(tmp_path / "a.npy")]) == 0
    assert "constant dims: [1]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arrays", "flags", "says"),
    [
        ("none.npy", None, [], "not found: expected an .npy or .npz"),
        ("a.npz", {"x": DATA, "y": DATA}, [], "has arrays x, y: name one with --key"),
        ("a.npz", {"x": DATA}, ["--key=z"], "has arrays x: name one"),
        ("a.npz", {"x": DATA}, ["--horizon=13"], "horizon is 1 to the 12 steps of an episode"),
        ("a.npz", {"x": DATA}, ["--rmse=-1"], "rmse is a number > 0"),
        ("a.npz", {"x": DATA}, ["--vocab-size=0"], "vocab_size >= 1, got rmse=0.02, vocab_size=0"),
        ("a.npz", {"x": DATA + 1j}, [], "holds complex64, actions are real numbers"),
        ("a.npz", {"x": DATA[:5]}, [], "at least 10 chunks, got 5"),
        ("a.npz", {"x": DATA[0, 0]}, [], "actions are [B, T, A] or [T, A]"),
    ],
)
def test_bad_input(tmp_path, capsys, name, arrays, flags, says):
    if arrays:
        np.savez(tmp_path / name, **arrays)
    assert command.main([str(tmp_path / name), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(tmp_path / name) in line and says in line


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 torn"])
def test_files_that_are_no_arrays(tmp_path, capsys, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert command.main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path} is no .npy or .npz file of numbers: ")


def test_outliers_are_named_and_honest_data_have_none(found):
    assert found["outliers"] == found["constant_dims"] == []
    assert "outliers" not in doctor.text(found) and "constant" not in doctor.text(found)
    data = DATA.copy()
    data[7, 3, 2] = 1e3
    planted = doctor.diagnose(data)
    (row,) = planted["outliers"]
    stats = NormStats.fit(data)
    assert row["dim"] == 2
    want = (1e3 - stats.offset[2]) / stats.scale[2]
    assert row["largest"] == pytest.approx(want, rel=0.1)  # statistics are of four fifths
    assert f"outliers: dim 2 goes to {row['largest']:.1f}" in doctor.text(planted)
    data[7, 3, 2] = np.nan
    with pytest.raises(ValueError, match="sample 7, step 3, dim 2 is nan"):
        doctor.diagnose(data)
