"""The bandits and the learners that are tried on them, with every number of theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rlx import agents
from rlx.types import EnvSpec, Spec


class Bandit(NamedTuple):
    """One part of the experiment; the numbers are those that were fixed before any run."""

    name: str
    about: str
    modes: int = 4  # K, evenly around the ring
    first: float = 45.0  # degrees, where the first of them lies
    good: tuple[int, ...] = ()  # modes with reward 1, the others 0; empty = the reward is a_x
    off_data: float | None = -1.0  # true reward off the data; None = as on the data
    turned: bool = False  # the ring turns with the state, an angle drawn uniformly
    constant: float = 1.0  # the state where it does not turn (0: every input of a critic may be 0)
    radius: float = 0.7
    std: float = 0.04  # of the data around a mode
    near: float = 0.2  # on data = within this distance of a mode
    updates: int = 4_000
    hidden: tuple[int, ...] = (64, 64, 64)  # critics, values, ReBRAC's and AWR's policies
    flow_hidden: tuple[int, ...] = (128, 128, 128)  # flows and FQL's one-step policy
    fql: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # its alphas
    rebrac: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # its alphas of the actor

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(Spec((2 if self.turned else 1,)), Spec((2,), np.float32, -1.0, 1.0))


WIDE = (128, 128)
BANDITS = (
    Bandit("ring", "C1: 8 modes, reward a_x everywhere", 8, 0.0, (), None, updates=5_000,
           hidden=WIDE, flow_hidden=WIDE, fql=(3.0, 10.0, 30.0), rebrac=(1.0,)),
    Bandit("offaxis", "C1b (i): reward 1 on the two modes with a_x > 0, -1 off data", good=(0, 3)),
    Bandit("ridge", "C1b (ii): reward a_x on data, -1 off data",
           fql=(0.03, 0.3, 3.0, 10.0, 30.0, 100.0), rebrac=(0.03, 0.1, 0.3, 1.0, 3.0)),
    Bandit("turned", "C1b (iii): two opposite good modes, the ring turns with the state",
           first=0.0, good=(0, 2), turned=True, updates=5_000,
           fql=(0.03, 0.1, 0.3, 1.0, 3.0), rebrac=(0.03, 0.1, 0.3, 1.0)),
)  # fmt: skip


class Method(NamedTuple):
    """A learner, and the one setting that its runs differ in."""

    label: str
    agent: str
    setting: str = ""  # "" = there is none

    def values(self, bandit: Bandit) -> tuple[float, ...]:
        return getattr(bandit, self.agent) if self.setting else (0.0,)


METHODS = (
    Method("flow BC", "flow_bc"),
    Method("FQL", "fql", "alpha"),
    Method("ReBRAC", "rebrac", "alpha_actor"),
    Method("IFQL", "ifql"),
    Method("AWR mean", "iql"),  # its variance is fixed at 1: only its mean says something here
)
SETTINGS = {"lr": 1e-3, "flow_steps": 20, "normalize_q": True, "samples": 8}


def config(method: Method, bandit: Bandit, **more: int) -> ConfigDict:
    """Return the learner's published constants with the bandit's numbers in their place."""
    made = agents.module(method.agent).get_config()
    flow = method.agent in ("flow_bc", "fql", "ifql")
    given = SETTINGS | {"critic_hidden": bandit.hidden} | more
    given["actor_hidden"] = bandit.flow_hidden if flow else bandit.hidden
    made.update({name: value for name, value in given.items() if name in made})
    return made
