"""Networks: initialisation, residual architectures against NumPy, the sphere of SimbaV2."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numeric import assert_close, dense, f64, layer_norm

from rlx.nn import networks, simba
from rlx.nn.critic import QEnsemble
from rlx.nn.init import orthogonal
from rlx.nn.mlp import MLP

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7), (3, 1), (128, 100)])
def test_orthogonal_kernels_have_orthonormal_columns_or_rows(shape):
    kernel = np.asarray(orthogonal(2.0)(jax.random.key(0), shape), np.float64)
    small = kernel if shape[0] >= shape[1] else kernel.T
    np.testing.assert_allclose(small.T @ small, 4.0 * np.eye(min(shape)), atol=2e-5)


def test_orthogonal_matrices_are_uniformly_distributed():
    """Haar measure in two dimensions: the first column's angle is uniform, both signs of the
    determinant are equally likely."""
    keys = jax.random.split(jax.random.key(1), 4000)
    made = np.asarray(jax.vmap(lambda key: orthogonal()(key, (2, 2)))(keys))
    angle = np.arctan2(made[:, 1, 0], made[:, 0, 0])
    counts = np.histogram(angle, bins=8, range=(-np.pi, np.pi))[0]
    assert np.abs(counts - 500).max() < 100
    assert abs(np.linalg.det(made).mean()) < 0.06


def test_orthogonal_kernels_on_two_devices_do_not_wait_for_each_other(run_python):
    """What flax's own does for ever: one program with such kernels on several CPU devices."""
    code = """
import jax, jax.numpy as jnp
from rlx.nn.bronet import BroNet
from jax.sharding import PartitionSpec as P
mesh = jax.make_mesh((2,), ("run",), axis_types=(jax.sharding.AxisType.Auto,))
net = BroNet(32, 2, 4)
def init(seed):
    params = net.init(jax.random.key(seed[0]), jnp.zeros((1, 3)))["params"]
    return params["Dense_1"]["kernel"][None]

out = jax.jit(jax.shard_map(init, mesh=mesh, in_specs=P("run"), out_specs=P("run")))(jnp.arange(2))
print(out.shape)
"""
    assert "(2, 32, 32)" in run_python(code, devices=2, timeout=120).stdout


def test_simba_against_numpy():
    net = networks.make("simba", (4, 4), 2)
    params = net.init(jax.random.key(0), X)
    layers = f64(params)["params"]
    x = dense(layers["Dense_0"], f64(X))
    for k in range(2):
        inner = dense(layers[f"Dense_{2 * k + 1}"], layer_norm(layers[f"LayerNorm_{k}"], x))
        assert inner.shape[-1] == 16
        x = x + dense(layers[f"Dense_{2 * k + 2}"], np.maximum(inner, 0.0))
    want = dense(layers["Dense_5"], layer_norm(layers["LayerNorm_2"], x))
    np.testing.assert_allclose(net.apply(params, X), want, atol=1e-5)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_simba_v2_against_numpy():
    net = networks.make("simba_v2", (4, 4), 2)
    params = net.init(jax.random.key(0), X)
    layers = f64(params)["params"]
    scale = lambda i: layers[f"Scaler_{i}"]["scaler"]  # noqa: E731
    np.testing.assert_allclose(scale(0), (2 / 4) ** 0.5)
    np.testing.assert_allclose(scale(1), (2 / 16) ** 0.5)
    np.testing.assert_allclose(scale(2), 4**-0.5)
    x = unit(np.concatenate([f64(X), np.full((5, 1), 3.0)], -1))
    x = unit(dense(layers["Dense_0"], x) * scale(0))
    for k in range(2):
        inner = dense(layers[f"Dense_{2 * k + 1}"], x) * scale(2 * k + 1)
        moved = unit(dense(layers[f"Dense_{2 * k + 2}"], np.maximum(inner, 0.0)))
        x = unit(x + (moved - x) * scale(2 * k + 2) * 4**0.5 / 3)  # starts at 1 / (blocks + 1)
    want = dense(layers["Dense_6"], dense(layers["Dense_5"], x) * scale(5)) + layers["bias"]
    np.testing.assert_allclose(net.apply(params, X), want, atol=1e-5)


def test_project_puts_kernels_on_the_sphere_and_leaves_the_rest():
    net = networks.make("simba_v2", (4,), 2)
    params = jax.tree.map(lambda x: 3.0 * x + 0.5, net.init(jax.random.key(0), X))
    back = networks.projection("simba_v2")(params)["params"]
    for name in ("Dense_0", "Dense_1", "Dense_2", "Dense_3", "Dense_4"):
        np.testing.assert_allclose(np.linalg.norm(back[name]["kernel"], axis=0), 1.0, rtol=1e-5)
    assert_close(back["Scaler_0"], params["params"]["Scaler_0"], rtol=0)
    stacked = QEnsemble(simba.SimbaV2(4, 1, 1), 2)
    critics = stacked.init(jax.random.key(0), X, X[:, :1])
    moved = simba.project(jax.tree.map(lambda x: 2.0 * x, critics))["params"]["member"]
    np.testing.assert_allclose(
        np.linalg.norm(moved["Dense_0"]["kernel"], axis=1), np.ones((2, 4)), rtol=1e-5
    )
    assert networks.projection("mlp")(params) is params


def test_an_ensemble_is_its_members_side_by_side():
    ensemble = QEnsemble(MLP((4,), 3), 3)
    params = ensemble.init(jax.random.key(0), X, X[:, :1])
    out = ensemble.apply(params, X, X[:, :1])
    assert out.shape == (3, 5, 3)
    both = jnp.concatenate([X, X[:, :1]], -1)
    for i in range(3):
        own = {"params": jax.tree.map(lambda x, i=i: x[i], params["params"]["member"])}
        np.testing.assert_allclose(out[i], MLP((4,), 3).apply(own, both), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, hidden, norm, text",
    [
        ("simbaa", (8,), False, "unknown network 'simbaa'; nearest: simba"),
        ("simba", (8, 4), False, "one width per residual block"),
        ("bronet", (8,), True, "layer_norm is an option of network 'mlp'"),
    ],
)
def test_bad_networks_are_refused(name, hidden, norm, text):
    with pytest.raises(ValueError, match=text):
        networks.make(name, hidden, 1, norm)
