"""Float64 NumPy pieces that check learners independently of JAX's autodiff."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rlx.types import EnvSpec, Keys, Spec, Transition

OBS, ACT, BATCH = 3, 2, 8
SPEC = EnvSpec(Spec((OBS,)), Spec((ACT,), np.float32, -1.0, 1.0))


def batch(seed: int = 0, discount: float = 0.9) -> Transition:
    """Random rows; rows 2 and 5 terminated (discount 0), row 3 truncated (discount stays)."""
    rng = np.random.default_rng(seed)
    row = lambda *shape: jnp.float32(rng.normal(size=(BATCH, *shape)))  # noqa: E731
    terminated = np.isin(np.arange(BATCH), (2, 5))
    return Transition(
        obs=row(OBS),
        action=jnp.tanh(row(ACT)),
        reward=row(),
        next_obs=row(OBS),
        terminated=jnp.asarray(terminated),
        truncated=jnp.arange(BATCH) == 3,
        extras={"discount": jnp.float32(discount * (1 - terminated))},
    )


def perturbed(tree, seed: int = 0):
    """Every parameter moved off its special initial value."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.float32(0.3 * rng.normal(size=x.shape)), tree)


def f64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def layer_norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params["scale"] + params["bias"]


def dense(params, x):
    return x @ params["kernel"] + params.get("bias", 0.0)


def mlp(params, x, activation=lambda x: np.maximum(x, 0.0)):
    """Dense (LayerNorm) activation ... Dense, from flax's dict of one member."""
    layers = params["params"]
    depth = sum(name.startswith("Dense") for name in layers)
    for i in range(depth):
        x = dense(layers[f"Dense_{i}"], x)
        if i + 1 < depth:
            x = layer_norm(layers[f"LayerNorm_{i}"], x) if f"LayerNorm_{i}" in layers else x
            x = activation(x)
    return x


def members(params, forward: Callable, obs, action):
    """[size, B, out], one member of a critic ensemble after the other."""
    stacked = params["params"]["member"]
    x = np.concatenate([obs, action], -1)
    size = len(jax.tree.leaves(stacked)[0])
    parts = [{"params": jax.tree.map(lambda w, i=i: w[i], stacked)} for i in range(size)]
    return np.stack([forward(part, x) for part in parts])


def differences(loss: Callable, tree, step: float = 1e-6):
    """Gradient of `loss(tree)` by central differences, entry by entry."""
    leaves, structure = jax.tree.flatten(tree)
    grads = []
    for k, leaf in enumerate(leaves):
        grad = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            sides = []
            for sign in (1, -1):
                moved = np.array(leaf)
                moved[index] += sign * step
                sides.append(
                    loss(jax.tree.unflatten(structure, [*leaves[:k], moved, *leaves[k + 1 :]]))
                )
            grad[index] = (sides[0] - sides[1]) / (2 * step)
        grads.append(grad)
    return jax.tree.unflatten(structure, grads)


def adam_first(params, grads, lr: float, weight_decay: float = 0.0):
    """AdamW's first step: m and v corrected for bias are g and g**2."""
    return jax.tree.map(
        lambda p, g: p - lr * (g / (np.abs(g) + 1e-8) + weight_decay * p), params, grads
    )


def norm(grads) -> float:
    return np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))


def noise_of(random: Keys, *shape: int) -> np.ndarray:
    """The draws of one update, `[BATCH, *shape]`, shard by shard."""
    per = BATCH // random.keys.shape[0]
    draws = [jax.random.normal(key, (per, *shape)) for key in random.keys]
    return np.concatenate([np.asarray(draw, np.float64) for draw in draws])


def assert_close(got, want, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, want)


def compiled_flops(learner, batch_size: int, spec: EnvSpec, keys: Callable) -> float:
    """What XLA counts for one update of `learner`."""
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    shape = lambda *s, dtype=jnp.float32: jax.ShapeDtypeStruct((batch_size, *s), dtype)  # noqa: E731
    obs, act = spec.obs.shape, spec.action.shape
    rows = Transition(
        shape(*obs), shape(*act), shape(), shape(*obs), shape(dtype=bool), shape(dtype=bool),
        {"discount": shape()},
    )  # fmt: skip
    compiled = jax.jit(learner.update).lower(state, rows, jax.eval_shape(keys)).compile()
    return compiled.cost_analysis()["flops"]
