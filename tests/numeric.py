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


# The networks of learners from data.


def gelu(x):
    """The tanh approximation."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def layers_of(params, x, activation=gelu):
    """Dense activation (LayerNorm) ... Dense, from flax's dict of one network."""
    depth = sum(name.startswith("Dense") for name in params)
    for i in range(depth):
        x = dense(params[f"Dense_{i}"], x)
        if i + 1 < depth:
            x = activation(x)
            x = layer_norm(params[f"LayerNorm_{i}"], x) if f"LayerNorm_{i}" in params else x
    return x


def critics(params, obs, action):
    """[K, B], one critic after the other."""
    stacked, x = params["params"]["MLP_0"], np.concatenate([obs, action], -1)
    size = len(jax.tree.leaves(stacked)[0])
    parts = [jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(size)]
    return np.stack([layers_of(part, x)[..., 0] for part in parts])


def network(params, *inputs):
    return layers_of(params["params"]["MLP_0"], np.concatenate(inputs, -1))


def velocity(params, obs, x, t):
    """The vector field: first layer, then the rest."""
    p = params["params"]
    hidden = gelu(np.concatenate([obs, x, t], -1) @ p["kernel"] + p["bias"])
    return layers_of(p["rest"], layer_norm(p["norm"], hidden) if "norm" in p else hidden)


def euler(params, obs, noise, steps):
    """Where the flow leads from `noise`, clipped at the end."""
    x = noise
    for i in range(steps):
        x = x + velocity(params, obs, x, np.full((*x.shape[:-1], 1), i / steps)) / steps
    return np.clip(x, -1, 1)


def denoiser(params, obs, x, t, residual=False):
    """eps(s, x, t) of the diffusion policies."""
    p, size = params["params"], params["params"]["time"]["Dense_1"]["bias"].shape[0]
    half = size // 2
    angles = t * 10000.0 ** (-np.arange(half) / max(half - 1, 1))
    time = layers_of(p["time"], np.concatenate([np.sin(angles), np.cos(angles)], -1), mish)
    x, net = np.concatenate([x, time, obs], -1), p["net"]
    if not residual:
        return layers_of(net, x, mish)
    blocks = sum(name.startswith("LayerNorm") for name in net)
    x = dense(net["Dense_0"], x)
    for i in range(blocks):
        inner = mish(dense(net[f"Dense_{2 * i + 1}"], layer_norm(net[f"LayerNorm_{i}"], x)))
        x = x + dense(net[f"Dense_{2 * i + 2}"], inner)
    return dense(net[f"Dense_{2 * blocks + 1}"], mish(x))


def vp_betas(steps):
    t = np.arange(1, steps + 1)
    return 1 - np.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)


def ddpm(predict, noise, betas):
    """From noise `[B, T, A]` to actions; `predict(x, t)`, t an integer from T to 1."""
    abar, x = np.concatenate([[1.0], np.cumprod(1 - betas)]), noise[..., 0, :]
    steps = len(betas)
    for i, t in enumerate(range(steps, 0, -1)):
        beta = betas[t - 1]
        x0 = (x - np.sqrt(1 - abar[t]) * predict(x, t)) / np.sqrt(abar[t])
        mean = np.sqrt(abar[t - 1]) * beta / (1 - abar[t]) * np.clip(x0, -1, 1)
        mean = mean + np.sqrt(1 - beta) * (1 - abar[t - 1]) / (1 - abar[t]) * x
        spread = np.sqrt(beta * (1 - abar[t - 1]) / (1 - abar[t]))
        x = mean + (spread * noise[..., i + 1, :] if t > 1 else 0.0)
    return np.clip(x, -1, 1)
