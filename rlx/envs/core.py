"""From one environment to N: time limit, action repeat, reset and the true next observation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.ops.shards import rows
from rlx.types import Env, EnvState, Episode, Keys, PyTree, TimeStep, VecEnv, VecState

RESETS = ("pool", "cached", "fresh")


def vectorize(
    env: Env,
    num_envs: int,
    episode_length: int | None = None,
    action_repeat: int = 1,
    reset: str = "pool",
    pool_size: int = 64,
) -> VecEnv:
    """Run `num_envs` copies of `env` side by side; under `shard_map` each device steps its own
    part.

    Args:
      episode_length: physics frames until truncation (default: the environment's own); an episode
        is ceil(episode_length / action_repeat) agent steps, `reward` is summed over the repeats.
      reset: how a finished environment restarts: "pool" picks one of `pool_size` initial states
        made once per run (diverse, nearly free), "cached" returns to its own first state (brax,
        playground), "fresh" calls `env.reset` every step (exact, and costs that reset every step).
    Non-finite observations or rewards terminate the episode with reward 0 and are counted
    (`TimeStep.nan`).
    """
    if reset not in RESETS:
        raise ValueError(f"env.reset is one of {', '.join(RESETS)}, got {reset!r}")
    counts = {
        "env.num_envs": num_envs,
        "env.action_repeat": action_repeat,
        "env.pool_size": pool_size,
    }
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is a whole number >= 1, got {value}")
    frames = env.episode_length if episode_length is None else episode_length
    episode_steps = -(-frames // action_repeat)
    step_batch = jax.vmap(lambda state, action: repeat_step(env, state, action, action_repeat))

    def initial(key: jax.Array, extra: int) -> tuple[EnvState, EnvState]:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(pool_size + extra))
        states = jax.vmap(env.reset)(keys)  # one call, so that the simulator's reset compiles once
        return jax.tree.map(lambda x: x[:pool_size], states), jax.tree.map(
            lambda x: x[pool_size:], states
        )

    def pick(keys: Keys) -> jax.Array:
        columns = num_envs // keys.count
        return rows(lambda key: jax.random.randint(key, (columns,), 0, pool_size), keys)

    def start(pool: EnvState, index: jax.Array, keys: Keys) -> EnvState:
        if reset == "fresh":
            columns = num_envs // keys.count
            return jax.vmap(env.reset)(rows(lambda key: jax.random.split(key, columns), keys))
        return jax.tree.map(lambda x: x[index], pool)

    def reset_all(pool: EnvState, keys: Keys) -> VecState:
        index = pick(keys)
        states = start(pool, index, keys)
        return VecState(states, pool, index, jnp.zeros_like(index), jnp.zeros_like(states.reward))

    def step(state: VecState, action: jax.Array, keys: Keys) -> tuple[VecState, TimeStep]:
        before = state.env.obs
        env_state, nan = guard(step_batch(state.env, action))
        length = state.length + 1
        return_ = state.return_ + env_state.reward
        terminated = env_state.terminated
        truncated = (length >= episode_steps) & ~terminated
        done = terminated | truncated
        timestep = TimeStep(
            obs=before,
            reward=env_state.reward,
            next_obs=env_state.obs,
            terminated=terminated,
            truncated=truncated,
            episode=Episode(return_, length, done),
            nan=nan,
        )
        index = jnp.where(done & (reset != "cached"), pick(keys), state.start)
        return VecState(
            env=where(done, start(state.pool, index, keys), env_state),
            pool=state.pool,
            start=index,
            length=jnp.where(done, 0, length),
            return_=jnp.where(done, 0.0, return_),
        ), timestep

    return VecEnv(env, num_envs, episode_steps, action_repeat, initial, reset_all, step)


def repeat_step(env: Env, state: EnvState, action: jax.Array, action_repeat: int) -> EnvState:
    """Apply one action [A] for `action_repeat` physics frames, summing rewards; stops at
    termination.
    """
    state = state.replace(reward=jnp.zeros_like(state.reward))

    def frame(_, carry: EnvState) -> EnvState:
        new = env.step(carry, action)
        return where(carry.terminated, carry, new.replace(reward=new.reward + carry.reward))

    # A loop even for one frame would hide the step from fusion; for more it compiles the step only
    # once.
    return (
        frame(0, state) if action_repeat == 1 else jax.lax.fori_loop(0, action_repeat, frame, state)
    )


def guard(state: EnvState) -> tuple[EnvState, jax.Array]:
    """Terminate environments [N] whose observation or reward is not finite: physics does diverge.

    Their reward becomes 0 and their observation the finite part, so that nothing non-finite is ever
    stored.
    """
    bad = ~jnp.isfinite(state.reward)
    for leaf in jax.tree.leaves(state.obs):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            bad |= ~jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1)
    finite = jax.tree.map(lambda x: jnp.nan_to_num(x, posinf=0.0, neginf=0.0), state.obs)
    state = state.replace(
        obs=finite, reward=jnp.where(bad, 0.0, state.reward), terminated=state.terminated | bad
    )
    return state, bad


def where(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Select between equal pytrees by `condition` [...], whose axes lead every leaf."""

    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(select, yes, no)
