"""Our FQL on random data of the shapes of OGBench's cube-single: programs of a run from data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks.measure import Block
from rlx import agents
from rlx.data import trajectories
from rlx.data.rows import Rows, Windows
from rlx.infra import sharding
from rlx.train import offline
from rlx.train.offline_spec import learner_spec, one_spec

EPISODE = 1000  # transitions


@dataclass(frozen=True)
class Setting:
    """What is run; both sides of a comparison read the same one."""

    obs: int = 28
    action: int = 5
    rows: int = 100_000  # transitions of the data
    batch_size: int = 256
    hidden: tuple[int, ...] = (512, 512, 512, 512)


def arrays(setting: Setting) -> dict[str, np.ndarray]:
    """Return random data in OGBench's regular form."""
    rng = np.random.default_rng(0)
    count = setting.rows
    obs = rng.standard_normal((count + 1, setting.obs), np.float32)
    ends = np.arange(1, count + 1) % EPISODE == 0
    return {
        "observations": obs[:-1],
        "actions": rng.uniform(-0.99, 0.99, (count, setting.action)).astype(np.float32),
        "next_observations": np.array(obs[1:]),
        "rewards": -rng.integers(0, 2, count).astype(np.float32),
        "masks": (rng.random(count) > 0.01).astype(np.float32),
        "terminals": ends.astype(np.float32),
    }


def rows(setting: Setting) -> Rows:
    """Return the same data as rlx holds it, on the host."""
    return trajectories.from_arrays(arrays(setting))


def config(setting: Setting, agent: str = "fql") -> Any:
    """Return the learner's config of a setting."""
    made = agents.module(agent).get_config()
    made.update(
        batch_size=setting.batch_size, critic_hidden=setting.hidden, actor_hidden=setting.hidden
    )
    return made


def build(learner: Any, data: Rows, num_runs: int = 1, how: Windows | None = None) -> Any:
    """Return the jitted programs of `num_runs` runs of a learner's config, laid out by default."""
    own, how = one_spec(data), how or Windows()
    shards = sharding.default_shards(learner.batch_size, learner.batch_size)
    return offline.build(
        lambda axis: agents.make(learner, learner_spec(own, how), axis),
        own,
        how,
        batch_size=learner.batch_size,
        shards=shards,
        mesh=sharding.lay_out(0, -1, 1, num_runs, shards),
    )


def learn_block(
    learner: Any, data: Rows, updates: int, num_runs: int = 1, how: Windows | None = None
) -> Block:
    """Return a block of `updates` gradient steps of each of `num_runs` runs in one call."""
    programs = build(learner, data, num_runs, how)
    own = learner_spec(one_spec(data), how or Windows())
    numbers = agents.make(learner, own, None).hp
    hp = {name: np.full(num_runs, x, np.float32) for name, x in numbers.items()}
    state = programs.init(np.arange(num_runs, dtype=np.int32), hp)
    data = jax.device_put(data, NamedSharding(programs.mesh, PartitionSpec()))

    def block() -> int:
        nonlocal state
        state, report = programs.learn(state, data, np.int32(updates))
        jax.block_until_ready(state)
        if not np.asarray(report.alive).all():
            raise FloatingPointError("a run of the benchmark is not finite")
        return updates * num_runs

    return block
