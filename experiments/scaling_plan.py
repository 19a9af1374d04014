"""What a scaling run will do, known before anything is compiled."""

from __future__ import annotations

import math
from typing import Any, cast

import jax

from experiments.scaling_cost import cost
from rlx import agents
from rlx.data.buffer import buffer_bytes
from rlx.train.campaign import Entry
from rlx.train.checks import Sizes
from rlx.train.schedule import Schedule
from rlx.types import Env


def describe(entry: Entry, env: Env) -> dict[str, Any]:
    """Return what an entry would run and hold, without compiling anything."""
    config, plan = entry.config, cast(Schedule, entry.plan)
    learner = agents.make(config.learner, env.spec)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    capacity = cast(Sizes, entry.sizes).capacity
    return {
        "workdir": str(entry.workdir),
        "runs": [run.id for run in entry.runs],
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        "buffer_gb": len(entry.runs) * buffer_bytes(capacity, obs, action) / 1e9,
        "flops_per_update": cost(config, env).per_update,
        "batch_size": config.learner.batch_size,
        "lr": config.learner.lr,
        "utd": config.train.utd,
        "vector_steps_per_iteration": plan.H,
        "updates_per_iteration": plan.G,
        "prefill_env_steps": plan.prefill * plan.num_envs,
        "env_steps": plan.total,
    }
