"""The parts of `experiments.guidance`: measures, DNA and its prior, budgets; the command."""

from __future__ import annotations

import csv
import functools
import json
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    guidance,
    guidance_beds,
    guidance_check,
    guidance_compare,
    guidance_designs,
    guidance_dna,
    guidance_measure,
    guidance_methods,
    guidance_plot,
    guidance_prior,
    guidance_ring,
    guidance_sequences,
)
from rlx.guidance import Calls, GuidedOut, one_token, posterior_mean
from rlx.infra import config as configs
from rlx.infra import errors

# Measures.


def test_intervals_of_a_mean_cover_it_and_shrink_with_groups():
    rng = np.random.default_rng(0)
    found = guidance_measure.mean("r", rng.normal(3.0, 1.0, (400, 2)))
    assert found["r_low"] < 3.0 < found["r_high"]
    half = (found["r_high"] - found["r_low"]) / 2
    np.testing.assert_allclose(half, 1.96 / np.sqrt(800), rtol=0.3)


def test_groups_that_repeat_themselves_are_not_taken_for_more_data():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(400, 1))
    alone = guidance_measure.mean("r", own)
    copied = guidance_measure.mean("r", np.repeat(own, 50, axis=1))
    assert copied["r_high"] - copied["r_low"] == pytest.approx(alone["r_high"] - alone["r_low"])


def test_log_of_the_mean_of_exponentials_is_stable():
    log_z = np.array([1000.0, 1001.0, 999.0])
    found = guidance_measure.log_mean("z", log_z)
    assert found["z"] == pytest.approx(1000 + np.log(np.exp([0, 1, -1]).mean()))


def test_kl_of_moments_against_the_formula():
    rng = np.random.default_rng(0)
    m, C = np.array([1.0, -1.0]), np.array([[1.0, 0.3], [0.3, 0.5]])
    x = rng.multivariate_normal([0.5, -1.0], [[2.0, 0.0], [0.0, 0.5]], (20_000, 1))
    mean, S = x[:, 0].mean(0), np.cov(x[:, 0].T, bias=True)
    inverse = np.linalg.inv(C)
    want = 0.5 * (
        np.trace(inverse @ S) - 2 + (mean - m) @ inverse @ (mean - m)
        + np.log(np.linalg.det(C) / np.linalg.det(S))
    )  # fmt: skip
    found = guidance_measure.gaussian_kl(x.astype(np.float32), m, C)
    assert found["distance"] == pytest.approx(want, rel=1e-4)
    assert found["distance_low"] < want < found["distance_high"]


def test_total_variation_counts_half_the_difference():
    index = np.array([[0, 0], [1, 1], [0, 0], [3, 0]])
    found = guidance_measure.total_variation(index, np.array([0.25, 0.25, 0.25, 0.25]))
    assert found["distance"] == pytest.approx(0.5 * (0.375 + 0.0 + 0.25 + 0.125))


def test_the_knob_is_the_largest_that_stays_within_the_budget():
    calls = lambda n: 10 + 7 * n  # noqa: E731
    for budget in (17, 18, 23, 24, 100, 101):
        n = guidance_measure.knob_for(budget, calls)
        assert calls(n) <= budget < calls(n + 1)
    assert guidance_measure.knob_for(16, calls) == 0  # one costs more
    assert guidance_measure.total(Calls(1, 2, 3, 4), 0.5) == 1 + 2 + 1.5 + 8


# DNA.


def test_the_energy_of_a_known_duplex():
    """CGTTGA pairs with its complement at -5.35 kcal/mol (SantaLucia 1998)."""
    ends = jnp.float32([guidance_dna.ENDS[base] for base in guidance_dna.BASES])
    table = jnp.float32(guidance_dna.stacks())
    x = jnp.asarray(guidance_dna.ids("CGTTGA"))
    assert float(guidance_dna.energy(table, ends, x)) == pytest.approx(-5.35, abs=1e-5)
    strand = jnp.asarray((3 - guidance_dna.ids("CGTTGA"))[::-1].copy())
    assert float(guidance_dna.energy(table, ends, strand)) == pytest.approx(-5.35, abs=1e-5)


def test_a_perfect_motif_counts_one_wherever_it_is_and_a_miss_less():
    x = lambda text: jnp.asarray(guidance_dna.ids(text))  # noqa: E731
    motif = guidance_dna.ids("TATAAA")
    for text in ("TATAAAGCGC", "GCGCTATAAA", "GCTATAAAGC"):
        assert float(guidance_dna.match(x(text), motif, 0.85)) == pytest.approx(1.0, abs=1e-5)
    miss = float(guidance_dna.match(x("GCTATACAGC"), motif, 0.85))
    high, low = np.log(0.85 / 0.25), np.log(0.05 / 0.25)
    assert miss == pytest.approx((5 * high + low) / (6 * high), abs=1e-5)


def test_stems_are_windows_that_fold_back_on_each_other():
    x = lambda text: jnp.asarray(guidance_dna.ids(text))  # noqa: E731
    assert float(guidance_dna.stems(x("GCACTTTGTGC"))) == 1  # GCAC ... GTGC, loop of 3
    assert float(guidance_dna.stems(x("GCACTTGTGC"))) == 0  # a loop of 2 is too tight
    assert float(guidance_dna.stems(x("AAAAAAAAAAA"))) == 0


def test_the_held_out_oracle_is_another_one_but_related():
    x = guidance_prior.draw(jax.random.key(0), 500, 24)
    own, other = (
        np.asarray(guidance_dna.reward(oracle)(x))
        for oracle in (guidance_dna.guiding(), guidance_dna.held_out())
    )
    assert 0.5 < np.corrcoef(own, other)[0, 1] < 0.999
    table = guidance_dna.held_out().stacks
    np.testing.assert_allclose(table, table[::-1, ::-1].T)  # the same of both strands


def test_conditionals_of_the_prior_against_all_sequences():
    every = np.array(list(product(range(4), repeat=4)))
    p = np.exp(4 * guidance_prior.log_likelihood(every))
    assert p.sum() == pytest.approx(1.0)
    states = [(4, 4, 4, 4), (0, 4, 4, 2), (4, 1, 4, 4), (3, 2, 1, 4)]
    got = jax.nn.softmax(guidance_prior.exact(jnp.asarray(states)[None], jnp.int32(1)))[0]
    for state, found in zip(states, np.asarray(got), strict=True):
        fit = ((np.array(state) == 4) | (every == state)).all(1)
        for i in np.flatnonzero(np.array(state) == 4):
            want = np.bincount(every[fit, i], p[fit], 4) / p[fit].sum()
            np.testing.assert_allclose(found[i], want, atol=1e-6)


def test_drawn_sequences_have_the_rows_of_the_chain():
    x = np.asarray(guidance_prior.draw(jax.random.key(0), 4_000, 24))
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (x[:, :-1].ravel(), x[:, 1:].ravel()), 1)
    np.testing.assert_allclose(pairs / pairs.sum(1, keepdims=True), guidance_prior.ROWS, atol=0.01)


@pytest.mark.parametrize("budget", [64, 256, 1024, 4096])
@pytest.mark.parametrize("method", guidance_designs.METHODS)
def test_no_method_calls_the_reward_more_often_than_it_may(budget, method):
    process = one_token(guidance_prior.exact, 24, 4)
    oracle = guidance_dna.reward(guidance_dna.guiding())
    value = posterior_mean(process, oracle, samples=0)
    how = guidance_designs.settings(method, budget, 24, 0.1)
    keys = jax.random.split(jax.random.key(0), 1)
    out = jax.eval_shape(functools.partial(sampled, process, value, oracle, how), keys)
    calls = out.nfe.times(out.x0.shape[1]).reward
    assert 0.7 * budget <= calls <= budget


def sampled(process, value, oracle, how, keys):
    return guidance_designs.designed(keys, process, value, oracle, how)


@pytest.mark.parametrize("budget", [256, 1024, 4096])
@pytest.mark.parametrize("method", guidance_designs.EVOLVED)
def test_long_designs_cost_no_more(budget, method):
    how = guidance_designs.settings(method, budget, 200, 0.3)
    steps = 60 if method == "refinement" else 1
    assert how.particles * (1 + how.children * how.rounds * steps) <= budget


@pytest.mark.parametrize("budget", [64, 256, 1024, 4096])
def test_populations_that_are_compared_have_one_size_and_one_start(budget):
    one, other = (guidance_designs.settings(m, budget, 24, 0.1) for m in guidance_designs.EVOLVED)
    assert (one.particles, one.children) == (other.particles, other.children)


def test_columns_of_designs_against_numpy():
    rng = np.random.default_rng(0)
    oracle = guidance_dna.reward(guidance_dna.guiding())
    other = guidance_dna.reward(guidance_dna.held_out())
    ref = guidance_sequences.reference(12, oracle, other)
    x = rng.integers(0, 4, (6, 1, 12))
    x[5] = x[4]
    r = np.asarray(oracle(jnp.asarray(x)))
    zeros = jnp.zeros((6,), int)
    out = GuidedOut(
        jnp.asarray(x), jnp.zeros((6, 1)), jnp.asarray(r), jnp.ones((1, 6)), zeros, zeros > 0,
        nfe=Calls(model=3, reward=2),
    )  # fmt: skip
    row = guidance_sequences.described(out, ref, 0.5)
    assert (
        row["reward_calls"] == 2
        and row["model_calls"] == 3
        and row["unique"] == pytest.approx(5 / 6)
    )
    np.testing.assert_allclose(row["median"], np.median(r))
    np.testing.assert_allclose(row["q90"], np.quantile(r, 0.9))
    held = np.asarray(other(jnp.asarray(x)))[:, 0]
    gain = (r[:, 0] - ref.scale[0]) / ref.scale[1]
    gain -= (held - ref.other_scale[0]) / ref.other_scale[1]
    np.testing.assert_allclose(row["hacking"], gain.mean(), rtol=1e-4)
    words = np.zeros((2, 4, 4, 4))
    sets = (x[:, 0], np.asarray(guidance_prior.draw(jax.random.key(0), 4_000, 12)))
    for count, own in zip(words, sets, strict=True):
        for a, b, c in np.stack([own[:, i : 10 + i].ravel() for i in range(3)], 1):
            count[c, b, a] += 1
    want = np.corrcoef(*words.reshape(2, -1))[0, 1]
    np.testing.assert_allclose(row["kmer_correlation"], want, rtol=1e-6)


def test_a_transformer_trains_on_the_prior_and_gives_logits():
    config = configs.load("configs/guidance.py:quick").denoiser
    network = guidance_prior.trained(config, 12, 0)
    x = jnp.full((2, 3, 12), 4)
    logits = network(x, jnp.int32(12))
    assert logits.shape == (2, 3, 12, 4)
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(np.asarray(logits)).max() > 0


# The beds.


def test_best_of_n_on_the_bed_of_tokens_against_its_law():
    bed = guidance_beds.make("tokens", 0.5, 0)
    best = next(m for m in guidance_methods.SAMPLERS if m.method == "bon")
    row = guidance_compare.row(bed, 2_000, 0, 4, best, 4)
    assert row["calls"] == guidance_compare.calls_at(bed, best, 4) == 4 * 7
    assert row["groups"] == row["samples"] == 2_000
    assert row["reward_low"] < 1.4065152957 < row["reward_high"]
    truth = guidance_compare.exact(bed, 2_000, 0)
    assert truth["reward"] == pytest.approx(1.9627988905)
    assert truth["distance"] < row["distance_low"]


def test_actions_have_the_velocity_and_the_mean_reward_of_their_law():
    rng = np.random.default_rng(0)
    n, t = 400_000, 0.6
    mode = rng.integers(0, 8, n)
    x1 = guidance_ring.CENTERS[mode] + guidance_ring.STD * rng.normal(size=(n, 2))
    x0 = rng.normal(size=(n, 2))
    x = (1 - t) * x0 + t * x1
    at = np.array([0.4, 0.3])
    near = np.exp(-((x - at) ** 2).sum(1) / (2 * 0.03**2))
    want = (near[:, None] * (x1 - x0)).sum(0) / near.sum()
    got = guidance_ring.velocity(jnp.float32(at), jnp.float32(t))
    np.testing.assert_allclose(got, want, atol=0.05)
    apart = ((x1[:, None] - guidance_ring.CENTERS) ** 2).sum(-1)
    share = np.exp(-apart / (2 * 0.25**2))
    share /= share.sum(1, keepdims=True)
    r = (share * (guidance_ring.CENTERS @ guidance_ring.SLOPE - 2 * apart)).sum(1)
    np.testing.assert_allclose(guidance_ring.reward(jnp.float32(x1[:9])), r[:9], atol=1e-5)
    weight = np.exp(r / 0.2)
    want = (weight * r).sum() / weight.sum()
    assert guidance_ring.truth(0.2) == pytest.approx(want, abs=0.01)


# The command.


def test_the_table_and_the_figure_of_rows(tmp_path):
    row = {"bed": "tokens", "method": "SMC", "values": "exact", "calls": 8.0, "groups": 4}
    row |= {"reward": 1.5, "reward_low": 1.0, "reward_high": 2.0}
    row |= {"distance": 0.2, "distance_low": 0.1, "distance_high": 0.3}
    rows = [row, row | {"method": "truth", "values": ""}]
    text = guidance_plot.table({"beds": rows})
    assert "| tokens | SMC | exact | 8 | 1.5 [1, 2] | 0.2 [0.1, 0.3] |  | 4 |" in text
    guidance_plot.draw({"beds": rows}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000


REFUSED = [
    (("--parts=bed",), "unknown part 'bed'; nearest: beds"),
    (("--samples=0",), "beds.samples is a whole number >= 1, got 0"),
    (("--network=cnn",), "unknown network 'cnn'"),
    (("--config.beds.alphas=1.0",), "beds.alphas has one temperature per bed"),
    (("--config.beds.alphas=1.0,0.0",), "beds.alphas is a temperature, > 0, got (1.0, 0.0)"),
    (("--config.actions.alpha=-1",), "actions.alpha is a temperature, > 0, got (-1.0,)"),
    (("--config.designs.budgets=0,64",), "designs.budgets are whole numbers >= 1, got (0, 64)"),
    (("--config.beds.names=gaussian,token",), "unknown bed 'token'; nearest: tokens"),
    (("--parts=",), "parts is one of beds, designs, actions, or several"),
    (("--config.designs.length=5",), "designs.length is >= 6 bases, got 5"),
    (("--config.designs.fraction=-1",), "designs.fraction is a share in (0, 1], got -1"),
    (("--config=configs/guidance.py:cpu",), "unknown config option 'cpu'"),
]


@pytest.mark.parametrize("flags, text", REFUSED)
def test_refusals_are_one_line_with_exit_code_2(flags, text, tmp_path, capsys):
    code = errors.one_line(guidance.main, [*flags, f"--workdir={tmp_path / 'run'}"])
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.startswith("error: ") and text in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_computes_nothing_and_results_are_not_written_over(tmp_path, capsys):
    flags = ["--quick", f"--workdir={tmp_path}"]
    assert errors.one_line(guidance.main, [*flags, "--dry_run"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == ["beds", "designs", "actions"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "beds.csv").write_text("bed\n")
    assert errors.one_line(guidance.main, flags) == 2
    assert f"{tmp_path / 'beds.csv'} is there: --overwrite" in capsys.readouterr().err
    assert (tmp_path / "beds.csv").read_text() == "bed\n"
    guidance_check.claim(tmp_path, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_quick_command_ends_with_the_table_the_figure_and_their_paths(tmp_path, capsys):
    assert errors.one_line(guidance.main, ["--quick", f"--workdir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith(f"written: {tmp_path / 'guidance.md'}")
    assert (tmp_path / "guidance.png").stat().st_size > 20_000
    rows = list(csv.DictReader((tmp_path / "beds.csv").open()))
    methods = {(row["bed"], row["method"]) for row in rows}  # but those beyond so small a budget
    for bed, method in product(("gaussian", "tokens"), ("truth", "best of N", "SVDD", "SMC")):
        assert (bed, method) in methods
    designs = list(csv.DictReader((tmp_path / "designs.csv").open()))
    assert {row["method"] for row in designs} == {"pre-trained", *guidance_designs.METHODS}
    actions = list(csv.DictReader((tmp_path / "actions.csv").open()))
    assert float(actions[-1]["calls"]) == 1 and actions[-1]["method"] == "one-step student"
