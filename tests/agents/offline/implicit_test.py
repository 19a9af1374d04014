"""Learners with IQL's values against float64 NumPy: IQL, IFQL, IDQL."""

from __future__ import annotations

import numpy as np
import pytest
from learners import ACT, ROWS, check_update, draws, problem
from numeric import critics, ddpm, denoiser, euler, network, velocity, vp_betas


def values(p):
    """The losses of critic and value that the three share, and their metrics."""
    rows, old, kappa = p.rows, p.params, p.hp["expectile"]
    target_q = critics(p.target["critic"], rows.obs, rows.action).min(0)
    y = rows.reward + p.x["discount"] * network(old["value"], rows.next_obs)[:, 0]

    def value(params):
        u = target_q - network(params, rows.obs)[:, 0]
        return (p.x["valid"] * np.abs(kappa - (u < 0)) * u**2).mean()

    def critic(params):
        first, second = critics(params, rows.obs, rows.action)
        return (p.x["valid"] * ((first - y) ** 2 + (second - y) ** 2)).mean()

    metrics = {
        "value_loss": value(old["value"]),
        "critic_loss": critic(old["critic"]),
        "v": network(old["value"], rows.obs).mean(),
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return {"value": value, "critic": critic}, metrics


def log_density(p, params):
    away = p.rows.action - network(params, p.rows.obs)
    return (p.known * (-0.5 * away**2 - 0.5 * np.log(2 * np.pi))).sum(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0.5},
        {"chunk": 3, "alpha": 1.0, "expectile": 0.7, "target_update": "post"},
        {"alpha": 0.2, "max_weight": 0.66},
    ],
    ids=["soft_weights", "chunk_post", "cap"],
)
def test_iql_with_advantage_weights(changes):
    p = problem("iql", **changes)
    losses, metrics = values(p)
    rows, old = p.rows, p.params
    q = critics(old["critic"], rows.obs, rows.action).min(0)
    advantage = q - network(old["value"], rows.obs)[:, 0]
    weight = p.x["valid"] * np.minimum(np.exp(p.hp["alpha"] * advantage), p.hp["max_weight"])
    losses["policy"] = lambda params: -(weight * log_density(p, params)).mean()
    metrics["policy_loss"] = losses["policy"](old["policy"])
    check_update(p, losses, metrics)
    assert weight.max() > 0.05  # else nothing would be compared
    if "max_weight" in changes:
        assert {0.0, p.hp["max_weight"]} < set(weight)  # rows of weight 0, at the cap, between


@pytest.mark.parametrize("chunk", [1, 3])
def test_iql_with_the_gradient_of_q(chunk):
    p = problem("iql", chunk, actor_loss="ddpgbc", alpha=0.3)
    losses, metrics = values(p)

    def q(params):
        action = np.clip(network(params, p.rows.obs), -1, 1)
        return critics(p.params["critic"], p.rows.obs, action).min(0)

    scale = 1 / np.abs(q(p.params["policy"])).mean()
    losses["policy"] = lambda params: (
        -scale * q(params).mean() - 0.3 * log_density(p, params).mean()
    )
    metrics["policy_loss"] = losses["policy"](p.params["policy"])
    check_update(p, losses, metrics)


def test_iql_acts_by_its_mean_and_explores_with_unit_noise():
    p = problem("iql")
    mean, noise = network(p.params["policy"], p.rows.obs), draws(p.keys, n=("normal", ACT))["n"]
    for explore, want in ((False, mean), (True, mean + noise)):
        action, _ = p.learner.act(p.state, p.batch.obs, p.keys, explore)
        np.testing.assert_allclose(action, np.clip(want, -1, 1), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_ifql(chunk):
    p = problem("ifql", chunk)
    losses, metrics = values(p)
    n = draws(p.keys, x0=("normal", ACT), t=("uniform", 1))

    def flow(params):
        x = (1 - n["t"]) * n["x0"] + n["t"] * p.rows.action
        error = (velocity(params, p.rows.obs, x, n["t"]) - (p.rows.action - n["x0"])) ** 2
        return (p.known * error).mean()

    losses["flow"], metrics["flow_loss"] = flow, flow(p.params["flow"])
    check_update(p, losses, metrics)


@pytest.mark.parametrize("chunk", [1, 3])
def test_idql(chunk):
    p = problem("idql", chunk)
    losses, metrics = values(p)
    n = draws(p.keys, eps=("normal", ACT), t=("randint", 1, 4))
    abar = np.cumprod(1 - vp_betas(3))[n["t"] - 1]

    def loss(params):
        x = np.sqrt(abar) * p.rows.action + np.sqrt(1 - abar) * n["eps"]
        eps = denoiser(params, p.rows.obs, x, n["t"], residual=True)
        return (p.known * (eps - n["eps"]) ** 2).mean()

    losses["denoiser"], metrics["denoising_loss"] = loss, loss(p.params["denoiser"])
    check_update(p, losses, metrics)


@pytest.mark.parametrize("name", ["ifql", "idql"])
def test_the_best_of_n_is_chosen_by_the_lower_critic(name):
    """Candidate by candidate and row by row."""
    p = problem(name)
    critic, params = p.params["critic"], p.params["flow" if name == "ifql" else "denoiser"]
    shape = (4, ACT) if name == "ifql" else (4, 3, ACT)
    noise = draws(p.keys, n=("normal", *shape))["n"]
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, False)
    chosen = []
    for i in range(ROWS):
        obs = np.tile(p.rows.obs[i], (4, 1))
        if name == "ifql":
            found = euler(params, obs, noise[i], 3)
        else:
            predict = lambda x, t, obs=obs: denoiser(params, obs, x, np.full((4, 1), t), True)  # noqa: E731
            found = ddpm(predict, noise[i], vp_betas(3))
        best = critics(critic, obs, found).min(0).argmax()
        chosen.append(best)
        np.testing.assert_allclose(action[i], found[best], atol=1e-5)
    assert len(set(chosen)) > 1
