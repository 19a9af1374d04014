"""Published settings per learner and data set of configs/offline.py, as flat overrides.

Of 'Flow Q-Learning' (Park, Li, Levine 2025, arXiv 2502.02538): the 73 tasks of tables 5 and 6 (the
repository's commands where the two differ), offline-to-online of table 7, baselines of table 6.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]


def fql(alpha: float, discount: float = 0.99, q_agg: str = "mean", steps: int = 1_000_000):
    """One row of FQL's table."""
    return {
        "learner.alpha": alpha,
        "learner.discount": discount,
        "learner.q_agg": q_agg,
        "train.offline_steps": steps,
    }


ADROIT = {  # alpha of FQL on D4RL, offline
    "pen": (10_000.0, 10_000.0, 3_000.0),
    "door": (30_000.0, 30_000.0, 30_000.0),
    "hammer": (30_000.0, 10_000.0, 30_000.0),
    "relocate": (10_000.0, 30_000.0, 30_000.0),
}
FQL = {  # by the beginning of a task's name, the longest that fits
    "antmaze-large-navigate": fql(10.0, q_agg="min"),
    "antmaze-giant-navigate": fql(10.0, 0.995, "min"),
    "humanoidmaze-medium-navigate": fql(30.0, 0.995),
    "humanoidmaze-large-navigate": fql(30.0, 0.995),
    "antsoccer-arena-navigate": fql(10.0, 0.995),
    "cube-single": fql(300.0),
    "cube-double": fql(300.0),
    "scene": fql(300.0),
    "puzzle-3x3": fql(1_000.0),
    "puzzle-4x4": fql(1_000.0),
    "visual-cube-single": fql(300.0, steps=500_000),
    "visual-cube-double": fql(100.0, steps=500_000),
    "visual-scene": fql(100.0, steps=500_000),
    "visual-puzzle-3x3": fql(300.0, steps=500_000),
    "visual-puzzle-4x4": fql(300.0, steps=500_000),
    "antmaze-umaze": fql(10.0, steps=500_000),
    "antmaze-medium-play": fql(10.0, steps=500_000),
    "antmaze-medium-diverse": fql(10.0, steps=500_000),
    "antmaze-large-play": fql(3.0, steps=500_000),
    "antmaze-large-diverse": fql(3.0, steps=500_000),
    **{
        f"{hand}-{kind}": fql(alpha, q_agg="min", steps=500_000)
        for hand, alphas in ADROIT.items()
        for kind, alpha in zip(("human", "cloned", "expert"), alphas, strict=True)
    },
}
ONLINE = {  # offline-to-online: other values
    "fql": {
        "humanoidmaze-medium-navigate": {"learner.alpha": 100.0},
        "antsoccer-arena-navigate": {"learner.alpha": 30.0},
        "pen-cloned": {"learner.alpha": 1_000.0},
        "door-cloned": {"learner.alpha": 1_000.0},
        "hammer-cloned": {"learner.alpha": 1_000.0},
        "relocate-cloned": {"learner.alpha": 10_000.0},
    },
    "iql": {"antsoccer-arena-navigate": {"learner.alpha": 1.0}},
    "rebrac": {
        "antsoccer-arena-navigate": {"learner.alpha_actor": 0.01, "learner.alpha_critic": 0.01}
    },
    "ifql": {
        "antsoccer-arena-navigate": {"learner.samples": 64},
        **{hand: {"learner.samples": 128} for hand in ADROIT},
    },
}
GROUPS = (  # rows of the baselines' table; a pixel task has the values of its states
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "humanoidmaze-medium-navigate",
    "humanoidmaze-large-navigate",
    "cube-single",
    "cube-double",
    "scene",
    "puzzle-3x3",
    "puzzle-4x4",
)


def column(name: str, *values: float) -> dict[str, Settings]:
    """One number of a learner over the groups."""
    return {group: {name: value} for group, value in zip(GROUPS, values, strict=True)}


def columns(*parts: dict[str, Settings]) -> dict[str, Settings]:
    """Several numbers of a learner over the groups."""
    return {group: {k: v for part in parts for k, v in part[group].items()} for group in GROUPS}


MANIPULATION = ("cube", "scene", "puzzle")
D4RL_MAZES = ("antmaze-umaze", "antmaze-medium-play", "antmaze-medium-diverse")
D4RL_LARGE = ("antmaze-large-play", "antmaze-large-diverse")
BASELINES = {
    "iql": column("learner.alpha", 10, 10, 10, 10, 1, 0.3, 10, 10, 3),
    "rebrac": columns(
        column("learner.alpha_actor", 0.003, 0.003, 0.01, 0.01, 1, 0.1, 0.1, 0.3, 0.3),
        column("learner.alpha_critic", 0.01, 0.01, 0.01, 0.01, 0, 0, 0.01, 0.01, 0.01),
    ),
    "fawac": column("learner.alpha", 3, 3, 3, 3, 1, 0.3, 0.3, 0.3, 0.3)
    | {task: {"learner.alpha": 3.0} for task in D4RL_MAZES + D4RL_LARGE},
    "fbrac": column("learner.alpha", 3, 10, 30, 30, 100, 100, 100, 100, 300)
    | {task: {"learner.alpha": 10.0} for task in D4RL_MAZES}
    | {task: {"learner.alpha": 1.0} for task in D4RL_LARGE},
    "diffusion_ql": {
        task: {"learner.backup_samples": 10} for task in ("antmaze", *D4RL_MAZES, *D4RL_LARGE)
    },
}
IQL_NET = {"learner.critic_hidden": (256,) * 4, "learner.actor_hidden": (256,) * 4}
WALKING = {"learner.critic_hidden": (512, 512), "learner.expectile": 0.7}  # and hands
BODIES = {  # networks that a paper gives for the states of a kind of body
    "iql": {body: IQL_NET for body in MANIPULATION},
    "idql": {
        **{body: {"learner.critic_hidden": (256, 256)} for body in MANIPULATION},
        **{body: WALKING for body in ("antmaze", "humanoidmaze", "antsoccer", *ADROIT)},
    },
}
LENGTH = {"idql": {"train.offline_steps": 3_000_000}}
# Of later work: best of N with chunks (Li et al. 2025, arXiv 2507.07969).
CHUNKED = {
    "bfn": {"learner.samples": 32},
    "rlpd": {"learner.bc_alpha": 0.01, "learner.ensemble": 10, "learner.q_agg": "mean"},
}
# Point mazes are ours to set. An action changes Q by little (hundreds of steps to the goal), hence
# the small alpha; ten-step returns reach the goal in thousands of updates instead of 100 000s.
POINTMAZE: dict[str, Settings] = {"fql": {"learner.alpha": 1.0}}


WALK = {  # as OGBench trained its experts (Park et al. 2025, arXiv 2410.20092)
    "learner.lr": 1e-4,
    "learner.critic_hidden": (256, 256),
    "learner.actor_hidden": (256, 256),
    "train.offline_steps": 0,
    "train.online_steps": 400_000,
    "train.warmup": 10_000,
    "train.capacity": 1_000_000,
    "train.eval_every": 20_000,
    "eval.episodes": 5,
}


def settings(agent: str, task: str, *, online: bool = False) -> Settings:
    """Return the published overrides of `agent` for `task`, {} where none are known.

    Every learner has FQL's discount and number of steps. A task from pixels has the values of its
    states where it has none of its own.
    """
    if task.startswith("walk-"):
        return WALK
    if task.startswith("pointmaze"):
        return {"data.n_step": 10} | POINTMAZE.get(agent, {})
    found = longest(FQL, task)
    if agent != "fql":
        found.pop("learner.alpha", None)
    if agent not in ("fql", "fbrac"):
        found.pop("learner.q_agg", None)
    found |= LENGTH.get(agent, {}) | longest(BODIES.get(agent, {}), task)
    table = BASELINES.get(agent, {})
    found |= longest(table, task) or longest(table, task.removeprefix("visual-"))
    return found | (longest(ONLINE.get(agent, {}), task) if online else {})


def longest(table: dict[str, Settings], task: str) -> Settings:
    """The entry whose key is the longest beginning of `task`."""
    fitting = [key for key in table if task.startswith(key)]
    return dict(table[max(fitting, key=len)]) if fitting else {}
