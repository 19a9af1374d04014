"""Learners of values: losses against NumPy, what they learn against exact values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tilted_toys as toys
from learners import random_like

from rlx import agents
from rlx.agents.guidance import value
from rlx.types import Keys

B, K = 6, 4
NET = {"hidden": (8,), "time_features": 4, "alpha": 0.5}


def started(target: str, spec=toys.VECTORS, **changes):
    config = value.get_config()
    config.update(NET | {"target": target} | changes)
    learner = agents.make(config, spec)
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp)
    state = state.replace(
        params=random_like(state.params, 1), target_params=random_like(state.target_params, 2)
    )
    return learner, state


def keys() -> Keys:
    return toys.one_shard(jax.random.key(0))


def numbers(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def seen(x: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
    return {"obs": jnp.zeros((len(t), 0)), "x": x, "t": t}


def values(learner, state, x, t) -> np.ndarray:
    return np.asarray(learner.act(state, seen(x, t), keys(), False)[0], np.float64)


def test_losses_against_numpy():
    t, r = jnp.asarray([1, 2, 3, 1, 2, 3]), numbers(0, B)
    x, many, reward = numbers(1, B, 2), numbers(2, B, K, 2), numbers(3, B, K)
    ended, alpha = np.asarray(t) == 1, 0.5
    wide, rewards = np.asarray(r, np.float64), np.asarray(reward, np.float64)

    learner, state = started("mc")
    v = values(learner, state, x, t)
    got = learner.td_loss(state, toys.batch(seen(x, t), reward=r), keys())
    np.testing.assert_allclose(got, ((v - wide) ** 2).mean(), rtol=1e-5)

    learner, state = started("exp", center=1.5)
    u, w = (v - 1.5) / alpha, np.exp((wide - 1.5) / alpha)
    got = learner.td_loss(state, toys.batch(seen(x, t), reward=r), keys())
    np.testing.assert_allclose(got, (np.exp(u) - w * u).mean(), rtol=1e-5)

    learner, state = started("soft_q")
    target = state.replace(params=state.target_params)
    child = np.stack([values(learner, target, many[:, k], t - 1) for k in range(K)], 1)
    child = np.where(ended[:, None], rewards, child)
    y = alpha * np.log(np.exp(child / alpha).mean(1))
    batch = toys.batch(seen(x, t), None, reward, seen(many, t - 1), jnp.asarray(ended))
    np.testing.assert_allclose(learner.td_loss(state, batch, keys()), ((v - y) ** 2).mean(), 1e-5)

    learner, state = started("cep")
    each = np.stack([values(learner, state, many[:, k], t) for k in range(K)], 1) / alpha
    label = np.exp(rewards / alpha) / np.exp(rewards / alpha).sum(1, keepdims=True)
    log_p = each - np.log(np.exp(each).sum(1, keepdims=True))
    got = learner.td_loss(state, toys.batch(seen(many, t), reward=reward), keys())
    np.testing.assert_allclose(got, -(label * log_p).sum(1).mean(), rtol=1e-5)


def test_the_exponential_regression_is_a_mean_over_rows_so_that_no_batch_moves_its_minimum():
    learner, state = started("exp", center=0.0)
    t, r, x = jnp.asarray([1, 2, 3, 1, 2, 3]), numbers(0, B), numbers(1, B, 2)
    loss = lambda i: learner.td_loss(state, toys.batch(seen(x[i], t[i]), reward=r[i]), keys())  # noqa: E731
    halves = loss(jnp.arange(3)), loss(jnp.arange(3, 6))
    np.testing.assert_allclose(loss(jnp.arange(6)), np.mean(halves), rtol=1e-5)


def test_the_exponential_regression_wants_its_constant():
    with pytest.raises(ValueError, match=r"learner.center, about the largest reward"):
        started("exp")


def test_only_soft_q_keeps_a_target_which_follows():
    learner, state = started("soft_q", tau=0.25)
    t = jnp.asarray([1, 2, 3, 1, 2, 3])
    batch = toys.batch(
        seen(numbers(1, B, 2), t), None, numbers(3, B, K), seen(numbers(2, B, K, 2), t - 1), t == 1
    )
    new, _ = learner.update(state, batch, keys())
    jax.tree.map(
        lambda target, old, source: np.testing.assert_allclose(
            target, 0.75 * old + 0.25 * source, atol=1e-6
        ),
        new.target_params["value"],
        state.target_params["value"],
        new.params["value"],
    )
    assert started("mc")[1].target_params == {}


def test_rewards_of_a_thousand_over_a_small_alpha_stay_finite():
    learner, state = started("exp", alpha=0.01, center=2e3)
    batch = toys.batch(seen(numbers(1, B, 2), jnp.ones(B, jnp.int32)), reward=1e3 * numbers(0, B))
    _, metrics = learner.update(state, batch, keys())
    assert all(np.isfinite(x) for x in metrics.values())


# What is learned, on sequences of three tokens: all 64 partial states.


@pytest.fixture(scope="module")
def problem():
    return toys.tokens()


def errors(problem, learner, state, truth) -> float:
    """Root mean square over partial states, by how often a walk passes them."""
    weight = toys.law(problem.table, True)[1] * (toys.STATES == toys.V).any(1)
    x = jnp.asarray(toys.STATES)
    v = values(learner, state, x, (x == toys.V).sum(1))
    return float(np.sqrt((weight * (v - truth) ** 2).sum() / weight.sum()))


def walked(problem, key, n):
    """x_0 of the prior and x_t of a random time t."""
    clean = jnp.asarray(toys.STATES[toys.CLEAN])
    which, time, order = jax.random.split(key, 3)
    x0 = clean[jax.random.categorical(which, jnp.log(jnp.float32(problem.p)), shape=(n,))]
    t = jax.random.randint(time, (n,), 1, toys.L + 1)
    rank = jax.random.uniform(order, x0.shape).argsort(-1).argsort(-1)
    return x0, jnp.where(rank < t[:, None], toys.V, x0), t


def trained(problem, target: str, steps: int, **changes):
    config = value.get_config()
    config.update({"target": target, "alpha": toys.ALPHA, "lr": 3e-3, "hidden": (64, 64)} | changes)
    learner, n, children = agents.make(config, toys.TOKENS), 256, 16
    rewards = jnp.float32(problem.r)
    of = lambda x: rewards[x @ jnp.asarray([toys.V**2, toys.V, 1])]  # noqa: E731

    def batches(key, state):
        x0, x, t = walked(problem, key, n)
        if target in ("mc", "exp"):
            return toys.batch(seen(x, t), reward=of(x0))
        noise = jax.vmap(lambda k: problem.chain.noise(k, n))(jax.random.split(key, children))
        law = problem.chain.kernel(problem.params, None, x, t)
        y = jax.vmap(lambda z: problem.chain.draw(law, z).argmax(-1), 0, 1)(noise)
        r = of(jnp.minimum(y, toys.V - 1))  # counts at t = 1 only, where no mask is left
        return toys.batch(seen(x, t), None, r, seen(y, t - 1), t == 1)

    state, _ = toys.train(learner, batches, steps, toys.one_shard)
    return learner, state


def test_regression_of_rewards_learns_their_mean_not_the_soft_value(problem):
    learner, state = trained(problem, "mc", 1000)
    assert errors(problem, learner, state, problem.mean) < 0.15
    assert errors(problem, learner, state, problem.soft) > 0.5  # the Jensen gap


def test_regression_with_a_log_link_learns_the_soft_value(problem):
    learner, state = trained(problem, "exp", 1000, center=1.0)
    assert errors(problem, learner, state, problem.soft) < 0.2


def test_soft_backups_learn_the_soft_value_but_for_their_children(problem):
    learner, state = trained(problem, "soft_q", 1000, tau=0.05)
    assert errors(problem, learner, state, problem.soft) < 0.3
    x = jnp.full((1, toys.L), toys.V)
    found = values(learner, state, x, jnp.asarray([toys.L]))[0]
    assert found < problem.soft[-1]  # biased down


def test_contrast_learns_the_value_up_to_a_constant_per_time():
    """On the Gaussian problem, where the soft value of x_t is a parabola in its first number."""
    bed, K = toys.gaussian(), 16
    config = value.get_config()
    config.update(target="cep", alpha=toys.ALPHA, hidden=(64, 64), lr=3e-3)
    learner, t = agents.make(config, toys.VECTORS), 4
    keep = np.sqrt(bed.abar[t])

    def batches(key, state):
        key, own = jax.random.split(key)
        x0 = jax.random.normal(key, (64 * K, 2)) * jnp.sqrt(jnp.float32(bed.S))
        x = keep * x0 + np.sqrt(1 - keep**2) * jax.random.normal(own, x0.shape)
        r = bed.reward(None, x0).reshape(64, K)
        return toys.batch(seen(x.reshape(64, K, 2), jnp.full(64, t)), reward=r)

    state, _ = toys.train(learner, batches, 1000, toys.one_shard)
    x = np.random.default_rng(0).normal(size=(500, 2))
    v = values(learner, state, jnp.float32(x), jnp.full(500, t))
    left = bed.S[0] - bed.slope[t - 1, 0] * keep * bed.S[0]  # variance of x_0 given x_t
    soft = -((bed.y - bed.slope[t - 1, 0] * x[:, 0]) ** 2) / (2 * (bed.s2 + left / toys.ALPHA))
    apart = (v - v.mean()) - (soft - soft.mean())
    assert np.sqrt((apart**2).mean()) < 0.3 * soft.std()


def test_a_word_that_is_no_target_is_refused():
    with pytest.raises(ValueError, match=r"learner.target is one of mc, .* got 'soft'; nearest"):
        started("soft")
    with pytest.raises(ValueError, match=r"learner.alpha is a temperature .* got -1"):
        started("mc", alpha=-1.0)
