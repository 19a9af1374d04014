"""ReBRAC against float64 NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import ACT, check_update, draws, problem, started
from numeric import critics, network


def reference(p):
    rows, old, hp = p.rows, p.params, p.hp
    noise = draws(p.keys, n=("normal", ACT))["n"]
    noise = np.clip(hp["policy_noise"] * noise, -hp["noise_clip"], hp["noise_clip"])
    next_action = np.clip(np.tanh(network(p.target["policy"], rows.next_obs)) + noise, -1, 1)
    next_q = critics(p.target["critic"], rows.next_obs, next_action).min(0)
    away = ((next_action - p.x["next_action"]) ** 2).sum(1) * p.x["next_action_valid"]
    y = rows.reward + p.x["discount"] * (next_q - hp["alpha_critic"] * away)

    def critic(params):
        return (p.x["valid"] * (critics(params, rows.obs, rows.action) - y) ** 2).mean()

    def q(params):
        return critics(old["critic"], rows.obs, np.tanh(network(params, rows.obs))).min(0)

    scale = 1 / np.abs(q(old["policy"])).mean()

    def policy(params):
        distance = (p.known * (np.tanh(network(params, rows.obs)) - rows.action) ** 2).sum(1)
        return -scale * q(params).mean() + hp["alpha_actor"] * distance.mean()

    metrics = {
        "critic_loss": critic(old["critic"]),
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return {"critic": critic, "policy": policy}, metrics


@pytest.mark.parametrize(
    "changes",
    [{}, {"chunk": 3, "alpha_critic": 2.0, "policy_noise": 0.6, "target_update": "post"}],
    ids=["defaults", "chunk_strong_penalty_post"],
)
def test_a_step_that_moves_the_actor(changes):
    """The second step of a run: i = 2."""
    p = problem("rebrac", steps_done=1, **changes)
    losses, metrics = reference(p)
    check_update(p, losses, metrics | {"policy_loss": 2 * losses["policy"](p.params["policy"])})


def test_a_step_between_leaves_actor_its_adam_and_both_targets_alone():
    p = problem("rebrac", steps_done=2)
    losses, metrics = reference(p)
    still = {"critic": 0.0, "policy": 0.0}
    after = check_update(p, losses, metrics | {"policy_loss": 0.0}, ("critic",), target_rate=still)
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)  # noqa: E731
    same(after.opt_state["policy"], p.state.opt_state["policy"])
    same(after.target_params, p.state.target_params)


def test_the_penalty_does_not_see_next_actions_that_the_data_does_not_know():
    p = problem("rebrac", alpha_critic=3.0)
    moved = p.x["next_action"] + 5.0 * (1 - p.x["next_action_valid"])[:, None]
    changed = p.batch.replace(extras=p.batch.extras | {"next_action": jnp.float32(moved)})
    losses = [p.learner.td_loss(p.state, rows, p.keys) for rows in (p.batch, changed)]
    assert losses[0] == losses[1]


def test_observations_of_zeros_and_critics_of_zeros_stay_finite():
    """Biases start at 0: a deterministic actor and critics give exactly 0, and mean |Q| is 0."""
    learner, state = started("rebrac")
    blank = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    state = state.replace(
        params=blank(state.params),
        target_params=blank(state.target_params),
        grad_steps=jnp.int32(1),
    )
    p = problem("rebrac")
    rows = p.batch.replace(obs=0 * p.batch.obs, next_obs=0 * p.batch.obs, reward=0 * p.batch.reward)
    after, metrics = learner.update(state, rows, p.keys)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, metrics)))


def test_exploration_adds_clipped_noise_and_evaluation_none():
    p = problem("rebrac", noise_clip=0.1)
    action = np.tanh(network(p.params["policy"], p.rows.obs))
    noise = np.clip(0.2 * draws(p.keys, n=("normal", ACT))["n"], -0.1, 0.1)
    for explore, want in ((False, action), (True, np.clip(action + noise, -1, 1))):
        got, _ = p.learner.act(p.state, p.batch.obs, p.keys, explore)
        np.testing.assert_allclose(got, want, atol=1e-5)
