"""FQL against float64 NumPy: every loss, every gradient, one Adam step, the targets."""

from __future__ import annotations

import numpy as np
import pytest
from learners import ACT, check_update, draws, problem
from numeric import critics, euler, network, velocity


def reference(p):
    """Losses by network, and the metrics."""
    n = draws(p.keys, next=("normal", ACT), x0=("normal", ACT), t=("uniform", 1), z=("normal", ACT))
    cfg, rows, old = p.config, p.rows, p.params
    agg = np.min if cfg.q_agg == "min" else np.mean
    next_action = np.clip(network(old["policy"], rows.next_obs, n["next"]), -1, 1)
    next_q = agg(critics(p.target["critic"], rows.next_obs, next_action), axis=0)
    y = rows.reward + p.x["discount"] * next_q
    teacher = euler(old["flow"], rows.obs, n["z"], cfg.flow_steps)

    def critic(params):
        return (p.x["valid"] * (critics(params, rows.obs, rows.action) - y) ** 2).mean()

    def flow(params):
        x = (1 - n["t"]) * n["x0"] + n["t"] * rows.action
        error = (velocity(params, rows.obs, x, n["t"]) - (rows.action - n["x0"])) ** 2
        return (p.known * error).mean()

    def distill(params):
        return ((network(params, rows.obs, n["z"]) - teacher) ** 2).mean()

    def values(params):
        action = np.clip(network(params, rows.obs, n["z"]), -1, 1)
        return critics(old["critic"], rows.obs, action).mean(0)

    scale = 1 / np.abs(values(old["policy"])).mean() if cfg.normalize_q else 1.0
    q_loss = lambda params: -scale * values(params).mean()  # noqa: E731
    policy = lambda params: p.hp["alpha"] * distill(params) + q_loss(params)  # noqa: E731
    metrics = {
        "critic_loss": critic(old["critic"]),
        "flow_loss": flow(old["flow"]),
        "distill_loss": distill(old["policy"]),
        "q_loss": q_loss(old["policy"]),
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return {"critic": critic, "flow": flow, "policy": policy}, metrics


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chunk": 3, "q_agg": "min", "normalize_q": True, "target_update": "post", "tau": 0.3},
        {"actor_layer_norm": True, "alpha": 0.0, "layer_norm": False},
    ],
    ids=["defaults", "chunk_min_normalized_post", "layer_norms_swapped_without_distillation"],
)
def test_one_update_against_numpy(changes):
    p = problem("fql", **changes)
    check_update(p, *reference(p))
    loss = p.learner.td_loss(p.state, p.batch, p.keys)
    np.testing.assert_allclose(loss, reference(p)[1]["critic_loss"], rtol=1e-5)


def test_the_policy_acts_in_one_step_and_evaluates_without_noise_if_told():
    p = problem("fql", eval_noise="zero")
    z = draws(p.keys, z=("normal", ACT))["z"]
    for explore, noise in ((True, z), (False, 0 * z)):
        action, extras = p.learner.act(p.state, p.batch.obs, p.keys, explore)
        want = np.clip(network(p.params["policy"], p.rows.obs, noise), -1, 1)
        np.testing.assert_allclose(action, want, atol=1e-5)
        assert extras == {}
