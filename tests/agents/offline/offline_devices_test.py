"""Learners from data on two devices equal themselves on one."""

from __future__ import annotations

import pytest

from rlx import agents

CODE = """
import sys
sys.path.insert(0, "tests")
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from learners import SPEC, batch, config, started
from toys import keys
from rlx import agents
from rlx.infra.sharding import make_mesh
from rlx.types import Keys

name = sys.argv[1]
mesh, rows, random = make_mesh(1, 2), batch(chunk=3), keys(3, shards=2)
changes = {"eval_noise": "zero"} if "eval_noise" in config(name) else {}
alone, state = started(name, **changes)
together = agents.make(config(name, **changes), SPEC, "data")
state = state.replace(grad_steps=jnp.int32(1))
by_shard = Keys(P("data"), P("data"), P(), random.count)

def work(learner):
    def run(state, rows, keys):
        after, metrics = learner.update(state, rows, keys)
        loss = learner.td_loss(state, rows, keys)
        actions = [learner.act(state, rows.obs, keys, explore)[0] for explore in (True, False)]
        return (after, metrics, loss), actions
    return run

split = jax.shard_map(
    work(together), mesh=mesh, in_specs=(P(), P("data"), by_shard), out_specs=(P(), P("data"))
)
quick = {"xla_backend_optimization_level": 0}
one, two = (jax.jit(f, compiler_options=quick)(state, rows, random) for f in (work(alone), split))
(after, *rest), actions = one
(after_two, *rest_two), actions_two = two
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
same = lambda s: (s.opt_state, s.target_params)  # Adam's step shows the signs of tiny gradients
jax.tree.map(close, (same(after), rest, actions), (same(after_two), rest_two, actions_two))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", agents.OFFLINE)
def test_two_devices_learn_and_act_as_one(name, run_python):
    run_python(["-c", CODE, name], devices=2)
