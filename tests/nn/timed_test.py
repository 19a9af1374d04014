"""Networks of a state and a time: what they start as and what they see."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numeric import f64, mlp

from rlx.nn import timed

N = 3


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_a_value_of_vectors_against_numpy():
    net = timed.TimedValue((8, 8), time_features=4)
    rng = np.random.default_rng(0)
    obs, x = rng.normal(size=(N, 2)), rng.normal(size=(N, 3))
    t = np.array([1, 5, 9])
    seen = [jnp.float32(obs), jnp.float32(x), jnp.asarray(t)]
    params = net.init(jax.random.key(0), *seen)
    angles = t[:, None] * np.array([1.0, 1e-4])
    joined = np.concatenate([obs, x, np.sin(angles), np.cos(angles)], 1)
    want = mlp({"params": f64(params)["params"]["MLP_0"]}, joined, gelu)[:, 0]
    np.testing.assert_allclose(net.apply(params, *seen), want, rtol=1e-4, atol=1e-5)


def test_a_value_sees_tokens_as_their_one_hots():
    net = timed.TimedValue((8,), tokens=3)
    x = jnp.asarray([[0, 3, 1], [2, 2, 3]])
    obs, t = jnp.zeros((2, 0)), jnp.asarray([1, 1])
    params = net.init(jax.random.key(0), obs, x, t)
    soft = net.apply(params, obs, jax.nn.one_hot(x, 4), t)
    np.testing.assert_array_equal(net.apply(params, obs, x, t), soft)


def test_denoisers_start_at_zero_and_learn_from_there():
    obs, t = jnp.ones((N, 2)), jnp.asarray([1, 2, 3])
    x = jax.nn.one_hot(jnp.asarray([[0, 3], [3, 3], [1, 2]]), 4)
    nets = {
        "vectors": (timed.TimedDenoiser((8,), 2), jnp.ones((N, 2))),
        "mlp": (timed.MaskedMLP((8,), 3, 2), x),
        "transformer": (timed.MaskedTransformer(16, 2, 2, 3), x),
    }
    for name, (net, state) in nets.items():
        params = net.init(jax.random.key(0), obs, state, t)
        out = net.apply(params, obs, state, t)
        assert out.shape == ((N, 2) if name == "vectors" else (N, 2, 3)), name
        np.testing.assert_array_equal(out, np.zeros_like(out))
        slope = jax.grad(lambda p, net=net, state=state: net.apply(p, obs, state, t).sum())(params)
        assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope)), name


def test_every_position_of_the_masked_transformer_sees_all_others_and_the_condition():
    net = timed.MaskedTransformer(16, 2, 2, 3)
    rng = np.random.default_rng(0)
    obs, t = jnp.ones((1, 2)), jnp.ones(1, jnp.int32)
    x = jax.nn.one_hot(jnp.asarray([[0, 3, 3, 1]]), 4)
    params = net.init(jax.random.key(0), obs, x, t)
    params = jax.tree.map(lambda w: w + jnp.float32(0.1 * rng.normal(size=w.shape)), params)
    jacobian = jax.jacobian(lambda x: net.apply(params, obs, x, t)[0])(x)[:, :, 0]
    seen = np.abs(np.asarray(jacobian)).max((1, 3))  # [position, of which]
    assert (seen > 1e-6).all()
    of_condition = jax.jacobian(lambda o: net.apply(params, o, x, t)[0])(obs)
    assert np.abs(np.asarray(of_condition)).max() > 1e-6
