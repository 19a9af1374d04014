"""The contracts of the house, NamedTuples of pure functions: environment, buffer, learner.

Counting, everywhere: `env_steps` = transitions = agent steps of single environments; physics
frames = env_steps * action_repeat; `utd` = gradient steps per transition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import struct

PyTree = Any
Metrics = dict[str, jax.Array]  # flat, scalar leaves, keys fixed at trace time


class Spec(NamedTuple):
    """Shape, dtype and bounds of one array, without batch axes."""

    shape: tuple[int, ...]
    dtype: Any = np.float32
    low: float | None = None
    high: float | None = None


class EnvSpec(NamedTuple):
    """What a learner needs to know of an environment: observations and actions."""

    obs: PyTree  # Spec, or {name: Spec} where an observation is several arrays
    action: Spec


class Transition(struct.PyTreeNode):
    """One step of experience; all leaves share the same leading axes `[...]`.

    extras: every sampled batch brings `discount` = gamma**k * (1 - terminated).
    """

    obs: PyTree  # [..., *O]
    action: jax.Array  # [..., A] float32 in [-1, 1], or int32
    reward: jax.Array  # [...], summed over action repeat
    next_obs: PyTree  # the true successor, never a reset observation
    terminated: jax.Array  # [...] bool, the MDP ended: do not bootstrap
    truncated: jax.Array  # [...] bool, the clock ended: do bootstrap
    extras: dict[str, jax.Array] = struct.field(default_factory=dict)


class TokenBatch(struct.PyTreeNode):
    """Sequences padded on the right; a query sees the keys of its own segment whose number of
    `mask_ar` so far is at most its own (prefix-LM: False in the prefix, True after it).
    """

    tokens: jax.Array  # [B, L] int32
    mask_loss: jax.Array  # [B, L] bool, the token is predicted
    mask_ar: jax.Array  # [B, L] bool, what stands before it does not see it
    segment: jax.Array  # [B, L] int32, 0 = padding
    images: dict[str, jax.Array] = struct.field(default_factory=dict)  # camera: [B, H, W, 3] uint8
    image_mask: dict[str, jax.Array] = struct.field(default_factory=dict)  # camera: [B] bool
    extras: dict[str, jax.Array] = struct.field(default_factory=dict)  # state [B, S], actions ...


class Episode(struct.PyTreeNode):
    """Episodes that ended at this step; `return_` and `length` count only where `done`."""

    return_: jax.Array  # [N] f32
    length: jax.Array  # [N] int32, agent steps
    done: jax.Array  # [N] bool


class TimeStep(struct.PyTreeNode):
    """What one vectorised step returns, all `[N, ...]`; `obs` is the observation acted upon."""

    obs: PyTree
    reward: jax.Array
    next_obs: PyTree
    terminated: jax.Array
    truncated: jax.Array
    episode: Episode
    nan: jax.Array  # [N] bool: the physics diverged at this step and the episode was terminated


class EnvState(struct.PyTreeNode):
    """State of ONE environment: `inner` is the simulator's own pytree."""

    inner: PyTree
    obs: PyTree
    reward: jax.Array  # f32[]
    terminated: jax.Array  # bool[]


class Env(NamedTuple):
    """One environment as two pure functions; no batch axis, no time limit, no automatic reset."""

    name: str
    spec: EnvSpec
    dt: float | None  # seconds per physics frame seen by the agent
    episode_length: int  # physics frames until truncation
    reset: Callable[[jax.Array], EnvState]  # key -> state
    step: Callable[[EnvState, jax.Array], EnvState]  # state, action [A] -> state


class Keys(struct.PyTreeNode):
    """Randomness of the logical shards held by this device: one key per shard."""

    keys: jax.Array  # [s] typed keys
    ids: jax.Array  # [s] int32, global shard numbers
    shared: jax.Array  # [] one key that all shards see, for what must not differ between devices
    count: int = struct.field(pytree_node=False)  # shards over all devices


class VecState(struct.PyTreeNode):
    """State of N environments."""

    env: EnvState  # [N, ...]; its obs is what to act on next, already reset where done
    pool: EnvState  # [P, ...] initial states to restart from, the same on every device
    start: jax.Array  # [N] int32, which of them the running episode began with
    length: jax.Array  # [N] int32, agent steps in the running episode
    return_: jax.Array  # [N] f32, return of the running episode


class VecEnv(NamedTuple):
    """N environments with time limit, action repeat and reset; made by `rlx.envs.core.vectorize`.

    initial(key, E) -> (pool [P, ...], E further initial states [E, ...])
    reset(pool, Keys) -> VecState;   step(VecState, action [N, A], Keys) -> (VecState, TimeStep)
    """

    env: Env
    num_envs: int
    episode_steps: int  # agent steps until truncation
    action_repeat: int
    initial: Callable[[jax.Array, int], tuple[EnvState, EnvState]]
    reset: Callable[[EnvState, Keys], VecState]
    step: Callable[[VecState, jax.Array, Keys], tuple[VecState, TimeStep]]


class Buffer(NamedTuple):
    """A replay memory; `step` = vector steps added so far, kept by the loop.

    init(example Transition without batch axes, num_envs) -> state `[T, N, ...]`
    add(state, step, transition [N, ...]) -> state
    sample(state, step, keys [s], batch_size, discount f32[], newest=None) -> Transition [B, ...]
    """

    capacity: int
    init: Callable[..., PyTree]
    add: Callable[..., PyTree]
    sample: Callable[..., Transition]


class Learner(NamedTuple):
    """An algorithm; State: params, target_params, opt_state, hp, obs_stats (or None), grad_steps.

    init(key, hp: {name: f32[]}) -> State
    update(State, batch Transition, Keys) -> (State, Metrics); one batch, one gradient step
    act(State, obs [N, *O], Keys, explore: bool) -> (action [N, A], extras)
    td_loss(State, batch, Keys) -> f32[], loss of the critic (of a cloner: its own); learns nothing
    hp: the numeric settings that `init` takes, which the runs of a pack may vary
    """

    init: Callable[..., PyTree]
    update: Callable[..., tuple[PyTree, Metrics]]
    act: Callable[..., tuple[jax.Array, dict]]
    td_loss: Callable[..., jax.Array]
    hp: dict[str, float]
