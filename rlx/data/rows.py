"""Trajectories on device, every observation stored once: uniform windows for one step, n steps,
action chunks and stacked frames.

A trajectory of T transitions is T + 1 rows, end to end with the others; its last row holds only the
final observation. The successor of row i is row i + 1, and a window that meets a row without a
transition has left its trajectory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from rlx.types import Transition

Array = Any  # np.ndarray on the host, jax.Array on device


class Rows(struct.PyTreeNode):
    """N rows with M transitions; NumPy arrays on the host, jax arrays on device."""

    obs: Array  # [N, *O] float32 vectors or uint8 images, one frame per row
    action: Array  # [N, A] float32 in [-1, 1]
    reward: Array  # f32[N]
    terminated: Array  # bool[N]: 1 - masks of OGBench's files, may be set in mid-trajectory
    transition: Array  # bool[N], False in a trajectory's last row
    action_known: Array  # bool[N]: the action was taken from data; True wherever `transition` is
    age: Array  # int32[N], how many rows of its trajectory lie before it
    index: Array  # int32[M], the rows with a transition


class Windows(NamedTuple):
    """How a row becomes an example. At most one of n_step, chunk is above 1."""

    n_step: int = 1  # rewards summed before the bootstrap, after one action
    chunk: int = 1  # actions of an example, taken one after another
    frame_stack: int = 1  # images concatenated along their channels, oldest first

    @property
    def horizon(self) -> int:
        """Rows between an observation and the one that is bootstrapped from."""
        return max(self.n_step, self.chunk)


def window(rows: Rows, start: jax.Array, discount: jax.Array, how: Windows) -> Transition:
    """Return the examples that begin at rows `start` int32[B], all of them transitions.

    With h = `how.horizon` (Li et al. 2025, arXiv 2507.07969, `valid` as in their code):
      action    [B, chunk * A], the first action where chunk is 1
      reward    sum_{j<h} discount**j r_j;  next_obs after h steps
      extras    discount       discount**h, 0 where any of the h steps terminated
                valid          f32[B], 1 where all h steps belong to one trajectory: the weight of
                               a critic's squared error
                action_valid   f32[B, chunk], 1 where that action does: weights of its imitation
                next_action    [B, chunk * A], the action (chunk) taken at next_obs
                next_action_valid  f32[B], 1 where the data knows it
    """
    h, count = how.horizon, rows.reward.shape[0]
    start = jax.lax.optimization_barrier(start)
    steps = (start[:, None] + jnp.arange(2 * h)) % count  # [B, 2h]; a ring goes on at its start
    within, after = steps[:, :h], steps[:, h : h + how.chunk]

    def take(x: jax.Array, index: jax.Array) -> jax.Array:
        return x.at[index].get(mode="promise_in_bounds")

    valid = jnp.cumprod(take(rows.transition, within), axis=1).astype(jnp.float32)
    terminated = take(rows.terminated, within) & (valid > 0)
    rewards = jnp.where(valid > 0, take(rows.reward, within), 0.0)
    ended = terminated.any(axis=1)
    known = valid[:, -1] * take(rows.action_known, after).all(axis=1)
    if how.chunk > 1:  # all but the last action of the next chunk are steps of this trajectory too
        known *= take(rows.transition, after[:, :-1]).all(axis=1)

    def actions(index: jax.Array) -> jax.Array:
        return take(rows.action, index).reshape(start.shape[0], -1)

    def frames(steps: int) -> jax.Array:
        """The observation so many steps after the start, before it those of its trajectory."""
        age = take(rows.age, start) + steps
        past = [jnp.minimum(k, age) for k in reversed(range(how.frame_stack))]
        images = [take(rows.obs, (start + steps - k) % count) for k in past]
        return images[0] if how.frame_stack == 1 else jnp.concatenate(images, axis=-1)

    return Transition(
        obs=frames(0),
        action=actions(within[:, : how.chunk]),
        reward=(discount ** jnp.arange(h) * rewards).sum(1),
        next_obs=frames(h),
        terminated=ended,
        truncated=valid[:, -1] == 0,
        extras={
            "discount": discount**h * (1.0 - ended),
            "valid": valid[:, -1],
            "action_valid": valid[:, : how.chunk],
            "next_action": actions(after),
            "next_action_valid": known.astype(jnp.float32),
        },
    )
