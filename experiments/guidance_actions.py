"""Actions on a ring of modes: samplers of many calls, and a student of one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import guidance_measure as measure
from experiments.guidance_ring import CENTERS, NEAR, reward, truth, velocity
from rlx import agents
from rlx.guidance import Config, GuidedOut, flow, guide, posterior_mean
from rlx.infra.random import key_for, shard_keys
from rlx.ops.flow import integrate
from rlx.types import EnvSpec, PyTree, Spec, Transition

METHODS = {  # name: method, its knob, what else is set, greedy
    "best of N": ("bon", "particles", {}, True),
    "soft best of N": ("soft_bon", "particles", {}, False),
    "SVDD": ("svdd", "children", {"particles": 1}, False),
    "SMC": ("smc", "particles", {}, False),
    "twisted SMC": ("tds", "particles", {}, False),
}


def rows(config: ConfigDict, seed: int) -> Iterator[dict[str, Any]]:
    """Every method at the calls of best of `config.particles`, `config.groups` groups of each; then
    the student, whose action costs one call.
    """
    process, alpha = flow(velocity, config.steps, (2,)), config.alpha
    value = posterior_mean(process, reward)
    keys = jax.random.split(jax.random.key(seed), config.groups)

    def run(keys: jax.Array, name: str, n: int) -> GuidedOut:
        method, knob, more, greedy = METHODS[name]
        own: dict[str, Any] = {"alpha": 0.0 if greedy else alpha, knob: n} | more
        return guide(keys, process, value, reward, Config(method=method, **own))

    def calls_at(name: str, n: int) -> float:
        out = jax.eval_shape(lambda keys: run(keys, name, n), keys[:1])
        return measure.total(out.nfe.times(out.x0.shape[1]))

    budget = calls_at("best of N", config.particles)
    yield {"method": "truth", "alpha": alpha, "reward": truth(alpha)}
    out = guide(keys, process, value, reward, Config(method="none", particles=1))
    yield described("pre-trained", alpha, measure.total(out.nfe), np.asarray(out.x0))
    for name in METHODS:
        n = measure.knob_for(budget, functools.partial(calls_at, name))
        if n:
            found = np.asarray(run(keys, name, n).x0)
            yield described(name, alpha, calls_at(name, n), found)
    yield described("one-step student", alpha, 1.0, student(config, seed))


def described(name: str, alpha: float, calls: float, x: np.ndarray) -> dict[str, Any]:
    """Reward, share of actions on the data, and modes hit by more than 1 % of the actions."""
    far = np.linalg.norm(x[..., None, :] - CENTERS, axis=-1)
    on = far.min(-1) < NEAR
    share = np.bincount(far.argmin(-1)[on], minlength=8) / max(on.size, 1)
    row = {"method": name, "alpha": alpha, "calls": calls, "groups": len(x)}
    row |= measure.mean("reward", np.asarray(reward(jnp.asarray(x)))) | measure.mean("on_data", on)
    return row | {"modes": int((share > 0.01).sum())}


def student(config: ConfigDict, seed: int) -> np.ndarray:
    """Train the one-step student of the flow; return its actions `[groups, 1, 2]`."""
    spec = EnvSpec(Spec((0,)), Spec((2,), np.float32))
    teacher = lambda obs, z: integrate(velocity, z, config.steps)  # noqa: E731
    own = lambda obs, x: reward(x)  # noqa: E731
    learner = agents.make(config.student, spec, teacher=teacher, reward=own)
    nothing: Any = None
    batch = Transition(jnp.zeros((config.student.batch_size, 0)), *[nothing] * 5)
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}

    def update(state: PyTree, i: jax.Array) -> tuple[PyTree, None]:
        return learner.update(state, batch, shard_keys(key_for(seed, i, "update"), 1))[0], None

    state = learner.init(key_for(seed, 0, "init"), hp)
    state, _ = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(config.student_steps)))(state)
    obs = jnp.zeros((config.groups, 0))
    return np.asarray(learner.act(state, obs, shard_keys(key_for(seed, 0, "act"), 1), False)[0])[
        :, None
    ]
