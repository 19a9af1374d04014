"""The formula against what the compiler counts of the compiled program.

The compiler counts the body of a scan once, so the networks here have one layer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from rlx.nn import flops
from rlx.nn.transformer import Decoder, Variant
from rlx.nn.vit import ViT, ViTVariant
from rlx.ops.token_loss import token_scores

B, S, V = 2, 48, 96
WIDE = Variant(256, 1, 512, 4, 1, 64)


def counted(function, *args):
    found = jax.jit(function).lower(*args).compile().cost_analysis()
    return (found[0] if isinstance(found, list) else found)["flops"]


@pytest.mark.parametrize("plain", [False, True])
def test_decoder_forward_and_training(plain):
    v = WIDE._replace(gated=False) if plain else WIDE
    net = Decoder(v, V)
    x, one = jnp.zeros((B, S, v.width)), jnp.zeros((B, S), jnp.int32)
    mask = jnp.ones((B, S, S), bool)
    params = jax.eval_shape(net.init, jax.random.key(0), x, one, mask)

    def loss(params, x):
        y, _ = net.apply(params, x, one, mask)
        head = net.apply(params, method="head")
        return token_scores(y, head, one, one == 0).nll.sum()

    forward = B * flops.decoder(v, S, S, S, V)
    assert counted(loss, params, x) == pytest.approx(forward, rel=0.05)
    # The logits of the loss are computed again in the backward pass.
    again = B * flops.decoder(v._replace(depth=0), S, S, S, V)
    training = counted(jax.grad(loss, (0, 1)), params, x)
    assert training == pytest.approx(flops.TRAINING * forward + again, rel=0.05)


def test_vit_forward():
    v = ViTVariant(128, 1, 256, 4, 8, 64)
    net, images = ViT(v, out=96), jnp.zeros((B, 64, 64, 3))
    params = jax.eval_shape(net.init, jax.random.key(0), images)
    found = counted(net.apply, params, images)
    assert found == pytest.approx(B * flops.vit(v, 96), rel=0.05)
