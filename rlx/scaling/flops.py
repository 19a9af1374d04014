"""Exact dot FLOPs and parameter counts of the learners, in plain integers (specification section
6).

Convention: one multiply-add = 2 FLOPs; dense layers only.  For a net, m = sum of fan_in * fan_out
over its layers (over all members of an ensemble) and f = the same for its first layer.  Forward 2m;
weight gradient 2m; input gradient 2(m - f) when the net's own input needs none, 2m when it does
(the action gradient through the critic). Element-wise work (Adam, Polyak, quantile loss) is
reported apart and never added to the dot FLOPs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

ADAM_PER_PARAMETER = 16  # element-wise FLOPs per parameter and update, approximate (6.2)
POLYAK_PER_PARAMETER = 3


@dataclass(frozen=True)
class Net:
    """Multiply-adds per sample of a net: m in all layers, f in the first; `params` trainable
    parameters."""

    m: int
    f: int
    params: int

    def times(self, members: int) -> Net:
        """An ensemble of `members` independent copies."""
        return Net(self.m * members, self.f * members, self.params * members)


@dataclass(frozen=True)
class Flops:
    """FLOPs of one learner.

    per_update: dot FLOPs of one gradient step on the whole batch.  per_env_step: dot FLOPs of
    acting, per transition.
    critic_params: N, all critics of the ensemble, without targets.  breakdown: dot FLOPs per update
    by pass.
    elementwise: approximate FLOPs per update outside dense layers.  flops_paper: 10 * N * B, for
    comparison with published fits.
    """

    per_update: int
    per_env_step: int
    critic_params: int
    actor_params: int
    flops_paper: int
    breakdown: dict[str, int] = field(default_factory=dict)
    elementwise: dict[str, int] = field(default_factory=dict)


def mlp(sizes: Sequence[int], layer_norm: bool = False) -> Net:
    """A plain MLP over layer widths [in, hidden..., out]; LayerNorm adds 2 * width parameters per
    hidden layer."""
    products = [i * o for i, o in itertools.pairwise(sizes)]
    norm = 2 * sum(sizes[1:-1]) if layer_norm else 0
    return Net(sum(products), products[0], sum(products) + sum(sizes[1:]) + norm)


def bronet(inputs: int, width: int, blocks: int, outputs: int) -> Net:
    """BroNet with LayerNorm: Dense, `blocks` residual blocks of two Dense, Dense out (one head;
    6.3)."""
    m = inputs * width + blocks * 2 * width * width + width * outputs
    params = width * (inputs + 1) + 2 * width + blocks * 2 * (width * (width + 1) + 2 * width)
    return Net(m, inputs * width, params + outputs * (width + 1))


def sac(
    obs_dim: int,
    action_dim: int,
    critic_hidden: Sequence[int],
    actor_hidden: Sequence[int],
    batch_size: int,
    ensemble: int = 2,
    layer_norm: bool = False,
) -> Flops:
    """SAC: 12 m_c - 2 f_c + 8 m_a - 2 f_a per sample and update; acting 2 m_a.

    Args:
      critic_hidden: widths of the critic MLP concat(obs, action) -> hidden -> 1, of each of
        `ensemble` members.
      actor_hidden: widths of the actor MLP obs -> hidden -> 2 * action_dim.
      batch_size: B, samples.
    """
    critic = mlp([obs_dim + action_dim, *critic_hidden, 1], layer_norm).times(ensemble)
    actor = mlp([obs_dim, *actor_hidden, 2 * action_dim], layer_norm)
    return sac_of(critic, actor, batch_size)


def sac_of(critic: Net, actor: Net, batch_size: int) -> Flops:
    """The SAC count for any critic ensemble and actor."""
    passes = {
        "target_actor": 2 * actor.m,
        "target_critic": 2 * critic.m,
        "critic_update": 6 * critic.m - 2 * critic.f,
        "actor_update_actor": 6 * actor.m - 2 * actor.f,
        "actor_update_critic": 4 * critic.m,
    }
    return _flops(passes, 2 * actor.m, critic, actor.params, batch_size)


def bro(
    obs_dim: int,
    action_dim: int,
    batch_size: int,
    critic_width: int = 512,
    actor_width: int = 256,
    quantiles: int = 100,
    optimistic: bool = True,
) -> Flops:
    """BRO: 16 m_c - 2 f_c + 10 m_a - 2 f_a + 6 m_d - 2 f_d with the optimistic actor; SAC's count
    without it.

    Nets as published: critic BroNet of 2 blocks and two heads of `quantiles` outputs, actor BroNet
    of 1 block, the optimistic (dual) actor BroNet of 1 block over (obs, action mean).  Output
    layers give mean and log-std; the dual net's shift head has action_dim outputs and no bias.
    """
    critic = bronet(obs_dim + action_dim, critic_width, 2, quantiles).times(2)
    actor = bronet(obs_dim, actor_width, 1, 2 * action_dim)
    base = sac_of(critic, actor, batch_size)
    elementwise = {**base.elementwise, "quantile_loss": 10 * 2 * quantiles**2 * batch_size}
    if not optimistic:
        return Flops(**{**base.__dict__, "elementwise": elementwise})
    dual = bronet(obs_dim + action_dim, actor_width, 1, action_dim)
    passes = {
        **{name: count // batch_size for name, count in base.breakdown.items()},
        "optimistic_base_actor": 2 * actor.m,
        "optimistic_dual": 6 * dual.m - 2 * dual.f,
        "optimistic_critic": 4 * critic.m,
    }
    out = _flops(passes, 2 * actor.m + 2 * dual.m, critic, actor.params + dual.params, batch_size)
    return Flops(
        **{
            **out.__dict__,
            "elementwise": {**out.elementwise, "quantile_loss": elementwise["quantile_loss"]},
        }
    )


def pql(
    obs_dim: int,
    action_dim: int,
    critic_hidden: Sequence[int],
    actor_hidden: Sequence[int],
    batch_size: int,
    ensemble: int = 2,
    updates_per_policy_update: int = 2,
) -> Flops:
    """PQL/DDPG: 2 m_a + 8 m_c - 2 f_c per critic update, and 6 m_a - 2 f_a + 4 m_c per policy
    update.

    `per_update` is one critic update plus its share of a policy update (one per
    `updates_per_policy_update`), so `batch_size` must make that share whole.
    """
    critic = mlp([obs_dim + action_dim, *critic_hidden, 1]).times(ensemble)
    actor = mlp([obs_dim, *actor_hidden, action_dim])
    policy = {"actor_update_actor": 6 * actor.m - 2 * actor.f, "actor_update_critic": 4 * critic.m}
    if any(v * batch_size % updates_per_policy_update for v in policy.values()):
        raise ValueError(
            f"batch_size={batch_size} does not split over {updates_per_policy_update} critic "
            "updates"
        )
    passes = {
        "target_actor": 2 * actor.m,
        "target_critic": 2 * critic.m,
        "critic_update": 6 * critic.m - 2 * critic.f,
    }
    out = _flops(passes, 2 * actor.m, critic, actor.params, batch_size)
    share = {name: v * batch_size // updates_per_policy_update for name, v in policy.items()}
    breakdown = {**out.breakdown, **share}
    return Flops(**{**out.__dict__, "per_update": sum(breakdown.values()), "breakdown": breakdown})


def _flops(
    passes: dict[str, int], acting: int, critic: Net, actor_params: int, batch_size: int
) -> Flops:
    breakdown = {name: count * batch_size for name, count in passes.items()}
    return Flops(
        per_update=sum(breakdown.values()),
        per_env_step=acting,
        critic_params=critic.params,
        actor_params=actor_params,
        flops_paper=10 * critic.params * batch_size,
        breakdown=breakdown,
        elementwise={
            "adam": ADAM_PER_PARAMETER * (critic.params + actor_params),
            "polyak": POLYAK_PER_PARAMETER * critic.params,
        },
    )
