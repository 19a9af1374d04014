"""What every learner from data shares: its state, one Adam over all networks, the moving average of
targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from rlx.types import Metrics, PyTree

RANGES = {  # of numeric settings, where a value outside makes no sense in any method
    "tau": ("in (0, 1]", lambda x: 0.0 < x <= 1.0),
    "discount": ("in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "expectile": ("in (0, 1)", lambda x: 0.0 < x < 1.0),
    "alpha": (">= 0", lambda x: x >= 0.0),
}


@struct.dataclass
class State:
    """Everything such a learner learns or counts; `grad_steps` is int32[], `hp` f32[] by name."""

    params: dict[str, PyTree]  # by network
    target_params: dict[str, PyTree]  # of those networks that have a target
    opt_state: PyTree  # one Adam over params: the losses share no parameters
    hp: dict[str, jax.Array]
    obs_stats: None
    grad_steps: jax.Array


def begin(params: dict[str, PyTree], targets: tuple[str, ...], hp: dict[str, jax.Array]) -> State:
    """Return the state before the first update; targets start as their networks."""
    return State(
        params=params,
        target_params={name: params[name] for name in targets},
        opt_state=optax.adam(0.0).init(params),
        hp=hp,
        obs_stats=None,
        grad_steps=jnp.int32(0),
    )


def adam_step(
    state: State, loss: Callable[[dict[str, PyTree]], tuple[jax.Array, Metrics]]
) -> tuple[State, Metrics]:
    """Take one Adam step on `loss(params) -> (scalar, metrics)`; targets stay as they are."""
    grads, metrics = jax.grad(loss, has_aux=True)(state.params)
    step, opt_state = optax.adam(state.hp["lr"]).update(grads, state.opt_state)
    new = state.replace(
        params=optax.apply_updates(state.params, step),
        opt_state=opt_state,
        grad_steps=state.grad_steps + 1,
    )
    return new, metrics | {"grad_norm": optax.tree.norm(grads)}


def average(source: PyTree, target: PyTree, tau: jax.Array) -> PyTree:
    """Return `tau source + (1 - tau) target`, leaf by leaf."""
    return optax.incremental_update(source, target, tau)


def masked_mean(error: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of `weight * error` over ALL elements, those of weight 0 included (no renormalisation).

    weight: of the leading axes of `error`.
    """
    return jnp.mean(weight.reshape(weight.shape + (1,) * (error.ndim - weight.ndim)) * error)


def per_action(weight: jax.Array, action: jax.Array) -> jax.Array:
    """Spread the weights of a chunk's actions `[B, chunk]` over its numbers `[B, chunk * A]`."""
    return jnp.repeat(weight, action.shape[-1] // weight.shape[-1], axis=-1)


def settings(config: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numeric settings `names` of a learner's config, refusing what no method allows."""
    found = {name: float(config[name]) for name in names}
    for name, value in found.items():
        text, allowed = RANGES.get(name, ("", lambda x: True))
        if not allowed(value):
            raise ValueError(f"learner.{name} is a number {text}, got {value:g}")
    return found
