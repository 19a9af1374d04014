"""The expert against pi0's own picture: two weight sets in ONE attention, in float64 NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import f64, gelu, jit, norm, turn

from rlx.nn.action_expert import (
    ActionExpert,
    draw_tau,
    flow_errors,
    sample_actions,
    time_features,
)
from rlx.nn.transformer import Decoder, Variant
from rlx.ops import masks

LLM, EXPERT = Variant(12, 2, 10, 4, 1, 6), Variant(8, 2, 14, 4, 1, 6)
B, P, T, A, S = 2, 5, 3, 2, 4
SEGMENT = np.array([[1] * 5, [1, 1, 0, 1, 0]], np.int32)  # a missing camera, then padding
AR = np.zeros((B, P), bool)


@functools.cache
def model(kind):
    llm, expert = Decoder(LLM), ActionExpert(EXPERT, kind, A)
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(B, P, LLM.width)))
    args = x, masks.positions(SEGMENT), masks.prefix_lm(AR, SEGMENT)
    p0 = jit(llm.init)(jax.random.key(0), *args)["params"]
    move = lambda p: p + np.float32(0.2 * rng.normal(size=p.shape))  # noqa: E731
    p0 = jax.tree.map(move, p0)
    _, kv = jit(llm.apply)({"params": p0}, *args)
    state = np.float32(rng.normal(size=(B, S)))
    given = state, kv, masks.prefix(AR, SEGMENT)
    noisy, tau = np.float32(rng.normal(size=(B, T, A))), np.float32([0.3, 0.9])
    p1 = jit(expert.init)(jax.random.key(1), noisy, tau, *given)["params"]
    return expert, p0, jax.tree.map(move, p1), x, given, noisy, tau


def silu(x):
    return x / (1 + np.exp(-x))


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def sines(tau, width):
    period = [4e-3 * 1000.0 ** (i / (width // 2 - 1)) for i in range(width // 2)]
    return np.array([f(2 * np.pi * tau / p) for f in (np.sin, np.cos) for p in period])


def adaptive(p, x, cond):
    """(normed, gate) with a condition, plain scale without."""
    if cond is None:
        return norm(x, p["scale"]), 1.0
    scale, shift, gate = np.split(dense(p["modulation"], cond), 3)
    return norm(x, 0.0) * (1 + scale) + shift, gate


def joint(kind, p0, p1, x0, state, noisy, tau):
    """Velocity of one row: valid prefix tokens, then state and actions, layer by layer at once."""
    time, cond = sines(tau, EXPERT.width), None
    x1 = dense(p1["action_in"], noisy)
    if kind == "pi05":
        cond = silu(dense(p1["time_out"], silu(dense(p1["time_in"], time))))
    else:
        x1 = np.concatenate([x1, np.tile(time, (T, 1))], axis=1)
        x1 = dense(p1["time_out"], silu(dense(p1["time_in"], x1)))
        x1 = np.concatenate([dense(p1["state_in"], state)[None], x1])
    block = np.r_[np.zeros(len(x0)), np.ones(len(x1) - T), 2 * np.ones(T)]
    positions = np.arange(len(block))
    streams = [x0, x1]
    for layer in range(LLM.depth):
        q = [jax.tree.map(lambda leaf: leaf[layer], p["layers"]) for p in (p0, p1["decoder"])]
        conds = [None, cond]
        normed = [adaptive(q[i]["attention_norm"], streams[i], conds[i]) for i in (0, 1)]
        attention = [q[i]["attention"] for i in (0, 1)]
        keys = [
            np.concatenate([normed[i][0] @ attention[i]["kv"]["w"][j, 0] for i in (0, 1)])
            for j in (0, 1)
        ]
        key, value = turn(keys[0], positions), keys[1]
        mixed = [np.zeros_like(x) for x in streams]
        for head in range(LLM.heads):
            query = np.concatenate([normed[i][0] @ attention[i]["q"]["w"][head] for i in (0, 1)])
            logits = turn(query, positions) @ key.T / np.sqrt(LLM.head_dim)
            weight = np.where(block[None] <= block[:, None], np.exp(logits), 0.0)
            out = weight / weight.sum(-1, keepdims=True) @ value
            for i, part in enumerate(np.split(out, [len(x0)])):
                mixed[i] += part @ attention[i]["out"]["w"][head]
        for i in (0, 1):
            streams[i] = streams[i] + normed[i][1] * mixed[i]
            y, gate = adaptive(q[i]["mlp_norm"], streams[i], conds[i])
            g, u = q[i]["mlp"]["gating"]["w"]
            streams[i] = streams[i] + gate * (gelu(y @ g) * (y @ u) @ q[i]["mlp"]["linear"]["w"])
    y, _ = adaptive(p1["decoder"]["final_norm"], streams[1], cond)
    return dense(p1["action_out"], y[-T:])


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_velocity_against_one_joint_attention(kind):
    expert, p0, p1, x, given, noisy, tau = model(kind)
    v = jit(expert.apply)({"params": p1}, noisy, tau, *given)
    for b in range(B):
        valid = SEGMENT[b] > 0
        want = joint(kind, f64(p0), f64(p1), x[b][valid], given[0][b], noisy[b], tau[b])
        np.testing.assert_allclose(v[b], want, atol=3e-4)


def test_loss_and_euler_steps_against_the_published_loop():
    expert, _, p1, _, given, noise, tau = model("pi05")
    params = {"params": p1}
    actions = np.float32(np.random.default_rng(5).normal(size=(B, T, A)))
    field = jit(lambda x, tau: expert.apply(params, x, tau, *given))
    t = tau[:, None, None]
    error = field(t * noise + (1 - t) * actions, tau) - (noise - actions)
    got = jit(lambda a: flow_errors(expert, params, a, noise, tau, given))(actions)
    np.testing.assert_allclose(got, (error**2).mean(-1), rtol=1e-5)
    x, now, dt, count = noise, 1.0, -0.1, 0
    while now >= -dt / 2:
        x = x + dt * field(x, np.full(B, now, np.float32))
        now, count = now + dt, count + 1
    assert count == 10
    got = jit(lambda x: sample_actions(expert, params, x, 10, given))(noise)
    np.testing.assert_allclose(got, x, atol=1e-5)


def test_pi05_starts_as_the_identity_between_its_projections():
    expert, _, _, _, given, noisy, tau = model("pi05")
    params = jit(expert.init)(jax.random.key(3), noisy, tau, *given)
    p = f64(params["params"])
    want = dense(p["action_out"], norm(dense(p["action_in"], noisy), 0.0))
    np.testing.assert_allclose(jit(expert.apply)(params, noisy, tau, *given), want, atol=1e-5)


def test_times_follow_their_distribution():
    tau = np.sort(jax.vmap(draw_tau)(jax.random.split(jax.random.key(0), 20_000)))
    assert tau[0] >= 0.001 and tau[-1] <= 1.0
    x = (tau - 0.001) / 0.999
    want = (np.arange(len(x)) + 0.5) / len(x)
    assert np.abs(x**1.5 - want).max() < 1.63 / np.sqrt(len(x))  # Kolmogorov-Smirnov at 1 %
    features = time_features(jnp.float32([0.3]), 8)
    np.testing.assert_allclose(features[0], sines(0.3, 8), atol=1e-4)
