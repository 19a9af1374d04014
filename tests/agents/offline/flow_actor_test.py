"""FBRAC, FAWAC and best-of-N flow policies against float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from learners import ACT, ROWS, check_update, draws, problem
from numeric import critics, euler, velocity


def pieces(p, n, next_action):
    """The critic's loss on given next actions, the flow's errors, the metrics."""
    cfg, rows, old = p.config, p.rows, p.params
    agg = np.min if cfg.q_agg == "min" else np.mean
    next_q = agg(critics(p.target["critic"], rows.next_obs, next_action), axis=0)
    y = rows.reward + p.x["discount"] * next_q

    def critic(params):
        return (p.x["valid"] * (critics(params, rows.obs, rows.action) - y) ** 2).mean()

    def flow_errors(params):
        x = (1 - n["t"]) * n["x0"] + n["t"] * rows.action
        error = (velocity(params, rows.obs, x, n["t"]) - (rows.action - n["x0"])) ** 2
        return p.known * error

    metrics = {
        "critic_loss": critic(old["critic"]),
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return critic, flow_errors, metrics


def four_draws(p):
    return draws(
        p.keys, next=("normal", ACT), x0=("normal", ACT), t=("uniform", 1), z=("normal", ACT)
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"chunk": 3, "q_agg": "min", "normalize_q": True, "alpha": 0.5, "flow_steps": 4}],
    ids=["defaults", "chunk_min_normalized"],
)
def test_fbrac_sends_the_gradient_of_q_through_all_steps(changes):
    p = problem("fbrac", **changes)
    n, rows, old, steps = four_draws(p), p.rows, p.params, p.config.flow_steps
    next_action = euler(old["flow"], rows.next_obs, n["next"], steps)
    critic, flow_errors, metrics = pieces(p, n, next_action)

    def values(params):
        return critics(old["critic"], rows.obs, euler(params, rows.obs, n["z"], steps)).mean(0)

    scale = 1 / np.abs(values(old["flow"])).mean() if p.config.normalize_q else 1.0
    q_loss = lambda params: -scale * values(params).mean()  # noqa: E731
    flow = lambda params: p.hp["alpha"] * flow_errors(params).mean() + q_loss(params)  # noqa: E731
    metrics |= {"flow_loss": flow_errors(old["flow"]).mean(), "q_loss": q_loss(old["flow"])}
    check_update(p, {"critic": critic, "flow": flow}, metrics)


@pytest.mark.parametrize(
    "changes",
    [{}, {"chunk": 3, "max_weight": 1.2, "alpha": 1.0, "target_update": "post"}],
    ids=["defaults", "chunk_capped_post"],
)
def test_fawac_weighs_imitation_by_the_advantage(changes):
    p = problem("fawac", **changes)
    n, rows, old, steps = four_draws(p), p.rows, p.params, p.config.flow_steps
    next_action = euler(old["flow"], rows.next_obs, n["next"], steps)
    critic, flow_errors, metrics = pieces(p, n, next_action)
    q = lambda action: critics(old["critic"], rows.obs, action).mean(0)  # noqa: E731
    advantage = q(rows.action) - q(euler(old["flow"], rows.obs, n["z"], steps))
    weight = np.minimum(np.exp(p.hp["alpha"] * advantage), p.hp["max_weight"]) * p.x["valid"]
    flow = lambda params: (weight[:, None] * flow_errors(params)).mean()  # noqa: E731
    metrics |= {"flow_loss": flow(old["flow"]), "weight": weight.mean()}
    assert weight.max() > 0.05  # else nothing would be compared
    check_update(p, {"critic": critic, "flow": flow}, metrics)


def best_of_n(p, obs, noise):
    """Candidate by candidate and row by row: mean or minimum of the current critics."""
    agg = np.min if p.config.q_agg == "min" else np.mean
    best = []
    for i in range(ROWS):
        many = np.tile(obs[i], (p.config.samples, 1))
        found = euler(p.params["flow"], many, noise[i], p.config.flow_steps)
        best.append(found[agg(critics(p.params["critic"], many, found), axis=0).argmax()])
    return np.stack(best)


@pytest.mark.parametrize(
    "changes", [{}, {"chunk": 3, "q_agg": "min"}], ids=["defaults", "chunk_min"]
)
def test_best_of_n_acts_and_bootstraps(changes):
    p = problem("bfn", **changes)
    n = draws(p.keys, next=("normal", 4, ACT), x0=("normal", ACT), t=("uniform", 1))
    critic, flow_errors, metrics = pieces(p, n, best_of_n(p, p.rows.next_obs, n["next"]))
    flow = lambda params: flow_errors(params).mean()  # noqa: E731
    check_update(
        p, {"critic": critic, "flow": flow}, metrics | {"flow_loss": flow(p.params["flow"])}
    )
    noise = draws(p.keys, n=("normal", 4, ACT))["n"]
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, True)
    np.testing.assert_allclose(action, best_of_n(p, p.rows.obs, noise), atol=1e-5)


@pytest.mark.parametrize("name", ["fbrac", "fawac"])
def test_acting_follows_the_flow(name):
    p = problem(name)
    noise = draws(p.keys, n=("normal", ACT))["n"]
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, False)
    np.testing.assert_allclose(action, euler(p.params["flow"], p.rows.obs, noise, 3), atol=1e-5)
