"""The expert's file says what the trained policy would do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import offline_toys as toys

from experiments import expert as command
from rlx import agents
from rlx.data.synth import expert
from rlx.infra import checkpoint
from rlx.types import EnvSpec, Spec


def test_the_exported_policy_is_the_mean_of_the_trained_one(tmp_path):
    config = toys.config("rlpd", train__offline_steps=3, eval__episodes=0)
    toys.train(config, tmp_path)
    command.export(str(tmp_path))
    policy = expert.load(str(tmp_path))
    spec = EnvSpec(Spec((2,)), Spec((1,), np.float32, -1.0, 1.0))
    learner = agents.make(config.learner, spec)
    params = jax.tree.map(lambda x: x[0], checkpoint.read_params(tmp_path)["params"])
    state = learner.init(jax.random.key(0), {k: jnp.float32(v) for k, v in learner.hp.items()})
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    state = state.replace(params=jax.tree.map(jnp.asarray, params))
    want, _ = learner.act(state, jnp.asarray(obs), toys.keys(), False)
    got = [policy(row[:1], row[1:]) for row in obs]  # observation and direction, joined
    np.testing.assert_allclose(np.stack(got), want, rtol=0, atol=1e-6)
