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

from rlx.ops.shards import pmean_if
from rlx.types import Metrics, PyTree

ABOVE_ZERO = ("> 0", lambda x: x > 0.0)
NOT_NEGATIVE = (">= 0", lambda x: x >= 0.0)
STEP = ("in (0, 1]", lambda x: 0.0 < x <= 1.0)
RANGES = {  # of numeric settings, where a value outside makes no sense in any method
    "tau": STEP,
    "ema_rate": STEP,
    "discount": ("in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "expectile": ("in (0, 1)", lambda x: 0.0 < x < 1.0),
    "lr": NOT_NEGATIVE,
    "adjuster_lr": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "alpha": NOT_NEGATIVE,
    "alpha_actor": NOT_NEGATIVE,
    "alpha_critic": NOT_NEGATIVE,
    "bc_alpha": NOT_NEGATIVE,
    "eta": NOT_NEGATIVE,
    "policy_noise": NOT_NEGATIVE,
    "noise_clip": NOT_NEGATIVE,
    "noise_min": NOT_NEGATIVE,
    "noise_max": NOT_NEGATIVE,
    "target_noise": NOT_NEGATIVE,
    "target_noise_clip": NOT_NEGATIVE,
    "init_alpha": ABOVE_ZERO,
    "reward_scale": ABOVE_ZERO,
    "max_weight": ABOVE_ZERO,
    "max_grad_norm": ABOVE_ZERO,
}


class State(struct.PyTreeNode):
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


Loss = Callable[[PyTree], tuple[jax.Array, Metrics]]  # params -> (scalar, metrics)


def adam(
    params: PyTree,
    opt_state: PyTree,
    lr: jax.Array,
    loss: Loss,
    max_grad_norm: jax.Array | None = None,
) -> tuple[PyTree, PyTree, Metrics]:
    """Take one Adam step; return params, optimizer state and the metrics of `loss`.

    A gradient that is not finite counts as zero and moves no parameter.
    max_grad_norm: the longest gradient of each network; longer ones are shortened to it.
    """
    grads, metrics = jax.grad(loss, has_aux=True)(params)
    metrics = metrics | {"grad_norm": norm(grads)}
    finite = jnp.isfinite(metrics["grad_norm"])
    grads = jax.tree.map(lambda x: jnp.where(finite, x, 0.0), grads)
    lr = jnp.where(finite, lr, 0.0)
    if max_grad_norm is not None:
        grads = {name: shortened(grad, max_grad_norm) for name, grad in grads.items()}
    step, opt_state = optax.adam(lr).update(grads, opt_state)
    return optax.apply_updates(params, step), opt_state, metrics


def adam_step(
    state: State, loss: Loss, max_grad_norm: jax.Array | None = None
) -> tuple[State, Metrics]:
    """Take one Adam step on `loss` of all networks; targets stay as they are."""
    params, opt_state, metrics = adam(
        state.params, state.opt_state, state.hp["lr"], loss, max_grad_norm
    )
    new = state.replace(params=params, opt_state=opt_state, grad_steps=state.grad_steps + 1)
    return new, metrics


def norm(tree: PyTree) -> jax.Array:
    """Return the Euclidean norm of all numbers of `tree`, without an array of their squares."""
    return jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))


def shortened(tree: PyTree, length: jax.Array) -> PyTree:
    """Return `tree`, scaled down to the norm `length` if it is longer."""
    scale = jnp.minimum(1.0, length / jnp.maximum(norm(tree), 1e-12))
    return jax.tree.map(lambda x: scale * x, tree)


def follow(old: State, new: State, when: str) -> State:
    """Move every target a step `tau` towards its network of before ("pre") or after ("post") the
    gradient step.
    """
    source = (old if when == "pre" else new).params
    target = {
        name: average(source[name], target, old.hp["tau"])
        for name, target in old.target_params.items()
    }
    return new.replace(target_params=target)


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


def inverse_size(q: jax.Array, axis_name: str | None) -> jax.Array:
    """Return 1 / mean |q| as a constant; a q of exactly 0 everywhere stays finite."""
    size = pmean_if(jnp.abs(q).mean(), axis_name)
    return jax.lax.stop_gradient(1.0 / jnp.maximum(size, 1e-8))


def advantage_weight(
    advantage: jax.Array, temperature: jax.Array, max_weight: jax.Array
) -> jax.Array:
    """Return exp(temperature * advantage), at most `max_weight`, as a constant."""
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(temperature * advantage), max_weight))


def pick(action: jax.Array, score: jax.Array) -> jax.Array:
    """Return for each row of `action [B, N, A]` the one with the highest `score [B, N]`."""
    return jnp.take_along_axis(action, score.argmax(1)[:, None, None], axis=1).squeeze(1)


def settings(config: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numeric settings `names` of a learner's config, refusing what no method allows."""
    found = {name: float(config[name]) for name in names}
    for name, value in found.items():
        text, allowed = RANGES.get(name, ("", lambda x: True))
        if not allowed(value):
            raise ValueError(f"learner.{name} is a number {text}, got {value:g}")
    return found
