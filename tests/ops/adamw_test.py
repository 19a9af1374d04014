"""The optimiser, its schedule and what it steps on, against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops import partition
from rlx.ops.accumulate import accumulated
from rlx.ops.adamw import adamw, begin
from rlx.ops.schedule import learning_rate


def test_three_steps_against_numpy():
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 2)), "b": {"c": rng.normal(size=4)}}
    hp = {"max_grad_norm": jnp.float32(1.0), "weight_decay": jnp.float32(0.1)}
    got = jax.tree.map(jnp.float32, params)
    state = begin(got)
    flat = np.concatenate([params["a"].ravel(), params["b"]["c"]])
    m, v, lr = np.zeros(10), np.zeros(10), 0.01
    for step in range(1, 4):
        g = rng.normal(size=10) * (0.1 if step == 2 else 2.0)  # step 2 is below the clip
        grads = {"a": jnp.float32(g[:6].reshape(3, 2)), "b": {"c": jnp.float32(g[6:])}}
        got, state, norms = adamw(got, state, grads, jnp.float32(lr), hp)
        np.testing.assert_allclose(norms["grad_norm"], np.linalg.norm(g), rtol=1e-5)
        np.testing.assert_allclose(norms["param_norm"], np.linalg.norm(flat), rtol=1e-5)
        g = g * min(1.0, 1.0 / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        hat = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
        move = -lr * (hat + 0.1 * flat)
        np.testing.assert_allclose(norms["update_norm"], np.linalg.norm(move), rtol=1e-4)
        flat = flat + move
        np.testing.assert_allclose(got["a"].ravel(), flat[:6], atol=1e-5)
        np.testing.assert_allclose(got["b"]["c"], flat[6:], atol=1e-5)
    broken = {"a": grads["a"].at[0, 0].set(jnp.nan), "b": grads["b"]}
    after, state, norms = adamw(got, state, broken, jnp.float32(lr), hp)
    jax.tree.map(np.testing.assert_array_equal, after, got)
    assert np.isnan(norms["grad_norm"]) and np.isfinite(state.nu["a"]).all()


def test_learning_rates():
    hp = {"lr": 2.0, "lr_end": 0.1, "warmup_steps": 10.0, "decay_steps": 110.0}
    hp = {name: jnp.float32(value) for name, value in hp.items()}
    at = lambda kind, step, hp=hp: float(learning_rate(kind, jnp.int32(step), hp))  # noqa: E731
    for kind in ("constant", "cosine"):
        np.testing.assert_allclose([at(kind, s) for s in (0, 4, 9)], [0.2, 1.0, 2.0], rtol=1e-6)
    assert at("constant", 5000) == 2.0
    np.testing.assert_allclose(at("cosine", 60), 2.0 * (0.1 + 0.9 * 0.5), rtol=1e-5)
    np.testing.assert_allclose([at("cosine", s) for s in (110, 999)], [0.2, 0.2], rtol=1e-5)
    assert at("constant", 0, hp | {"warmup_steps": jnp.float32(0.0)}) == 2.0


def test_slices_average_what_the_whole_gives_and_take_every_kth_row():
    x = jnp.float32(np.random.default_rng(1).normal(size=(12, 3)))
    keys = jax.random.split(jax.random.key(0), 12)
    grad = lambda x, keys: (x.mean(0), jax.vmap(jax.random.uniform)(keys).mean())  # noqa: E731
    want = grad(x, keys)
    for slices in (1, 2, 6):
        got = accumulated(grad, slices, x, keys)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)
    spread = accumulated(lambda x: x.max() - x.min(), 4, jnp.arange(8.0))
    assert spread == 4.0  # rows i and i + 4
    with pytest.raises(ValueError, match="accumulate = 5 does not divide the batch of 12 rows"):
        accumulated(grad, 5, x, keys)


def test_what_is_frozen_is_named_by_paths():
    tree = {"llm": {"q": {"w": 1, "lora_a": 2}, "table": 3}, "img": {"head": 4}}
    learned, frozen = partition.split(tree, "llm", "lora")
    assert partition.paths(learned) == {"llm/q/lora_a": 2, "img/head": 4}
    assert partition.paths(frozen) == {"llm/q/w": 1, "llm/table": 3}
    assert partition.merge(learned, frozen) == tree
    assert partition.split(tree, "", "")[1] == {}
    assert partition.split(tree, "llm/q/w$")[1] == {"llm": {"q": {"w": 1}}}
