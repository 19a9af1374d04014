"""The curve figure: its curves, its tokens, and that what is said is likeliest."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import fast_toy
from experiments.fast_toy_data import TRAIN, Run, curves, tokenizer
from experiments.fast_toy_model import outputs, say
from experiments.fast_toy_train import begin
from rlx.infra import files
from rlx.infra.errors import ConfigError
from rlx.nn.transformer import Decoder, Variant


def test_curves_are_cubics_through_their_points():
    y, x = curves(31, 0)
    np.testing.assert_allclose(x[:, ::10] * 1.5, np.clip(y, -1.5, 1.5), atol=1e-5)
    third = np.diff(x.astype(np.float64), n=4, axis=1)  # of a cubic the fourth differences vanish
    inside = np.abs(x).max(1) < 1
    assert inside.mean() > 0.5 and np.abs(third[inside]).max() < 1e-5


def test_vocabularies_are_what_the_figure_says():
    alone = tokenizer("fast", 25, 0, 0).vocab_size
    assert tokenizer("fast", 25, 32, 0).vocab_size == alone + 32
    assert tokenizer("naive", 25, 256, 0).vocab_size == 256


def test_greedy_tokens_are_the_likeliest_after_each_other():
    run, T, V = Run("fast", 6, 0, 0, 2), 6, 9
    net = Decoder(Variant(16, 1, 32, 2, 2, 8, False, 4 + T, False), V + 1)
    params = begin(net, run)[0]
    y = curves(25, 0)[0][TRAIN : TRAIN + 5]
    said = np.asarray(say(net, T, V, params, y))
    tokens = np.where(said < 0, V, said)  # the end where a row has ended
    out = outputs(net, params, y, tokens)
    likeliest = np.asarray(net.apply(params["net"], out, method="logits").argmax(-1))
    going = np.cumsum(said < 0, axis=1) <= 1  # up to the first end
    np.testing.assert_array_equal(likeliest[going], tokens[going])


def test_the_command_line_goes_on_where_it_was(tmp_path, capsys):
    flags = ["--T=8", "--steps=2", "--seeds=1", f"--workdir={tmp_path}"]
    assert fast_toy.main(flags) == 0
    rows = files.read_csv(tmp_path / "toy.csv")
    assert [row["variant"] for row in rows] == ["naive", "fast"]
    assert all(np.isfinite(float(row["mse"])) for row in rows)
    assert float(rows[0]["next_step_mse"]) >= 0 and rows[1]["next_step_mse"] == ""
    assert (tmp_path / "toy.png").exists()
    capsys.readouterr()
    assert fast_toy.main(flags) == 0
    assert "..." not in capsys.readouterr().err
    assert files.read_csv(tmp_path / "toy.csv") == rows
    assert fast_toy.main([*flags, "--steps=3"]) == 0  # longer ones stand apart
    said = capsys.readouterr().out
    longer = [row for row in files.read_csv(tmp_path / "toy.csv") if row["steps"] == "3"]
    assert len(longer) == 2 and f"{float(longer[0]['mse']):.4f}" in said
    assert f"{float(rows[0]['mse']):.4f}" not in said
    with pytest.raises(ConfigError, match="--T is a list of whole numbers, got 'x'"):
        fast_toy.main(["--T=x"])


def test_learning_lowers_the_loss():
    from experiments.fast_toy_train import train

    losses = [train(Run("fast", 8, 8, 0, steps))["train_nll"] for steps in (2, 100)]
    assert losses[1] < losses[0] - 0.5
