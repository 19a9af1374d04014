"""The one-step student: its loss against NumPy, and what it learns from a sampler of many steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tilted_toys as toys
from learners import random_like
from numeric import f64, network

from rlx import agents
from rlx.types import EnvSpec, Spec

SPEC = EnvSpec(Spec((3,)), Spec((2,), np.float32))


def teacher(obs, z):
    return jnp.tanh(z) + obs[:, :2]


def reward(obs, x):
    return -((x - 1.0) ** 2).sum(-1) * (1 + obs[:, 2] ** 2)


def student(**changes):
    config = agents.module("student").get_config()
    config.update({"hidden": (8, 8)} | changes)
    return agents.make(config, SPEC, teacher=teacher, reward=reward)


def hp(learner):
    return {name: jnp.float32(x) for name, x in learner.hp.items()}


def test_the_loss_against_numpy():
    learner = student(alpha=2.5)
    state = learner.init(jax.random.key(0), hp(learner))
    state = state.replace(params=random_like(state.params, 1))
    obs = np.random.default_rng(0).normal(size=(6, 3))
    keys = toys.one_shard(jax.random.key(3))
    z = np.asarray(jax.random.normal(keys.keys[0], (6, 2)), np.float64)
    x = network(f64(state.params)["policy"], obs, z)
    distill = ((x - np.tanh(z) - obs[:, :2]) ** 2).mean()
    r = (-((x - 1) ** 2).sum(-1) * (1 + obs[:, 2] ** 2)).mean()
    batch = toys.batch(jnp.float32(obs))
    np.testing.assert_allclose(learner.td_loss(state, batch, keys), 2.5 * distill - r, rtol=1e-5)
    action, extras = learner.act(state, batch.obs, keys, True)
    np.testing.assert_allclose(action, x, rtol=1e-4, atol=1e-5)
    assert extras == {}


@pytest.mark.parametrize("alpha", [100.0, 1.0])
def test_the_weight_of_the_distillation_trades_the_teacher_for_the_reward(alpha):
    """Where a network fits all: minimise alpha/2 |x - y|**2 + c |x - 1|**2 for y the teacher."""
    learner = student(alpha=alpha, hidden=(64, 64), lr=3e-3)
    batches = lambda key, state: toys.batch(jax.random.normal(key, (256, 3)))  # noqa: E731
    state, _ = toys.train(learner, batches, 1000, toys.one_shard)
    obs = jax.random.normal(jax.random.key(7), (500, 3))
    keys = toys.one_shard(jax.random.key(8))
    x, _ = learner.act(state, obs, keys, False)
    y = teacher(obs, jax.random.normal(keys.keys[0], (500, 2)))
    c = 1 + np.asarray(obs)[:, 2:] ** 2
    want = (alpha / 2 * np.asarray(y) + c) / (alpha / 2 + c)
    assert np.sqrt(((np.asarray(x) - want) ** 2).mean()) < 0.1


def test_tokens_are_refused():
    with pytest.raises(ValueError, match="student makes float vectors"):
        config = agents.module("student").get_config()
        agents.make(config, toys.TOKENS, teacher=teacher, reward=reward)
