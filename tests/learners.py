"""What tests of learners from data share: tiny learners, rows with every kind of weight, their
noise, and the comparison of one update with NumPy.

Actions have 3 numbers, as one action or as a chunk of 3 actions of 1 number: the same shapes, so
that one process compiles every operation once. Parameters are random: `init` is only traced.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numeric import adam_first, differences, f64, norm
from toys import keys

from rlx import agents
from rlx.types import EnvSpec, Keys, Spec, Transition

OBS, ACT, ROWS, SHARDS = 3, 3, 6, 2
SPEC = EnvSpec(Spec((OBS,)), Spec((ACT,), np.float32, -1.0, 1.0))
TINY = {
    "batch_size": ROWS,
    "critic_hidden": (8, 8),
    "actor_hidden": (8, 8),
    "flow_steps": 3,
    "diffusion_steps": 3,
    "samples": 4,
    "time_features": 4,
}


def config(name: str, **changes: Any):
    made = agents.module(name).get_config()
    made.update({key: value for key, value in TINY.items() if key in made} | changes)
    return made


def batch(chunk: int = 1, seed: int = 0) -> Transition:
    """Row 1 terminated; rows 2 and 4 leave their trajectory; row 3 knows no next action."""
    rng = np.random.default_rng(seed)
    row = lambda *shape: jnp.asarray(rng.normal(size=(ROWS, *shape)), jnp.float32)  # noqa: E731
    where = lambda *rows: np.isin(np.arange(ROWS), rows)  # noqa: E731
    known = np.ones((ROWS, chunk))
    if chunk > 1:
        known[2, 1:] = known[4, 2:] = 0.0
    discount = 0.9**chunk * (1.0 - where(1))
    return Transition(
        obs=row(OBS),
        action=jnp.tanh(row(ACT)),
        reward=row(),
        next_obs=row(OBS),
        terminated=jnp.asarray(where(1)),
        truncated=jnp.asarray(where(2, 4)),
        extras={
            "discount": jnp.asarray(discount, jnp.float32),
            "valid": jnp.asarray(~where(2, 4), jnp.float32),
            "action_valid": jnp.asarray(known, jnp.float32),
            "next_action": jnp.tanh(row(ACT)),
            "next_action_valid": jnp.asarray(~where(2, 3, 4), jnp.float32),
        },
    )


def random_like(tree: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), tree)


def started(name: str, spec: EnvSpec = SPEC, hp: dict[str, float] | None = None, **changes: Any):
    """A learner and its state with random parameters, Adam not yet moved."""
    cfg = config(name, **changes)
    learner = agents.make(cfg, spec)
    settings = {key: jnp.float32(value) for key, value in (learner.hp | (hp or {})).items()}
    blank = jax.eval_shape(learner.init, jax.random.key(0), settings)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank).replace(
        params=random_like(blank.params, 1),
        target_params=random_like(blank.target_params, 2),
        hp=settings,
    )
    return learner, state


def draws(random: Keys, **kinds: tuple) -> dict[str, np.ndarray]:
    """What a learner draws: each shard's key split into one per draw, in order.

    kinds: name -> (function of jax.random, *shape without rows, or bounds after a `None`).
    """
    per, found = ROWS // SHARDS, {name: [] for name in kinds}
    for key in random.keys:
        split = jax.random.split(key, len(kinds)) if len(kinds) > 1 else [key]
        for one, (name, (how, *shape)) in zip(split, kinds.items()):
            if how == "randint":
                value = jax.random.randint(one, (per, 1), *shape)
            else:
                value = getattr(jax.random, how)(one, (per, *shape))
            found[name].append(np.asarray(value, np.float64 if how != "randint" else np.int64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def problem(name: str, chunk: int = 1, steps_done: int = 0, **changes: Any) -> SimpleNamespace:
    """A learner before one update, in JAX and in float64 NumPy."""
    learner, state = started(name, **changes)
    state = state.replace(grad_steps=jnp.int32(steps_done))
    data, random = batch(chunk), keys(3, shards=SHARDS)
    wide = f64(data)
    return SimpleNamespace(
        learner=learner,
        state=state,
        batch=data,
        keys=random,
        config=config(name, **changes),
        params=f64(state.params),
        target=f64(state.target_params),
        hp={key: float(value) for key, value in state.hp.items()},
        rows=wide,
        x=wide.extras,
        known=np.repeat(wide.extras["action_valid"], ACT // chunk, axis=-1),
    )


def first_moments(state: Any) -> Any:
    """Adam's first moments by network, of one Adam or of one per network."""
    inner = state.opt_state
    if isinstance(inner, dict):
        return {name: part[0].mu for name, part in inner.items()}
    return inner[0].mu


def check_update(
    p: SimpleNamespace,
    losses: dict,
    metrics: dict[str, float],
    moving: tuple[str, ...] | None = None,
    scale: Callable[[float], float] | None = None,
    target_rate: dict[str, float] | None = None,
) -> Any:
    """Compare one update with NumPy: metrics, gradients, Adam's first step, targets.

    losses: network -> loss(its parameters), float64; gradients by central differences.
    moving: the networks that this step moves, all by default.   scale: norm of a network's gradient
    -> factor that shortens it.   target_rate: of each target, tau by default.
    """
    after, got = p.learner.update(p.state, p.batch, p.keys)
    for name, value in metrics.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    moments, lr = f64(first_moments(after)), p.hp["lr"]
    assert set(losses) == set(p.params)
    for name, loss in losses.items():
        if moving is not None and name not in moving:
            jax.tree.map(np.testing.assert_array_equal, after.params[name], p.state.params[name])
            continue
        want = differences(loss, p.params[name])
        factor = 1.0 if scale is None else scale(norm(want))
        grads = jax.tree.map(lambda m: m / 0.1, moments[name])
        size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want))
        close = lambda a, b: np.testing.assert_allclose(  # noqa: E731
            a, factor * b, rtol=1e-4, atol=1e-5 * max(1.0, size), err_msg=name
        )
        jax.tree.map(close, grads, want)
        moved = adam_first(p.params[name], grads, lr)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params[name], moved
        )
    source = f64(p.state.params if p.config.get("target_update") == "pre" else after.params)
    for name, target in p.target.items():
        rate = p.hp["tau"] if target_rate is None else target_rate[name]
        jax.tree.map(
            lambda new, old, got, rate=rate: np.testing.assert_allclose(
                got, rate * new + (1 - rate) * old, atol=1e-6
            ),
            source[name], target, f64(after.target_params[name]),
        )  # fmt: skip
    assert int(after.grad_steps) == int(p.state.grad_steps) + 1
    return after
