"""Beam search, tree search and refinement: against brute force, the target, and each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.guidance import Calls, Config, guide
from rlx.guidance.beam import best_leaves
from rlx.guidance.mcts import Tree, backed_up, puct
from rlx.guidance.testbeds import markov_chain

BED = markov_chain.reference()
PROCESS, REWARD, TILT = BED.process(), BED.reward(), BED.tilt(0.5)


def run(method, value, n, designs=None, **settings):
    keys = jax.random.split(jax.random.key(0), n)
    return guide(keys, PROCESS, value, REWARD, Config(method=method, **settings), designs=designs)


def test_leaves_that_survive():
    path = jnp.array([[0.0, 5.0, 4.0, 4.5], [1.0, -jnp.inf, 0.0, 2.0]])
    assert best_leaves(path, 2, 1).tolist() == [[1, 3], [3, 0]]  # the best of all
    assert best_leaves(path, 2, 2).tolist() == [[1, 3], [0, 3]]  # the best of each beam


def test_beam_search_with_the_exact_value_finds_the_best_sequence():
    out = run("beam", BED.value(0.05), 16, particles=8, children=8)
    assert out.reward.max(1).mean() == 3.0 and out.reward.mean() > 2.8
    assert out.ess.min() < 8  # beams die
    assert out.nfe == Calls(model=6, value=5 * 8, reward=8)


def test_a_lookahead_scores_paths_and_keeps_every_beam():
    out = run("beam", BED.value(0.5), 32, particles=4, children=3, depth=3)
    np.testing.assert_array_equal(out.ess, 4.0)
    np.testing.assert_array_equal(out.ancestors, np.broadcast_to(np.arange(4), out.ancestors.shape))
    assert (
        out.reward.mean()
        > run("svdd", BED.value(0.5), 32, particles=4, children=3).reward.mean() - 0.3
    )
    # levels 5 4 3 | 2 1 0 of 3, 9, 27 rows, the parents' calls 1 3 9 twice
    assert out.nfe == Calls(model=26, value=3 + 9 + 27 + 3 + 9, reward=27)


def test_a_search_schedule_looks_less_often():
    rewards = {
        search: run("beam", BED.value(0.5), 32, particles=4, children=3, depth=2, search=search)
        for search in ("all", "exponential")
    }
    # at t = 6, 4, 2 with chances 0.98, 0.93, 0.74
    assert rewards["exponential"].reward.mean() < rewards["all"].reward.mean()


def test_selection_score_of_tree_search():
    """Values are scaled over the levels below the root; a place without a node counts nowhere."""
    q = jnp.array([[[[7.0, 0, 0, 0], [1.0, 3.0, 2.0, 9.0], [5.0, -jnp.inf, 2.0, -4.0]]]])
    visits = jnp.array([[[[9, 0, 0, 0], [4, 1, 0, 0], [1, 1, 1, 0]]]])
    parent = jnp.array([[[[-1] * 4, [0, 0, 0, -1], [0, 0, 1, -1]]]])
    tree = Tree(q, None, q, q, visits, parent)
    score = puct(tree, 1, jnp.array([[9]]), Config(exploration=0.5))
    scaled = (np.array([1.0, 3.0, 2.0]) - 1.0) / (5.0 - 1.0)
    np.testing.assert_allclose(score[0, 0, :3], scaled + 0.5 * 3 / (1 + np.array([4, 1, 0])))
    below = puct(tree, 2, jnp.array([[4]]), Config(exploration=0.0))
    np.testing.assert_allclose(below[0, 0, :3], [1.0, 0.0, 0.25])


@pytest.mark.parametrize("backup", ["mean", "max", "soft"])
def test_values_come_back_along_the_walk(backup):
    """Two walks through one child of the root, worth 1 and 4 at the bottom."""
    zeros = jnp.zeros((1, 1, 3, 2))
    config = Config(depth=2, simulations=2, backup=backup, alpha=jnp.array([0.5]))
    tree = Tree(zeros, None, zeros, zeros, zeros.astype(int), jnp.full((1, 1, 3, 2), -1))
    tree = tree._replace(parent=tree.parent.at[0, 0, 1, 0].set(0).at[0, 0, 2, :].set(0))
    tree = tree._replace(v=zeros.at[0, 0, 2].set(jnp.array([1.0, 4.0])))
    tree = tree._replace(q=tree.v)
    for walk in (0, 1):
        tree = backed_up(tree, jnp.array([[[0, 0, walk]]]), config)
    want = {"mean": 2.5, "max": 4.0, "soft": 0.5 * np.log((np.exp(2) + np.exp(8)) / 2)}[backup]
    assert float(tree.q[0, 0, 1, 0]) == pytest.approx(want, rel=1e-5)
    assert float(tree.q[0, 0, 0, 0]) == pytest.approx(want, rel=1e-5)
    assert tree.visits[0, 0].tolist() == [[2, 0], [2, 0], [1, 1]]


@pytest.mark.parametrize(("alpha", "backup"), [(0.0, "mean"), (0.0, "max"), (0.5, "soft")])
def test_tree_search_beats_chance_at_its_cost(alpha, backup):
    out = run(
        "mcts", BED.value(0.5), 32, alpha=alpha, backup=backup,
        particles=4, simulations=12, depth=2, children=6,
    )  # fmt: skip
    assert out.reward.mean() > {0.0: 2.0, 0.5: 1.2}[alpha]
    assert out.nfe == Calls(model=6 * 12, value=5 * 12, reward=12)
    assert (out.ess >= 1).all() and not out.collapsed.any()


def test_a_round_of_refinement_leaves_the_target_as_it_is():
    """Exact samples in, exact samples out: masking and denoising by p* is a block Gibbs step."""
    B, N = 100, 64
    rows = np.random.default_rng(0).choice(TILT.size, (B, N), p=TILT.ravel())
    designs = jnp.asarray(BED.sequences()[rows], jnp.int32)
    out = run(
        "rerd", BED.value(0.5), B, designs, alpha=0.5, particles=N, children=64, rounds=1,
        fraction=1 / 3, global_resampling=False,
    )  # fmt: skip
    error = np.asarray(out.reward).mean(1).std() / B**0.5
    assert abs(out.reward.mean() - BED.mean_reward(TILT)) < 4 * error + 0.01
    distance = 0.5 * np.abs(BED.law_of(out.x0) - TILT).sum()
    floor = 0.5 * np.abs(BED.law_of(designs) - TILT).sum()
    assert distance < floor + 0.02
    changed = (np.asarray(out.x0) != np.asarray(designs)).sum(-1)
    assert changed.max() == 2 and changed.mean() > 0.3  # a third of six positions at most


def test_refinement_with_selection_climbs_and_remembers_the_best():
    settings = dict(alpha=0.0, particles=10, children=4, fraction=1 / 3)
    out = run("rerd", BED.value(0.5, "mode"), 32, rounds=5, **settings)
    assert out.reward.mean() > 2.6  # one pass of SVDD: 2.3
    best = BED.r[tuple(np.moveaxis(np.asarray(out.archive), -1, 0))]
    assert (best >= np.asarray(out.reward).max(1) - 1e-6).all()
    # one pass of six steps and five of two, four children each
    assert out.nfe.reward == 4 + 5 * 4 and out.ancestors.shape == (5, 32, 10)


def test_refinement_beats_the_genetic_algorithm_at_equal_rewards():
    settings = dict(alpha=0.0, particles=10, children=4, fraction=1 / 3, rounds=5)
    ga = run("ga", None, 32, **settings)
    assert ga.nfe == Calls(model=6, reward=1 + 5 * 4)
    assert run("rerd", BED.value(0.5, "mode"), 32, **settings).reward.mean() > ga.reward.mean()
    assert ga.reward.mean() > 1.5  # and that beats the 0.49 of the pre-trained law


def test_mutations_touch_only_their_share_of_positions():
    designs = jnp.zeros((4, 10, 6), jnp.int32)
    out = run("ga", None, 4, designs, particles=10, children=1, fraction=0.5, rounds=1, alpha=0.0)
    changed = np.asarray(out.x0) != 0
    assert changed.sum(-1).max() <= 3 and changed.mean() == pytest.approx(3 / 6 * 3 / 4, abs=0.08)
