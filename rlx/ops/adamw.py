"""AdamW on a clipped gradient (Loshchilov & Hutter 2019), its settings traced numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from rlx.ops.learning import norm, shortened
from rlx.types import Metrics, PyTree

ADAM = optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-8)


def begin(params: PyTree) -> PyTree:
    """Return the optimiser's state before the first step."""
    return ADAM.init(params)


def adamw(
    params: PyTree, opt_state: PyTree, grads: PyTree, lr: jax.Array, hp: dict[str, jax.Array]
) -> tuple[PyTree, PyTree, Metrics]:
    """Take one step with the gradient shortened to `hp["max_grad_norm"]`; decay is decoupled.

    p <- p - lr (m / (sqrt(v) + eps) + weight_decay p).   Returns: params, state, norms.
    A gradient that is not finite counts as zero and moves no parameter.
    """
    found = norm(grads)
    finite = jnp.isfinite(found)
    grads = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), grads)
    lr = jnp.where(finite, lr, 0.0)
    step, opt_state = ADAM.update(shortened(grads, hp["max_grad_norm"]), opt_state)
    step = jax.tree.map(lambda s, p: -lr * (s + hp["weight_decay"] * p), step, params)
    norms = {"grad_norm": found, "param_norm": norm(params), "update_norm": norm(step)}
    return optax.apply_updates(params, step), opt_state, norms
