"""Three classic control tasks in pure JAX: they compile in about a second and run anywhere.

Angles in rad, 0 = upright, growing as the tip falls towards +x; lengths in m, times in s, masses in
kg. Actions are in [-1, 1]; values outside are clipped. None of the tasks terminates: an episode
ends by its time limit alone, which `vectorize` applies (`episode_length` physics frames), so a
learner bootstraps at every episode end.
"""

from __future__ import annotations

import inspect
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rlx.envs import names
from rlx.types import Env, EnvSpec, EnvState, Spec


def make(name: str, **overrides: Any) -> Env:
    """Make "pendulum", "cartpole_swingup" or "point_mass"; overrides are its arguments."""
    makers = dict(zip(names.CLASSIC, (pendulum, cartpole_swingup, point_mass)))
    if name not in makers:
        raise names.unknown(name)
    allowed = inspect.signature(makers[name]).parameters
    names.check_overrides(name, overrides, allowed)
    for key, value in overrides.items():
        if value < 0 or (value == 0 and key not in ("gravity", "damping")):
            raise ValueError(f"{name}: {key} must be positive, got {value}")
    return makers[name](**overrides)


class Motion(struct.PyTreeNode):
    """Generalised positions and velocities of a body, `[D]` each."""

    q: jax.Array
    v: jax.Array


def pendulum(
    *,
    gravity: float = 10.0,
    mass: float = 1.0,
    length: float = 1.0,
    dt: float = 0.05,
    max_speed: float = 8.0,
    max_torque: float = 2.0,
    episode_length: int = 200,
) -> Env:
    """Swing a rod up with too little torque to lift it at once (gymnasium's Pendulum-v1).

    obs [3] = (cos th, sin th, th'), th = 0 upright.   u = max_torque * action, N m.
    th' <- clip(th' + (3 g / (2 l) sin th + 3 / (m l^2) u) dt, -max_speed, max_speed)
    th  <- th + th' dt  (new th')
    reward = -(th^2 + 0.1 th'^2 + 0.001 u^2) of the state BEFORE the step, th in [-pi, pi).
    Start: th uniform in [-pi, pi], th' uniform in [-1, 1] rad/s. A good policy returns about -150.
    """

    def reset(key: jax.Array) -> EnvState:
        start = jax.random.uniform(key, (2,), jnp.float32, -1.0, 1.0)
        return observe(Motion(q=start[:1] * jnp.pi, v=start[1:]))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        chex.assert_shape(action, (1,))
        angle, speed = wrap(state.inner.q), state.inner.v
        torque = max_torque * jnp.clip(action, -1.0, 1.0)
        cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
        acceleration = 3 * gravity / (2 * length) * jnp.sin(angle) + 3 / (mass * length**2) * torque
        speed = jnp.clip(speed + acceleration * dt, -max_speed, max_speed)
        return observe(Motion(q=wrap(angle + speed * dt), v=speed), reward=-cost[0])

    def observe(motion: Motion, reward: jax.Array | None = None) -> EnvState:
        obs = jnp.concatenate([jnp.cos(motion.q), jnp.sin(motion.q), motion.v])
        return to_state(motion, obs, reward)

    return Env("pendulum", box(obs=3, action=1), dt, episode_length, reset, step)


def cartpole_swingup(
    *,
    gravity: float = 9.8,
    cart_mass: float = 1.0,
    pole_mass: float = 0.1,
    half_length: float = 0.5,
    max_force: float = 10.0,
    track: float = 3.0,
    dt: float = 0.02,
    episode_length: int = 500,
) -> Env:
    """Swing a pole up by pushing its cart along a track, without friction.

    obs [5] = (x, cos th, sin th, x', th'), th = 0 upright.   F = max_force * action, N.
    With M, m, l = cart mass, pole mass, half of the pole's length (a uniform rod):
      s    = (F + m l th'^2 sin th) / (M + m)
      th'' = (g sin th - s cos th) / (l (4/3 - m cos^2 th / (M + m)))
      x''  = s - m l th'' cos th / (M + m)
    Semi-implicit Euler (velocities first). |x| <= track: the cart stops dead at the track's end.
    reward = (1 + cos th) / 2 * (1 + exp(-x^2)) / 2 * (1 + exp(-(th' / 5)^2)) / 2, after the step,
      in [0, 1]: 1 where the pole stands still, upright, in the middle. The last two factors are
      at least 1/2, so the first one leads.
    Start: th = pi (hanging), x, x', th' = 0, each with uniform noise in [-0.05, 0.05].
    """
    total = cart_mass + pole_mass

    def reset(key: jax.Array) -> EnvState:
        noise = jax.random.uniform(key, (2, 2), jnp.float32, -0.05, 0.05)
        return observe(Motion(q=noise[0] + jnp.array([0.0, jnp.pi], jnp.float32), v=noise[1]))

    def accelerate(motion: Motion, force: jax.Array) -> jax.Array:
        angle, speed = motion.q[1], motion.v[1]
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        push = (force + pole_mass * half_length * speed**2 * sin) / total
        angular = (gravity * sin - push * cos) / (
            half_length * (4 / 3 - pole_mass * cos**2 / total)
        )
        return jnp.stack([push - pole_mass * half_length * angular * cos / total, angular])

    def step(state: EnvState, action: jax.Array) -> EnvState:
        chex.assert_shape(action, (1,))
        force = max_force * jnp.clip(action[0], -1.0, 1.0)
        v = state.inner.v + accelerate(state.inner, force) * dt
        x, angle = state.inner.q + v * dt
        stopped = jnp.where(jnp.abs(x) > track, 0.0, v[0])
        motion = Motion(
            q=jnp.stack([jnp.clip(x, -track, track), wrap(angle)]), v=jnp.stack([stopped, v[1]])
        )
        upright = (1 + jnp.cos(motion.q[1])) / 2
        centred = (1 + jnp.exp(-(motion.q[0] ** 2))) / 2
        calm = (1 + jnp.exp(-((motion.v[1] / 5) ** 2))) / 2
        return observe(motion, reward=upright * centred * calm)

    def observe(motion: Motion, reward: jax.Array | None = None) -> EnvState:
        x, angle = motion.q
        obs = jnp.concatenate([jnp.stack([x, jnp.cos(angle), jnp.sin(angle)]), motion.v])
        return to_state(motion, obs, reward)

    return Env("cartpole_swingup", box(obs=5, action=1), dt, episode_length, reset, step)


def point_mass(
    *,
    mass: float = 1.0,
    damping: float = 0.5,
    max_force: float = 1.0,
    arena: float = 1.0,
    goal_width: float = 0.2,
    dt: float = 0.05,
    episode_length: int = 200,
) -> Env:
    """Push a damped point in the plane to the origin and keep it there; arriving does not
    terminate.

    obs [4] = (p, p'), p in m.   F = max_force * action [2], N.
    p' <- p' + (F - damping p') / mass dt;   p <- p + p' dt  (new p')
    |p_i| <= arena: a wall takes the velocity into it.
    reward = exp(-|p|^2 / (2 goal_width^2)), after the step: in [0, 1], 1 at the origin.
    Start: p uniform in the arena, at rest.
    """

    def reset(key: jax.Array) -> EnvState:
        p = jax.random.uniform(key, (2,), jnp.float32, -arena, arena)
        return observe(Motion(q=p, v=jnp.zeros_like(p)))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        chex.assert_shape(action, (2,))
        force = max_force * jnp.clip(action, -1.0, 1.0)
        v = state.inner.v + (force - damping * state.inner.v) / mass * dt
        p = state.inner.q + v * dt
        motion = Motion(q=jnp.clip(p, -arena, arena), v=jnp.where(jnp.abs(p) > arena, 0.0, v))
        return observe(motion, reward=jnp.exp(-jnp.sum(motion.q**2) / (2 * goal_width**2)))

    def observe(motion: Motion, reward: jax.Array | None = None) -> EnvState:
        return to_state(motion, jnp.concatenate([motion.q, motion.v]), reward)

    return Env("point_mass", box(obs=4, action=2), dt, episode_length, reset, step)


def wrap(angle: jax.Array) -> jax.Array:
    """`angle` in [-pi, pi): keeps float32 exact however long a pole spins."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi


def box(obs: int, action: int) -> EnvSpec:
    """Flat float32 observations, actions in [-1, 1]."""
    return EnvSpec(
        obs=Spec((obs,), np.dtype(np.float32)),
        action=Spec((action,), np.dtype(np.float32), -1.0, 1.0),
    )


def to_state(motion: Motion, obs: jax.Array, reward: jax.Array | None) -> EnvState:
    """An EnvState that never terminates; `reward` is None after a reset."""
    zero = jnp.zeros_like(obs[0])  # of `obs`, so that it varies over a mesh as the observation does
    return EnvState(
        inner=motion,
        obs=obs,
        reward=zero if reward is None else reward,
        terminated=zero.astype(bool),
    )
