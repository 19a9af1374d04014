"""Going on in environments after learning from data: programs for one step of each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp

from rlx.data.growing import Growing, append
from rlx.infra.random import key_for
from rlx.train.offline_state import HostSteps, OfflineState, Playing
from rlx.train.state import over_runs
from rlx.types import Keys, Learner


def make_explore(learner: Learner, chunk: int) -> Callable[..., tuple[OfflineState, jax.Array]]:
    """Return `explore(state, obs [R, *O]) -> (state, what to do next [R, A])`."""

    def one(state: OfflineState, obs: jax.Array) -> OfflineState:
        playing = cast(Playing, state.playing)
        key = key_for(state.seed, state.step, "act")
        keys = Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)
        action = learner.act(state.learner, obs[None], keys, True)[0]
        used_up = playing.queued == 0  # a chunk is taken to its end before the next one
        queue = jnp.where(used_up, action.reshape(playing.queue.shape), playing.queue)
        queued = jnp.where(used_up, chunk, playing.queued)
        return state.replace(playing=playing.replace(queue=queue, queued=queued))

    def explore(state: OfflineState, obs: jax.Array) -> tuple[OfflineState, jax.Array]:
        new = over_runs(one, state.replace(buffer=None), obs).replace(buffer=state.buffer)
        return new, jax.vmap(next_action)(cast(Playing, new.playing))

    return explore


def next_action(playing: Playing) -> jax.Array:
    """The action [A] of one run's queue that is to be taken."""
    return playing.queue[playing.queue.shape[0] - playing.queued]


def recorded(state: OfflineState, steps: HostSteps, frame_stack: int) -> OfflineState:
    """Add one environment step of every run to its ring, its running episode and its sums."""

    def one(state: OfflineState, steps: HostSteps) -> OfflineState:
        playing, sums = cast(Playing, state.playing), state.metrics
        action = next_action(playing)
        done = cast(jax.Array, steps.terminated | steps.truncated)
        return_, length = playing.return_ + steps.reward, playing.length + 1
        seen = steps.obs, action, steps.reward, steps.next_obs, steps.terminated
        return state.replace(
            buffer=append(cast(Growing, state.buffer), *seen, done, playing.length, frame_stack),
            playing=Playing(
                episode=playing.episode + done,
                length=jnp.where(done, 0, length),
                return_=jnp.where(done, 0.0, return_),
                actions=playing.actions.at[playing.length].set(action),
                queue=playing.queue,
                queued=jnp.where(done, 0, playing.queued - 1),
            ),
            metrics=sums.replace(
                return_=sums.return_ + done * return_,
                length=sums.length + done * length,
                success=sums.success + done * steps.success,
                episodes=sums.episodes + done,
            ),
        )

    return over_runs(one, state, steps)
