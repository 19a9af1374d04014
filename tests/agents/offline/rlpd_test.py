"""SAC on data, alone or as RLPD, against float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from learners import ACT, check_update, draws, problem
from numeric import critics, network


def gaussian(params, obs):
    mean, log_std = np.split(network(params, obs), 2, axis=-1)
    return mean, np.clip(log_std, -5, 2)


def log_densities(u, mean, log_std):
    z = (u - mean) / np.exp(log_std)
    log_slope = np.log(4) - 2 * np.logaddexp(u, -u)  # of tanh: 1 / cosh(u)**2
    return -0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi) - log_slope


def sample(params, obs, noise):
    mean, log_std = gaussian(params, obs)
    u = mean + np.exp(log_std) * noise
    return np.tanh(u), log_densities(u, mean, log_std).sum(1)


def reference(p):
    n = draws(p.keys, next=("normal", ACT), z=("normal", ACT))
    cfg, rows, old = p.config, p.rows, p.params
    temperature = np.exp(old["log_alpha"])
    next_action, next_log = sample(old["policy"], rows.next_obs, n["next"])
    next_q = critics(p.target["critic"], rows.next_obs, next_action)
    value = next_q.min(0) if cfg.q_agg == "min" else next_q.mean(0)
    value = value - temperature * next_log * cfg.backup_entropy
    y = rows.reward + p.x["discount"] * value

    def critic(params):
        return (p.x["valid"] * (critics(params, rows.obs, rows.action) - y) ** 2).mean()

    def imitation(params):
        u = np.arctanh(np.clip(rows.action, -1 + 1e-5, 1 - 1e-5))
        return -(p.known * log_densities(u, *gaussian(params, rows.obs))).sum(1).mean()

    def policy(params):
        action, log_prob = sample(params, rows.obs, n["z"])
        soft = temperature * log_prob - critics(old["critic"], rows.obs, action).mean(0)
        return soft.mean() + p.hp["bc_alpha"] * imitation(params)

    entropy = -sample(old["policy"], rows.obs, n["z"])[1].mean()
    log_alpha = lambda x: np.exp(x) * (entropy - p.hp["target_entropy"])  # noqa: E731
    metrics = {
        "critic_loss": critic(old["critic"]),
        "policy_loss": policy(old["policy"]),
        "imitation_loss": imitation(old["policy"]),
        "alpha_loss": log_alpha(old["log_alpha"]),
        "alpha": temperature,
        "entropy": entropy,
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return {"critic": critic, "policy": policy, "log_alpha": log_alpha}, metrics


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chunk": 3, "q_agg": "mean", "ensemble": 3, "bc_alpha": 0.4, "backup_entropy": True},
    ],
    ids=["defaults", "chunk_of_three_critics_with_imitation"],
)
def test_one_update_against_numpy(changes):
    p = problem("rlpd", **changes)
    check_update(p, *reference(p))


def test_first_temperature_and_target_entropy():
    p = problem("rlpd", target_entropy_multiplier=2.0, init_alpha=0.5)
    assert p.hp["target_entropy"] == -2.0 * ACT


def test_evaluation_is_the_mode_and_exploration_a_sample():
    p = problem("rlpd")
    noise = draws(p.keys, n=("normal", ACT))["n"]
    mean, _ = gaussian(p.params["policy"], p.rows.obs)
    drawn, _ = sample(p.params["policy"], p.rows.obs, noise)
    for explore, want in ((False, np.tanh(mean)), (True, drawn)):
        action, _ = p.learner.act(p.state, p.batch.obs, p.keys, explore)
        np.testing.assert_allclose(action, want, atol=1e-5)
