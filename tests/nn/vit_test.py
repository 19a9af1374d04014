"""The image encoder against float64 NumPy, patch by patch and head by head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import f64, gelu, jit

from rlx.nn.vit import VARIANTS, ViT, ViTVariant, variant

SMALL = ViTVariant(width=8, depth=2, mlp=12, heads=2, patch=3, image=6)


def layer_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def numpy_vit(p, v, image):
    side = v.image // v.patch
    x = np.zeros((v.tokens, v.width))
    for i in range(side):
        for j in range(side):
            patch = image[i * v.patch : (i + 1) * v.patch, j * v.patch : (j + 1) * v.patch]
            x[i * side + j] = np.einsum("hwc,hwcd->d", patch, p["embedding"]["kernel"])
    x = x + p["embedding"]["bias"] + p["positions"]
    for layer in range(v.depth):
        q = jax.tree.map(lambda leaf: leaf[layer], p["layers"])
        y, out = layer_norm(q["attention_norm"], x), np.zeros_like(x)
        for head in range(v.heads):
            query, key, value = (
                y @ q[name]["kernel"][:, head] + q[name]["bias"][head]
                for name in ("query", "key", "value")
            )
            weight = np.exp(query @ key.T / np.sqrt(v.width // v.heads))
            out += weight / weight.sum(-1, keepdims=True) @ value @ q["out"]["kernel"][head]
        x = x + out + q["out"]["bias"]
        y = layer_norm(q["mlp_norm"], x)
        hidden = gelu(y @ q["up"]["kernel"] + q["up"]["bias"])
        x = x + hidden @ q["down"]["kernel"] + q["down"]["bias"]
    x = layer_norm(p["final_norm"], x)
    return x @ p["head"]["kernel"] + p["head"]["bias"]


def test_against_numpy_with_and_without_remat():
    net = ViT(SMALL, out=5)
    rng = np.random.default_rng(0)
    images = np.float32(rng.uniform(-1, 1, size=(2, 6, 6, 3)))
    params = jit(net.init)(jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: x + np.float32(0.2 * rng.normal(size=x.shape)), params)
    out = jit(net.apply)({"params": params}, images)
    for b in range(2):
        np.testing.assert_allclose(out[b], numpy_vit(f64(params), SMALL, images[b]), atol=2e-4)
    loss = lambda net: lambda p: (net.apply({"params": p}, images) ** 2).sum()  # noqa: E731
    plain, again = (jit(jax.grad(loss(n)))(params) for n in (net, net.clone(remat=True)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, again)
    half = net.clone(dtype=jnp.bfloat16)
    assert jax.eval_shape(half.apply, {"params": params}, images).dtype == jnp.bfloat16


def test_published_size_and_names():
    v = variant("so400m")
    net = ViT(v, out=2048)
    made = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    count = sum(leaf.size for leaf in jax.tree.leaves(made))
    assert count == pytest.approx(412e6 + 1152 * 2048, rel=0.005)  # 412 M before the head
    assert v.tokens == 256 and variant("tiny").tokens == 16
    assert all(x.image % x.patch == 0 and x.width % x.heads == 0 for x in VARIANTS.values())
    with pytest.raises(ValueError, match="unknown vit 'so400'; nearest: so400m"):
        variant("so400")
