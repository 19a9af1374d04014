"""Low-rank updates: shapes, scale, the base at the start, and merging."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from decoder_numpy import jit

from rlx.nn.lora import PROJECTIONS, Lora, Projection, merge_lora
from rlx.nn.transformer import Decoder, Variant
from rlx.ops import masks

SIZES = dict(b=2, s=3, d=6, n=4, h=5, k=2, c=2, f=7)


def made(kind, lora):
    inputs, weights = PROJECTIONS[kind].split("->")[0].split(",")
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=[SIZES[i] for i in inputs]))
    net = Projection(kind, tuple(SIZES[i] for i in weights), lora)
    params = jit(net.init)(jax.random.key(0), x)["params"]
    return net, params, x, rng


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("stable", [False, True])
def test_update_is_the_scaled_product_of_its_factors(kind, stable):
    lora = Lora(rank=3, alpha=7.0, rank_stabilized=stable)
    net, params, x, rng = made(kind, lora)
    assert not params["lora_b"].any() and params["lora_a"].any()
    base = Projection(kind, net.shape)
    np.testing.assert_array_equal(
        net.apply({"params": params}, x), base.apply({"params": {"w": params["w"]}}, x)
    )
    params["lora_b"] = np.float32(rng.normal(size=params["lora_b"].shape))
    a, b, w = (np.asarray(params[k], np.float64) for k in ("lora_a", "lora_b", "w"))
    if kind in ("kv", "gating"):  # stacked: every part has its own A and B
        update = np.stack([np.tensordot(a[i], b[i], 1) for i in range(2)])
    else:
        update = np.tensordot(a, b, 1)
    if kind in (
        "q",
        "kv",
    ):  # the product is (width, heads, size), w (heads, width, size)
        update = np.moveaxis(update, -3, -2)
    scale = 7.0 / (3**0.5 if stable else 3)
    want = np.einsum(PROJECTIONS[kind], x, w + scale * update)
    np.testing.assert_allclose(net.apply({"params": params}, x), want, atol=1e-4)


def test_initial_outputs_have_unit_variance_for_unit_inputs():
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(2, 50, 64)))
    for kind, shape in (("q", (4, 64, 16)), ("kv", (2, 2, 64, 16)), ("gating", (2, 64, 96))):
        net = Projection(kind, shape)
        y = jit(lambda key, net=net: net.apply(net.init(key, x), x))(jax.random.key(0))
        assert np.std(y) == pytest.approx(1.0, rel=0.1)


def test_merging_a_whole_decoder_keeps_its_outputs():
    lora = Lora(2, 3.0)
    shape, B, S = Variant(8, 2, 12, 2, 1, 4), 2, 5
    net = Decoder(shape, 7, lora=lora)
    rng = np.random.default_rng(0)
    segment = np.ones((B, S), np.int32)
    args = (
        np.float32(rng.normal(size=(B, S, 8))),
        masks.positions(segment),
        masks.prefix_lm(segment > 0, segment),
    )
    params = jit(net.init)(jax.random.key(0), *args)["params"]
    base = Decoder(shape, 7)
    programs = {n: jit(lambda p, n=n: n.apply({"params": p}, *args)[0]) for n in (net, base)}
    run = lambda net, params: programs[net](params)  # noqa: E731
    plain = jax.tree.map(np.asarray, merge_lora(params, lora))
    np.testing.assert_array_equal(  # B = 0: the pretrained function, bit for bit
        run(net, params), run(base, plain)
    )
    params = jax.tree.map(lambda x: x + np.float32(0.1 * rng.normal(size=x.shape)), params)
    merged = merge_lora(params, lora)
    assert jax.tree.structure(merged) == jax.tree.structure(
        jax.eval_shape(base.init, jax.random.key(0), *args)["params"]
    )
    want = run(net, params)
    np.testing.assert_allclose(run(base, merged), want, atol=1e-5)
    assert np.abs(run(base, plain) - want).max() > 0.1
