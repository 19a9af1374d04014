"""The decoder against a float64 NumPy reading of the equations, and its invariants."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import jit, norm, numpy_decoder

from rlx.nn.transformer import VARIANTS, Decoder, Variant, variant
from rlx.ops import masks

SMALL = Variant(12, 2, 10, 4, 2, 6)
V, B, S = 9, 2, 7
SEGMENT = np.array([[1] * 7, [1] * 5 + [0] * 2], np.int32)
AR = np.tile(np.arange(S) >= 3, (B, 1))
SHAPES = {
    "gemma": SMALL,
    "one key head": SMALL._replace(kv=1),
    "plain": SMALL._replace(gated=False, max_positions=16, tied=False),
}


@functools.cache
def built(name, **options):
    net = Decoder(SHAPES[name], V, **options)
    params = jit(net.init)(jax.random.key(0), *inputs(SHAPES[name]))["params"]
    rng = np.random.default_rng(0)
    return net, jax.tree.map(lambda x: x + np.float32(0.2 * rng.normal(size=x.shape)), params)


def inputs(shape, seed=0):
    x = np.float32(np.random.default_rng(seed).normal(size=(B, S, shape.width)))
    return x, masks.positions(SEGMENT), masks.prefix_lm(AR, SEGMENT)


@pytest.mark.parametrize("name", SHAPES)
def test_against_numpy(name):
    net, params = built(name)
    x, positions, mask = inputs(net.variant)
    y, _ = jit(net.apply)({"params": params}, x, positions, mask)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for b in range(B):
        want = numpy_decoder(p, net.variant, x[b], np.asarray(positions)[b], np.asarray(mask)[b])
        valid = SEGMENT[b] > 0
        np.testing.assert_allclose(y[b][valid], want[valid], atol=2e-4)
    logits = net.apply({"params": params}, y, method="logits")
    head = p["embedding"] if net.variant.tied else p["head"]
    np.testing.assert_allclose(logits, np.asarray(y) @ head.T, atol=1e-4)
    tokens = np.array([[3, 1]])
    embedded = net.apply({"params": params}, tokens, method="embed")
    np.testing.assert_allclose(embedded, p["embedding"][tokens] * np.sqrt(12), atol=1e-5)


def test_prefix_suffix_and_padding_see_what_they_may():
    """Perturb each token in turn: outputs move exactly where the mask says."""
    net, params = built("gemma")
    x, positions, mask = inputs(net.variant)
    run = jit(lambda x: net.apply({"params": params}, x, positions, mask)[0])
    base = run(x)
    assert np.isfinite(base).all()  # padding's rows of the softmax are guarded
    for j in range(S):
        changed = x.copy()
        changed[:, j] += 1.0
        moved = np.abs(run(changed) - base).max(-1) > 0
        itself = np.arange(S) == j
        want = np.asarray(mask)[:, :, j] | itself  # padding keeps its own residual stream
        np.testing.assert_array_equal(moved, want)


def test_remat_changes_nothing_and_bf16_computes_with_float32_params():
    net, params = built("gemma")
    args = inputs(net.variant)
    loss = lambda net: lambda p: (net.apply({"params": p}, *args)[0] ** 3).sum()  # noqa: E731
    plain = jit(jax.grad(loss(net)))(params)
    again = jit(jax.grad(loss(net.clone(remat=True))))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)
    half = net.clone(dtype=jnp.bfloat16)
    made = jax.eval_shape(half.init, jax.random.key(0), *args)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}
    y, kv = jit(half.apply)({"params": params}, *args)
    assert y.dtype == kv[0].dtype == jnp.bfloat16
    full, _ = jit(net.apply)({"params": params}, *args)
    np.testing.assert_allclose(y.astype(np.float32), full, atol=0.15)


def test_adaptive_norms_start_as_the_identity_and_then_follow_the_condition():
    net = Decoder(SMALL)
    x, positions, mask = inputs(SMALL)
    cond = np.float32(np.random.default_rng(1).normal(size=(B, 5)))
    params = jit(net.init)(jax.random.key(0), x, positions, mask, None, cond)
    apply = jit(net.apply)
    y, _ = apply(params, x, positions, mask, None, cond)
    np.testing.assert_allclose(y, norm(x, 0.0), atol=1e-5)
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda p: p + np.float32(0.2 * rng.normal(size=p.shape)), params)
    run = lambda cond: apply(params, x, positions, mask, None, cond)[0]  # noqa: E731
    moved = np.abs(run(cond) - run(np.stack([cond[0], 2 * cond[1]]))).max((1, 2))
    assert moved[0] == 0 and moved[1] > 0.1


@pytest.mark.parametrize(("name", "billions"), [("gemma_2b", 1.98), ("gemma_300m", 0.311)], ids=str)
def test_sizes_of_the_published_variants(name, billions):
    net = Decoder(variant(name))
    width = net.variant.width
    shapes = (jnp.zeros((1, 2, width)), jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2, 2), bool))
    made = jax.eval_shape(net.init, jax.random.key(0), *shapes)
    count = sum(leaf.size for leaf in jax.tree.leaves(made))
    assert count == pytest.approx(billions * 1e9, rel=0.005)


def test_every_variant_is_sound_and_an_unknown_one_is_named():
    for v in VARIANTS.values():
        assert v.heads % v.kv == 0 and v.head_dim % 2 == 0
    with pytest.raises(ValueError, match=r"unknown decoder 'gema_2b'; nearest: gemma_2b"):
        variant("gema_2b")
