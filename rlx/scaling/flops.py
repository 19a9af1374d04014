"""Exact dot FLOPs and parameter counts of the learners, in plain integers (specification section
6).

Convention: one multiply-add = 2 FLOPs; dense layers only.  For a net, m = sum of fan_in * fan_out
over its layers (over all members of an ensemble) and f = the same for its first layer.  Forward 2m;
weight gradient 2m; input gradient 2(m - f) when the net's own input needs none, 2m when it does
(the action gradient through the critic). Element-wise work (Adam, Polyak, quantile loss) is
reported apart and never added to the dot FLOPs.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rlx.scaling.errors import unknown

ADAM_PER_PARAMETER = 16  # element-wise FLOPs per parameter and update, approximate (6.2)
LAYER_NORM_PER_UNIT = 34  # with activation, bias and residual sum, per pass: as XLA counts them
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


def simba(inputs: int, width: int, blocks: int, outputs: int) -> Net:
    """SimBa: Dense, `blocks` residual blocks of width -> 4 width -> width with LayerNorm, Dense."""
    inner = 4 * width
    m = inputs * width + blocks * 2 * width * inner + width * outputs
    block = 2 * width + inner * (width + 1) + width * (inner + 1)
    ends = width * (inputs + 1) + 2 * width + outputs * (width + 1)
    return Net(m, inputs * width, ends + blocks * block)


def simba_v2(inputs: int, width: int, blocks: int, outputs: int) -> Net:
    """SimbaV2: one input more, one Dense more at the end, scalers instead of biases and norms."""
    inner = 4 * width
    m = (inputs + 1) * width + blocks * 2 * width * inner + width * width + width * outputs
    return Net(m, (inputs + 1) * width, m + 2 * width + blocks * (inner + width) + outputs)


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
    return _flops(_sac_passes(critic, actor), 2 * actor.m, critic, actor.params, batch_size)


def _sac_passes(critic: Net, actor: Net) -> dict[str, int]:
    return {
        "target_actor": 2 * actor.m,
        "target_critic": 2 * critic.m,
        "critic_update": 6 * critic.m - 2 * critic.f,
        "actor_update_actor": 6 * actor.m - 2 * actor.f,
        "actor_update_critic": 4 * critic.m,
    }


def bro(
    obs_dim: int,
    action_dim: int,
    batch_size: int,
    critic_width: int = 512,
    actor_width: int = 256,
    quantiles: int = 100,
    optimistic: bool = True,
    critic_blocks: int = 2,
    actor_blocks: int = 1,
) -> Flops:
    """BRO: 16 m_c - 2 f_c + 10 m_a - 2 f_a + 6 m_d - 2 f_d with the optimistic actor; SAC's count
    without it.

    Nets as published: a critic BroNet of two heads with `quantiles` outputs each, an actor BroNet,
    and the optimistic (dual) actor, a BroNet over (obs, action mean) with the actor's width and
    blocks.  The actor's outputs are mean and log-std; the dual net's shift head has action_dim
    outputs and no bias.
    """
    critic = bronet(obs_dim + action_dim, critic_width, critic_blocks, quantiles).times(2)
    actor = bronet(obs_dim, actor_width, actor_blocks, 2 * action_dim)
    passes = _sac_passes(critic, actor)
    acting, actor_params = 2 * actor.m, actor.params
    if optimistic:
        dual = bronet(obs_dim + action_dim, actor_width, actor_blocks, action_dim)
        passes |= {
            "optimistic_base_actor": 2 * actor.m,
            "optimistic_dual": 6 * dual.m - 2 * dual.f,
            "optimistic_critic": 4 * critic.m,
        }
        acting += 2 * dual.m
        actor_params += dual.params - action_dim
    out = _flops(passes, acting, critic, actor_params, batch_size)
    # Passes through each net as for dense layers: forward is one, backward another.
    units = 5 * 2 * (1 + 2 * critic_blocks) * critic_width
    units += 3 * (1 + 2 * actor_blocks) * actor_width
    if optimistic:
        units += 2 * 2 * (1 + 2 * critic_blocks) * critic_width
        units += 3 * (1 + 2 * actor_blocks) * actor_width
    rest = {
        "quantile_loss": 10 * 2 * quantiles**2 * batch_size,
        "layer_norm": LAYER_NORM_PER_UNIT * units * batch_size,
    }
    return replace(out, elementwise=out.elementwise | rest)


def pql(
    obs_dim: int,
    action_dim: int,
    critic_hidden: Sequence[int],
    actor_hidden: Sequence[int],
    batch_size: int,
    ensemble: int = 2,
    updates_per_policy_update: int = 2,
    atoms: int = 1,
) -> Flops:
    """PQL/DDPG: 2 m_a + 8 m_c - 2 f_c per critic update, and 6 m_a - 2 f_a + 4 m_c per policy
    update.

    `per_update` is one critic update plus its share of a policy update (one per
    `updates_per_policy_update`): the policy update's whole count divided by that number, rounded to
    a whole FLOP, so at most half a FLOP per update off.

    Args:
      atoms: outputs of each critic: 1 for PQL, 51 for the distributional PQL-D.
    """
    if atoms < 1 or updates_per_policy_update < 1:
        raise ValueError(
            f"atoms={atoms}, updates_per_policy_update={updates_per_policy_update}; both must be "
            ">= 1"
        )
    critic = mlp([obs_dim + action_dim, *critic_hidden, atoms]).times(ensemble)
    actor = mlp([obs_dim, *actor_hidden, action_dim])
    policy = {"actor_update_actor": 6 * actor.m - 2 * actor.f, "actor_update_critic": 4 * critic.m}
    passes = {
        "target_actor": 2 * actor.m,
        "target_critic": 2 * critic.m,
        "critic_update": 6 * critic.m - 2 * critic.f,
    }
    out = _flops(passes, 2 * actor.m, critic, actor.params, batch_size)

    def share(count: int) -> int:
        delay = updates_per_policy_update
        return (2 * count * batch_size + delay) // (2 * delay)

    through_critic = share(policy["actor_update_critic"])
    policy["actor_update_actor"] = share(sum(policy.values())) - through_critic
    breakdown = {**out.breakdown, **policy, "actor_update_critic": through_critic}
    return replace(out, per_update=sum(breakdown.values()), breakdown=breakdown)


LEARNERS = {"sac": sac, "bro": bro, "pql": pql}


def flops(algo: str, **dims) -> Flops:
    """The count of a learner by name: `flops("bro", obs_dim=..., action_dim=..., batch_size=...)`.

    Args:
      algo: 'sac', 'bro' or 'pql'.
      **dims: of the function of that name.
    """
    if algo not in LEARNERS:
        raise unknown("learner", algo, LEARNERS)
    accepted = list(inspect.signature(LEARNERS[algo]).parameters)
    for name in dims:
        if name not in accepted:
            raise unknown(f"dimension of {algo}", name, accepted)
    return LEARNERS[algo](**dims)


def width_for(params: float, inputs: int, depth: int, ensemble: int = 2) -> int:
    """Width of an MLP critic inputs -> width ** depth -> 1 whose parameter count is nearest to
    `params`, all members counted."""

    def count(width: int) -> int:
        return mlp([inputs, *[width] * depth, 1]).times(ensemble).params

    width = 1
    while count(width) < params:
        width *= 2
    low = width // 2
    while width - low > 1:
        middle = (low + width) // 2
        low, width = (middle, width) if count(middle) < params else (low, middle)
    return width if low < 1 or count(width) - params <= params - count(low) else low


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
