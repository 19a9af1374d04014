"""A decoder in float64 NumPy, one row at a time, head by head and query by query; and a `jit` for
tests, most of whose time is compilation, and half of that LLVM's optimisations.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * (1 + scale)


def turn(x, positions):
    half = x.shape[-1] // 2
    z = x[..., :half] + 1j * x[..., half:]
    z = z * np.exp(1j * positions[:, None] * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag], -1)


def numpy_decoder(p, v, x, positions, mask):
    """One row, head by head, query by query."""
    if v.max_positions:
        x = x + p["positions"][positions] * np.sqrt(v.width)
    for layer in range(v.depth):
        q = jax.tree.map(lambda leaf: leaf[layer], p["layers"])
        y = norm(x, q["attention_norm"]["scale"])
        attention = q["attention"]
        out = np.zeros_like(x)
        for head in range(v.heads):
            group = head // (v.heads // v.kv)
            query = y @ attention["q"]["w"][head]
            key, value = (y @ attention["kv"]["w"][i, group] for i in (0, 1))
            if not v.max_positions:
                query, key = turn(query, positions), turn(key, positions)
            for i in range(len(x)):
                if mask[i].any():
                    weight = np.exp(key[mask[i]] @ query[i] / np.sqrt(v.head_dim))
                    mixed = weight / weight.sum() @ value[mask[i]]
                    out[i] += mixed @ attention["out"]["w"][head]
        x = x + out
        y, mlp = norm(x, q["mlp_norm"]["scale"]), q["mlp"]
        if v.gated:
            hidden = gelu(y @ mlp["gating"]["w"][0]) * (y @ mlp["gating"]["w"][1])
        else:
            hidden = gelu(y @ mlp["up"]["w"])
        x = x + hidden @ mlp["linear"]["w"]
    return norm(x, p["final_norm"]["scale"])


def f64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
