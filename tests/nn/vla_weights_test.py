"""Pretrained weights by the config of `experiments.vla`: where they lie, and whose token rows."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import vla_toys as toys
from pretrained_test import npz_names

from configs import vla as vla_config
from experiments import vla_weights
from rlx.agents import vla
from rlx.infra.errors import ConfigError

THEIRS = toys.VOCAB + 50  # rows of their token table


@pytest.fixture(scope="module")
def state():
    return toys.begin(toys.make(("base",)))


@pytest.fixture(scope="module")
def written(state, tmp_path_factory):
    """A checkpoint whose token table is longer than ours, and the row of each of our ids."""
    folder, rng = tmp_path_factory.mktemp("weights"), np.random.default_rng(0)
    wild = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), vla.policy(state))
    names = npz_names(wild)
    rows = rng.permutation(THEIRS)[: toys.VOCAB]
    table = np.float32(rng.normal(size=(THEIRS, wild["llm"]["embedding"].shape[1])))
    table[rows] = wild["llm"]["embedding"]
    names["llm/embedder/input_embedding"] = table
    np.savez(folder / "pt.npz", **names)
    np.save(folder / "rows.npy", rows)
    return folder, wild


def config(folder, **changes):
    made = vla_config.get_config()
    made.weights.update({"path": str(folder / "pt.npz"), **changes})
    return made


def test_rows_pick_our_tokens_from_a_larger_table(state, written):
    folder, wild = written
    fill = vla_weights.loader(config(folder, rows=str(folder / "rows.npy")))
    found = vla.policy(fill(state))
    np.testing.assert_array_equal(found["llm"]["embedding"], wild["llm"]["embedding"])
    jax.tree.map(np.testing.assert_array_equal, found["img"], wild["img"])


def test_what_does_not_fit_is_refused_by_name(state, written, tmp_path):
    folder, _ = written
    with pytest.raises(ValueError, match="a smaller vocabulary takes `rows`"):
        vla_weights.loader(config(folder))(state)
    with pytest.raises(ConfigError, match=r"weights.rows = 'nowhere.npy' is not there"):
        vla_weights.loader(config(folder, rows="nowhere.npy"))
    with pytest.raises(ConfigError, match=r"weights.path = '.*other.npz' does not exist"):
        vla_weights.loader(config(folder, path=str(tmp_path / "other.npz")))
    with pytest.raises(ConfigError, match=r"weights.layout is one of .*, got 'torch'"):
        vla_weights.loader(config(folder, layout="torch"))
    np.save(tmp_path / "short.npy", np.arange(3))
    with pytest.raises(ValueError, match=f"rows are {toys.VOCAB} row numbers below {THEIRS}"):
        vla_weights.loader(config(folder, rows=str(tmp_path / "short.npy")))(state)
