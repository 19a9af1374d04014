"""What a scaling run will do at its UTD, known before it: batch size, learning rate, cost."""

from __future__ import annotations

import math
from typing import Any

import jax
from ml_collections import ConfigDict

from rlx import agents
from rlx.data.buffer import buffer_bytes
from rlx.infra.errors import ConfigError
from rlx.infra.fields import parse_ratio
from rlx.scaling import flops, rules
from rlx.train.campaign import Entry
from rlx.types import Env


def at_utd(config: ConfigDict, utd: float, given: frozenset[str]) -> ConfigDict:
    """Return `config` at one UTD: length from the sweep, batch size and learning rate from the
    rule.

    What the user set by hand (`given`) stays. Every UTD gets the same ring, so that all share a
    compile.
    """
    own = ConfigDict(config.to_dict())
    utds, steps = config.sweep.utd, config.sweep.env_steps
    if steps and len(steps) != len(utds):
        raise ConfigError(
            f"sweep.env_steps has {len(steps)} entries and sweep.utd {len(utds)}: give one length "
            "per UTD, or none"
        )
    lengths = dict(zip(utds, steps, strict=False))
    parse_ratio(utd)  # refuses what no rule is made for
    own.train.utd = utd
    if "train.env_steps" not in given:
        own.train.env_steps = lengths.get(utd, config.train.env_steps)
    if own.data.capacity is None:
        own.data.capacity = min(1_000_000, max(config.train.env_steps, *lengths.values(), 0))
    batch_size, lr = rule(config, utd)
    if config.rule.batch_size and "learner.batch_size" not in given:
        own.learner.batch_size = batch_size
    if config.rule.lr and "learner.lr" not in given:
        own.learner.lr = lr
    return own.lock()


def rule(config: ConfigDict, utd: float) -> tuple[int, float]:
    """Return (batch size, learning rate) at `utd`: published slopes through the config's own point.

    With `rule.anchor_utd` = 0 the published values themselves (mean over the benchmark's tasks).
    """
    published = rules.published_rule(config.rule.benchmark)
    if not config.rule.anchor_utd:
        return published.batch_size(utd), published.learning_rate(utd)
    ratio = utd / config.rule.anchor_utd
    batch_size = rules.tabulated_batch(config.learner.batch_size * ratio**published.batch_slope)
    return batch_size, rules.tabulated_rate(config.learner.lr * ratio**published.rate_slope)


def net(config: ConfigDict, env: Env) -> tuple:
    """Return (obs size, action size, critic widths, actor widths)."""
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    return obs, action, tuple(config.learner.critic_hidden), tuple(config.learner.actor_hidden)


def cost(config: ConfigDict, env: Env) -> flops.Flops:
    """FLOPs of the learner per update and per transition."""
    learner = config.learner
    return flops.sac(*net(config, env), learner.batch_size, learner.ensemble, learner.layer_norm)


def describe(entry: Entry, env: Env) -> dict[str, Any]:
    """Return what an entry would run and hold, without compiling anything."""
    config, plan = entry.config, entry.plan
    learner = agents.make(config.learner, env.spec)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    obs, action, *_ = net(config, env)
    return {
        "workdir": str(entry.workdir),
        "runs": [run.id for run in entry.runs],
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        "buffer_gb": len(entry.runs) * buffer_bytes(entry.sizes.capacity, obs, action) / 1e9,
        "flops_per_update": cost(config, env).per_update,
        "batch_size": config.learner.batch_size,
        "lr": config.learner.lr,
        "utd": config.train.utd,
        "vector_steps_per_iteration": plan.H,
        "updates_per_iteration": plan.G,
        "prefill_env_steps": plan.prefill * plan.num_envs,
        "env_steps": plan.total,
    }
