"""Deterministic evaluation: one episode per initial state, each counted once."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlx.envs.core import guard, repeat_step, where
from rlx.types import EnvState, PyTree, VecEnv


def evaluate(
    act: Callable[[PyTree], jax.Array], vec: VecEnv, start: EnvState
) -> tuple[jax.Array, jax.Array]:
    """Play one episode from each of the E initial states `start [E, ...]`.

    Args:
      act: obs [E, *O] -> action [E, A].
    Returns:
      return f32[E] and length i32[E] (agent steps). An environment that ended stays as it is: there
      is no reset inside the loop, hence no reset program to compile.
    """

    def step(_, carry):
        state, done, return_, length = carry
        new = jax.vmap(lambda s, a: repeat_step(vec.env, s, a, vec.action_repeat))(
            state, act(state.obs)
        )
        new, _ = guard(new)
        return_ = return_ + jnp.where(done, 0.0, new.reward)
        length = length + ~done
        return where(done, state, new), done | new.terminated, return_, length

    zeros = jnp.zeros_like(start.reward)
    carry = (start, jnp.zeros_like(start.terminated), zeros, zeros.astype(jnp.int32))
    _, _, return_, length = jax.lax.fori_loop(0, vec.episode_steps, step, carry)
    return return_, length
