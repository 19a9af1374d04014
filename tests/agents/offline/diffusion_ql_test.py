"""Diffusion-QL against float64 NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from learners import ACT, ROWS, SHARDS, check_update, draws, problem
from numeric import critics, ddpm, denoiser, vp_betas
from toys import keys

T = 3


def denoised(params, obs, noise):
    predict = lambda x, t: denoiser(params, obs, x, np.full((len(x), 1), t))  # noqa: E731
    return ddpm(predict, noise, vp_betas(T))


def reference(p):
    M = p.config.backup_samples
    n = draws(
        p.keys, next=("normal", M, T, ACT), eps=("normal", ACT), t=("randint", 1, T + 1),
        z=("normal", 1, T, ACT),
    )  # fmt: skip
    rows, old = p.rows, p.params
    nexts = [denoised(p.target["denoiser"], rows.next_obs, n["next"][:, j]) for j in range(M)]
    next_q = np.stack([critics(p.target["critic"], rows.next_obs, action) for action in nexts])
    y = rows.reward + p.x["discount"] * next_q.max(0).min(0)
    abar = np.cumprod(1 - vp_betas(T))[n["t"] - 1]
    coin = int(not jax.random.bernoulli(p.keys.shared))

    def critic(params):
        first, second = critics(params, rows.obs, rows.action)
        return (p.x["valid"] * ((first - y) ** 2 + (second - y) ** 2)).mean()

    def denoising(params):
        x = np.sqrt(abar) * rows.action + np.sqrt(1 - abar) * n["eps"]
        return (p.known * (denoiser(params, rows.obs, x, n["t"]) - n["eps"]) ** 2).mean()

    q = lambda params: critics(  # noqa: E731
        old["critic"], rows.obs, denoised(params, rows.obs, n["z"][:, 0])
    )
    scale = 1 / np.abs(q(old["denoiser"])[1 - coin]).mean()
    q_loss = lambda params: -scale * q(params)[coin].mean()  # noqa: E731
    both = lambda params: denoising(params) + p.hp["eta"] * q_loss(params)  # noqa: E731
    metrics = {
        "critic_loss": critic(old["critic"]),
        "denoising_loss": denoising(old["denoiser"]),
        "q_loss": q_loss(old["denoiser"]),
        "q": critics(old["critic"], rows.obs, rows.action).mean(),
    }
    return {"critic": critic, "denoiser": both}, metrics


@pytest.mark.parametrize(
    "changes, step, rate",
    [({"max_grad_norm": 0.5}, 999, 0.0), ({"chunk": 3, "backup_samples": 2}, 1000, 0.3)],
    ids=["before_the_average_starts", "chunk_max_q_backup_and_average"],
)
def test_one_update_against_numpy(changes, step, rate):
    """Gradients are shortened per network; both targets follow the networks of after the step."""
    p = problem("diffusion_ql", steps_done=step, ema_rate=0.3, **changes)
    shorter = lambda norm: min(1.0, p.hp["max_grad_norm"] / norm)  # noqa: E731
    rates = {"critic": p.hp["tau"], "denoiser": rate}
    check_update(p, *reference(p), scale=shorter, target_rate=rates)


def test_both_sides_of_the_coin_occur():
    """The coin comes from the shared key; the losses of both sides differ."""
    p = problem("diffusion_ql")
    sides = {}
    for seed in range(6):
        random = keys(3, shards=SHARDS).replace(shared=keys(seed).shared)
        side = bool(jax.random.bernoulli(random.shared))
        if side not in sides:
            sides[side] = float(p.learner.update(p.state, p.batch, random)[1]["q_loss"])
    assert len(sides) == 2 and sides[True] != sides[False]


def test_acting_draws_from_a_softmax_over_candidates():
    """With Gumbel noise the highest sum is a draw with probabilities softmax(Q)."""
    p = problem("diffusion_ql")
    n = draws(p.keys, noise=("normal", 4, T, ACT), luck=("gumbel", 4))
    action, _ = p.learner.act(p.state, p.batch.obs, p.keys, False)
    for i in range(ROWS):
        obs = np.tile(p.rows.obs[i], (4, 1))
        found = denoised(p.params["denoiser"], obs, n["noise"][i])
        score = critics(p.target["critic"], obs, found).min(0) + n["luck"][i]
        np.testing.assert_allclose(action[i], found[score.argmax()], atol=1e-5)
