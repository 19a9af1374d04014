"""Behaviour cloning against float64 NumPy: Gaussian, flow and diffusion policies."""

from __future__ import annotations

import numpy as np
import pytest
from learners import ACT, ROWS, check_update, draws, problem
from numeric import ddpm, denoiser, euler, network, velocity, vp_betas


@pytest.mark.parametrize("chunk", [1, 3])
def test_gaussian_cloning(chunk):
    p = problem("bc", chunk)

    def policy(params):
        away = p.rows.action - network(params, p.rows.obs)
        density = np.exp(-0.5 * away**2) / np.sqrt(2 * np.pi)
        return -(p.known * np.log(density)).sum(1).mean()

    check_update(p, {"policy": policy}, {"imitation_loss": policy(p.params["policy"])})
    mean = network(p.params["policy"], p.rows.obs)
    noise = draws(p.keys, noise=("normal", ACT))["noise"]
    for explore, want in ((False, mean), (True, mean + noise)):
        action, _ = p.learner.act(p.state, p.batch.obs, p.keys, explore)
        np.testing.assert_allclose(action, np.clip(want, -1, 1), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_flow_cloning(chunk):
    p = problem("flow_bc", chunk)
    n = draws(p.keys, x0=("normal", ACT), t=("uniform", 1))

    def flow(params):
        x = (1 - n["t"]) * n["x0"] + n["t"] * p.rows.action
        error = (velocity(params, p.rows.obs, x, n["t"]) - (p.rows.action - n["x0"])) ** 2
        return (p.known * error).mean()

    check_update(p, {"flow": flow}, {"flow_loss": flow(p.params["flow"])})
    noise = draws(p.keys, noise=("normal", ACT))["noise"]
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, False)
    want = euler(p.params["flow"], p.rows.obs, noise, 3)
    np.testing.assert_allclose(action, want, atol=1e-5)


def test_fourier_features_and_midpoint_integration():
    """The first layer sees cos and sin of 2 pi k t, k = 1, 2; each step asks at its middle."""
    p = problem("flow_bc", fourier=4, solver="midpoint", flow_steps=2)
    noise = draws(p.keys, noise=("normal", ACT))["noise"]
    slope = lambda x, t: velocity(  # noqa: E731
        p.params["flow"],
        p.rows.obs,
        x,
        np.tile([f(np.pi * k * t) for f in (np.cos, np.sin) for k in (1, 2)], (ROWS, 1)),
    )
    x = noise
    for t in (0.0, 0.5):
        x = x + 0.5 * slope(x + 0.25 * slope(x, t), t + 0.25)
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, True)
    np.testing.assert_allclose(action, np.clip(x, -1, 1), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_diffusion_cloning(chunk):
    p = problem("diffusion_bc", chunk)
    n = draws(p.keys, eps=("normal", ACT), t=("randint", 1, 4))
    abar = np.cumprod(1 - vp_betas(3))[n["t"] - 1]

    def loss(params):
        x = np.sqrt(abar) * p.rows.action + np.sqrt(1 - abar) * n["eps"]
        return (p.known * (denoiser(params, p.rows.obs, x, n["t"]) - n["eps"]) ** 2).mean()

    check_update(p, {"denoiser": loss}, {"denoising_loss": loss(p.params["denoiser"])})
    noise = draws(p.keys, noise=("normal", 3, ACT))["noise"]
    predict = lambda x, t: denoiser(  # noqa: E731
        p.params["denoiser"], p.rows.obs, x, np.full((ROWS, 1), t)
    )
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, False)
    np.testing.assert_allclose(action, ddpm(predict, noise, vp_betas(3)), atol=1e-5)
