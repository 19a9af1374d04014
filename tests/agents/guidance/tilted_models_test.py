"""Learners of tilted models: their gradients against exact objectives, and how near they come to
the tilted law, which is known exactly.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tilted_toys as toys
from numeric import f64
from tilted_toys import ALPHA, TOKENS, VECTORS

from rlx import agents

N = 256


def make(name: str, spec, problem, **changes):
    config = agents.module(name).get_config()
    parts = {
        "rwr": {},
        "ppo": {},
        "backprop": {"reward": getattr(problem, "reward", None)},
        "forward_kl": {"value": getattr(problem, "value", None)},
        "inverse_kl": {"value": getattr(problem, "value", None)},
    }[name]
    config.update({"alpha": ALPHA, "lr": 0.03} | changes)
    return agents.make(config, spec, chain=problem.chain, params=problem.params, **parts)


@pytest.fixture(scope="module")
def tokens():
    return toys.tokens()


@pytest.fixture(scope="module")
def gauss():
    return toys.gaussian()


# Batches of each learner, drawn inside the compiled loop.


def from_prior(problem, spec, learner):
    def tokens(key, state):
        clean = jnp.asarray(toys.STATES[toys.CLEAN])
        i = jax.random.categorical(key, jnp.log(jnp.float32(problem.p)), shape=(N,))
        return toys.batch(toys.nothing(N), clean[i], jnp.float32(problem.r)[i])

    def vectors(key, state):
        x = jax.random.normal(key, (N, 2)) * jnp.sqrt(jnp.float32(problem.S))
        return toys.batch(toys.nothing(N), x, problem.reward(None, x))

    return tokens if spec is TOKENS else vectors


def from_walks(problem, spec, learner, n=N):
    def batches(key, state):
        x, kept = learner.act(state, toys.nothing(n), toys.one_shard(key), True)
        final = jax.nn.one_hot(x, toys.V + 1) if spec is TOKENS else x
        reward = jnp.zeros((n, problem.chain.steps)).at[:, -1].set(problem.reward(None, final))
        return toys.batch(toys.nothing(n), kept["path"], reward, log_prob=kept["log_prob"])

    return batches


def from_states(problem, spec, learner, n=N):
    def batches(key, state):
        walk, time = jax.random.split(key)
        _, kept = learner.act(state, toys.nothing(n), toys.one_shard(walk), True)
        i = jax.random.randint(time, (n,), 0, problem.chain.steps)
        x = kept["path"][jnp.arange(n), i]
        return toys.batch({"obs": toys.nothing(n), "x": x, "t": problem.chain.steps - i})

    return batches


def from_nothing(problem, spec, learner):
    return lambda key, state: toys.batch(toys.nothing(N))


SOURCES = {
    "rwr": from_prior,
    "backprop": from_nothing,
    "ppo": from_walks,
    "forward_kl": from_states,
    "inverse_kl": from_states,
}
REACHED = {"rwr": 0.02, "backprop": 0.4, "ppo": 0.05, "forward_kl": 0.2, "inverse_kl": 0.02}


@pytest.mark.parametrize("name", SOURCES)
def test_a_model_of_tokens_comes_near_the_tilted_law(name, tokens):
    learner = make(name, TOKENS, tokens)
    batches = SOURCES[name](tokens, TOKENS, learner)
    state, metrics = toys.train(learner, batches, 300, toys.one_shard)
    assert all(np.isfinite(np.asarray(x)).all() for x in metrics.values())
    law = toys.law(tokens.table + np.asarray(state.params["model"], np.float64))
    assert toys.kl(tokens.p, tokens.target) > 2.8
    assert toys.kl(law, tokens.target) < REACHED[name]
    if name != "rwr":  # what was pre-trained is kept
        np.testing.assert_array_equal(state.target_params["model"], tokens.params)


@pytest.mark.parametrize("name", ["rwr", "backprop", "ppo"])
def test_a_model_of_vectors_comes_near_the_tilted_law(name, gauss):
    more = {"last_steps": 100} if name == "backprop" else {}
    learner = make(name, VECTORS, gauss, lr=0.02, **more)
    batches = SOURCES[name](gauss, VECTORS, learner)
    state, _ = toys.train(learner, batches, 600, toys.one_shard)
    assert gauss.away(gauss.params) > 7.5
    assert gauss.away(state.params["model"]) < 0.1
    if name != "rwr":
        assert gauss.objective(f64(state.params["model"])) > gauss.objective(f64(gauss.params)) + 2


def slope(learner, problem, batch, params, keys=toys.one_shard(jax.random.key(5))):  # noqa: B008
    """The learner's gradient at `params`, what was pre-trained staying."""
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp)

    @jax.jit
    def grad(params):
        loss = lambda p: learner.td_loss(state.replace(params={"model": p}), batch, keys)  # noqa: E731
        return jax.grad(loss)(params)

    return grad(params)


def differences(objective, params: np.ndarray, entries: list[tuple]) -> np.ndarray:
    found = []
    for entry in entries:
        step = np.zeros_like(params)
        step[entry] = 1e-4
        found.append((objective(params + step) - objective(params - step)) / 2e-4)
    return np.array(found)


def some(problem, count: int = 24) -> tuple[np.ndarray, list[tuple]]:
    """Parameters off their start, and entries of states that walks often pass."""
    rng = np.random.default_rng(3)
    params = 0.4 * rng.normal(size=problem.params.shape)
    passed = toys.law(problem.table + params.reshape(problem.table.shape), True)[1]
    often = [i for i in np.argsort(-passed) if (toys.STATES[i] == toys.V).any()][:count]
    entries = []
    for i in often:
        place = int(np.flatnonzero(toys.STATES[i] == toys.V)[0])
        entries.append((*toys.STATES[i], place, int(rng.integers(toys.V))))
    return params, entries


def near(got: np.ndarray, want: np.ndarray) -> None:
    """Two gradients of which one is a mean over samples."""
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) > 0.98
    np.testing.assert_allclose(np.linalg.norm(got), np.linalg.norm(want), rtol=0.1)


def test_the_policy_gradient_is_that_of_reward_minus_divergence_of_walks(tokens):
    params, entries = some(tokens)
    learner, n = make("ppo", TOKENS, tokens), 60_000
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp).replace(params={"model": jnp.float32(params)})
    batch = jax.jit(from_walks(tokens, TOKENS, learner, n))(jax.random.key(1), state)
    got = np.asarray(slope(learner, tokens, batch, jnp.float32(params)))
    want = differences(lambda p: -toys.objective(p, tokens), params, entries)
    near(np.array([got[e] for e in entries]), want)


def test_per_step_rewards_of_a_value_leave_the_policy_gradient_the_same(tokens):
    """v_{t-1} - v_t telescopes: less noise, the same mean."""
    params, entries = some(tokens)
    learner, n = make("ppo", TOKENS, tokens), 20_000
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp).replace(params={"model": jnp.float32(params)})
    batch = jax.jit(from_walks(tokens, TOKENS, learner, n))(jax.random.key(2), state)
    times = jnp.arange(tokens.chain.steps, -1, -1)
    v = jax.vmap(lambda x, t: tokens.value(None, x, t), (1, 0), 1)(batch.action, times)
    dense = batch.replace(reward=v[:, 1:] - v[:, :-1])
    got = np.asarray(slope(learner, tokens, dense, jnp.float32(params)))
    want = differences(lambda p: -toys.objective(p, tokens), params, entries)
    near(np.array([got[e] for e in entries]), want)


def kernel_objective(problem, states, children_of_prior: bool):
    """Mean over states of KL(p* || p_theta), or ALPHA KL(p_theta || p*), exactly."""
    where = {tuple(s): i for i, s in enumerate(toys.STATES)}

    def value(params):
        total, table = 0.0, problem.table + params
        for s in states:
            places = np.flatnonzero(np.array(s) == toys.V)
            p, log_q, v = [], [], []
            for place in places:
                z = table[(*s, place)]
                log_q += list(z - np.log(np.exp(z).sum()) - np.log(len(places)))
                p += list(np.exp(problem.table[(*s, place)]) / len(places))
                for token in range(toys.V):
                    after = list(s)
                    after[place] = token
                    v.append(problem.soft[where[tuple(after)]])
            log_p = np.log(np.array(p))
            best = log_p + np.array(v) / ALPHA
            best -= np.log(np.exp(best).sum())
            log_q = np.array(log_q)
            if children_of_prior:
                total -= (np.exp(best) * log_q).sum()
            else:
                total += ALPHA * (np.exp(log_q) * (log_q - best)).sum()
        return total / len(states)

    return value


@pytest.mark.parametrize("name", ["forward_kl", "inverse_kl"])
def test_gradients_of_the_distillations_are_those_of_their_divergence(name, tokens):
    params, entries = some(tokens)
    states = [e[: toys.L] for e in entries]
    forward = name == "forward_kl"
    learner = make(name, TOKENS, tokens, children=128 if forward else 16)
    copies = 100 if forward else 800
    x = jnp.tile(jnp.asarray(np.array(states)), (copies, 1))
    seen = {"obs": toys.nothing(len(x)), "x": x, "t": (x == toys.V).sum(1)}
    got = np.asarray(slope(learner, tokens, toys.batch(seen), jnp.float32(params)))
    want = differences(kernel_objective(tokens, states, forward), params, entries)
    near(np.array([got[e] for e in entries]), want)


def test_the_reward_gradient_is_that_of_the_exact_objective(gauss):
    rng = np.random.default_rng(0)
    params = {name: 0.2 * rng.normal(size=(8, 2)) for name in ("slope", "shift")}
    learner = make("backprop", VECTORS, gauss, last_steps=8)
    batch = toys.batch(toys.nothing(100_000))
    got = slope(learner, gauss, batch, jax.tree.map(jnp.float32, params))
    entries = [(i, j) for i in range(8) for j in range(2)]
    for name in params:
        whole = lambda p, name=name: -gauss.objective(params | {name: p})  # noqa: E731
        want = differences(whole, params[name], entries)
        near(np.asarray(got[name]).ravel(), want)


def test_steps_before_the_last_k_feel_the_divergence_alone(gauss):
    """At the start the divergence has no slope, so they do not move at all."""
    learner = make("backprop", VECTORS, gauss, last_steps=3)
    got = slope(learner, gauss, toys.batch(toys.nothing(4_000)), gauss.params)
    moved = np.abs(np.asarray(got["shift"])).max(1) > 1e-6
    assert moved.tolist() == [True] * 3 + [False] * 5  # t = 1 ... 8


def test_weights_of_the_regression_have_mean_one_and_large_rewards_stay_finite(tokens):
    learner = make("rwr", TOKENS, tokens, alpha=1e-3)
    batch = from_prior(tokens, TOKENS, learner)(jax.random.key(0), None)
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp)
    _, metrics = learner.update(state, batch, toys.one_shard(jax.random.key(0)))
    best = np.asarray(batch.reward) == np.asarray(batch.reward).max()
    np.testing.assert_allclose(metrics["ess_share"], best.mean(), rtol=1e-3)
    assert np.isfinite(metrics["rwr_loss"])


def test_without_temperature_the_regression_is_the_pre_training(tokens):
    learner = make("rwr", TOKENS, tokens, alpha=float("inf"))
    batch = from_prior(tokens, TOKENS, learner)(jax.random.key(0), None)
    hp = {name: jnp.float32(x) for name, x in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp)
    keys = toys.one_shard(jax.random.key(0))
    _, metrics = learner.update(state, batch, keys)
    more = learner.update(state, batch.replace(reward=batch.reward * 0), keys)[1]
    np.testing.assert_allclose(metrics["rwr_loss"], more["rwr_loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["ess_share"], 1.0, rtol=1e-6)


REFUSED = [
    ("rwr", {"alpha": 0.0}, "learner.alpha is a temperature in reward units, a number > 0, got 0"),
    ("ppo", {"clip": 1.5}, "learner.clip is a number in (0, 1), got 1.5"),
    ("backprop", {"last_steps": 0}, "learner.last_steps is a whole number >= 1, got 0"),
    ("forward_kl", {"children": 1}, "learner.children is a whole number >= 2, got 1"),
    ("inverse_kl", {"children": 0}, "learner.children is a whole number >= 2, got 0"),
    ("inverse_kl", {"lr": -1.0}, "learner.lr is a number >= 0, got -1"),
]


@pytest.mark.parametrize("name, changes, text", REFUSED)
def test_bad_settings_are_named(name, changes, text, tokens):
    with pytest.raises(ValueError) as error:
        make(name, TOKENS, tokens, **changes)
    assert text in str(error.value)
