"""FLOPs of the learner of a config, by the counts of `rlx.scaling.flops`."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from rlx.scaling import flops
from rlx.types import Env


def cost(config: ConfigDict, env: Env) -> flops.Flops:
    """FLOPs of the learner per update and per transition."""
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    learner = config.learner
    critic, actor = tuple(learner.critic_hidden), tuple(learner.actor_hidden)
    if learner.name == "pql":
        atoms, delay = max(1, learner.atoms), learner.policy_delay
        nets = critic, actor, learner.batch_size, learner.ensemble
        return flops.pql(obs, action, *nets, delay, atoms)
    if learner.name == "bro":
        return flops.bro(
            obs,
            action,
            learner.batch_size,
            critic_width=critic[0],
            actor_width=actor[0],
            quantiles=learner.quantiles,
            optimistic=learner.optimistic,
            critic_blocks=len(critic),
            actor_blocks=len(actor),
        )
    nets = critic, actor, learner.batch_size, learner.ensemble
    if learner.network == "mlp":
        return flops.sac(obs, action, *nets, learner.layer_norm)
    count = getattr(flops, learner.network)  # bronet, simba, simba_v2
    critics = count(obs + action, critic[0], len(critic), 1).times(learner.ensemble)
    return flops.sac_of(critics, count(obs, actor[0], len(actor), 2 * action), learner.batch_size)
