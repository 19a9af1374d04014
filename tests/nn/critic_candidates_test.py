"""Critics of several actions per observation: the values of one by one, an image encoded once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.nn import encoders
from rlx.nn.critic import Critic

B, N, A = 3, 16, 2


def made(encoder: str):
    shape = (64, 64, 3) if encoder else (5,)
    obs = jnp.asarray(np.random.default_rng(0).integers(0, 256, (B, *shape)), jnp.uint8)
    obs = obs if encoder else obs / 255.0
    action = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (B, N, A)), jnp.float32)
    net = Critic((8, 8), 2, True, encoders.make(encoder))
    return net, net.init(jax.random.key(0), obs, action[:, 0]), obs, action


@pytest.mark.parametrize("encoder", ["", "impala_small"])
def test_candidates_are_worth_what_each_is_worth_alone(encoder):
    net, params, obs, action = made(encoder)
    together = net.apply(params, obs, action)
    assert together.shape == (2, B, N)
    alone = [net.apply(params, obs, action[:, n]) for n in range(N)]
    np.testing.assert_allclose(together, np.stack(alone, -1), rtol=1e-5, atol=1e-6)
    assert np.std(together, axis=-1).min() > 1e-4  # the actions matter


def test_an_image_is_encoded_once_for_all_its_candidates():
    net, params, obs, action = made("impala_small")

    def flops(action: jax.Array) -> float:
        compiled = jax.jit(net.apply).lower(params, obs, action).compile()
        return compiled.cost_analysis()["flops"]

    assert flops(action) < 1.1 * flops(action[:, 0])
