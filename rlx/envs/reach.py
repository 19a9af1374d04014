"""The planar arm as environments: reach for a disc, or push a puck onto it, told which by a number.

An action [3] in [-1, 1] is (2 pi a1, 2 pi a2) rad, the joint angles at the end of the control step,
and a3 > 0: gripper closed, or finger down; `chunk_to_actions` makes them of a chunk. Observations
are those of `rlx.data.synth`: {"state": [4], "base": uint8 [32, 32, 3]} with images, else a vector.
The number of the prompt is `state.inner.scene.prompt`. An episode lasts 1 s and never terminates;
reward = 1 where the task is done after the step, else 0.

"reach", "push": the joints are exactly where they were sent. "reach_mjx", "push_mjx": MuJoCo, at
500 Hz, with position servos whose error is below 5 % of the range of a motion that takes 1 s.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rlx.envs import arm, names
from rlx.types import Env, EnvSpec, EnvState, PyTree, Spec

TURN = 2 * math.pi  # rad of an action of 1: pushes and via points leave [-pi, pi]
PHYSICS_HZ = 500


class Arm(struct.PyTreeNode):
    """The arm, what lies before it, and the simulator's own state (None: there is none)."""

    q: jax.Array  # [2] rad
    v: jax.Array  # [2] rad/s
    scene: arm.Scene
    data: PyTree


# (arm, joint targets [2] rad, gripper closed or finger down) -> arm, one control step later
Physics = Callable[[Arm, jax.Array, jax.Array], Arm]


def make(name: str, **overrides: Any) -> Env:
    """Make "reach", "push", "reach_mjx" or "push_mjx"; overrides are the arguments of `build`."""
    if name not in names.ARM:
        raise names.unknown(name)
    allowed = [key for key in inspect.signature(build).parameters if key != "name"]
    names.check_overrides(name, overrides, allowed)
    return build(name, **overrides)


def build(name: str, *, hz: int = 50, images: bool = False, episode_length: int = 0) -> Env:
    """Return the environment `name` at `hz` control steps per second.

    images: observe pictures instead of the positions of puck and goal.
    episode_length: control steps until truncation; 0 = one second.
    """
    mujoco = name.endswith("_mjx")
    if hz < 1 or (mujoco and PHYSICS_HZ % hz):
        divides = f" that divides {PHYSICS_HZ}" if mujoco else ""
        raise ValueError(f"{name}: hz is a whole number >= 1{divides}, got {hz}")
    if episode_length < 0:
        raise ValueError(f"{name}: episode_length is >= 0, got {episode_length}")
    push = name.startswith("push")
    if mujoco:
        start, move = simulated(PUSH_XML if push else REACH_XML, PHYSICS_HZ // hz)
    else:
        start, move = (lambda q, scene: None), exact(hz)

    def reset(key: jax.Array) -> EnvState:
        pose_key, scene_key = jax.random.split(key)
        return begin(arm.draw_pose(pose_key), arm.draw_scene(scene_key, push))

    def begin(q: jax.Array, scene: arm.Scene) -> EnvState:
        return observe(Arm(q, jnp.zeros_like(q), scene, start(q, scene)))

    def step(state: EnvState, action: jax.Array) -> EnvState:
        chex.assert_shape(action, (3,))
        target = TURN * jnp.clip(action[:2], -1.0, 1.0)
        return observe(move(state.inner, target, action[2] > 0))

    def observe(inner: Arm) -> EnvState:
        obs = arm.numbers(inner.q, inner.v, inner.scene, images)
        if images:
            obs = {"state": obs, "base": arm.picture(inner.q, inner.scene)}
        done = solved(inner)
        return EnvState(inner, obs, done.astype(jnp.float32), jnp.zeros_like(done))

    shape = jax.eval_shape(reset, jax.eval_shape(lambda: jax.random.key(0))).obs
    obs = jax.tree.map(lambda leaf: Spec(tuple(leaf.shape), np.dtype(leaf.dtype)), shape)
    spec = EnvSpec(obs, Spec((3,), np.dtype(np.float32), -1.0, 1.0))
    return Env(name, spec, 1 / hz, episode_length or hz, reset, step)


def solved(inner: Arm) -> jax.Array:
    """Say whether the tip (or the puck) is at the disc of the prompt."""
    if inner.scene.puck is None:
        return jnp.linalg.norm(arm.fingertip(inner.q) - arm.goal(inner.scene)) < arm.REACHED
    return jnp.linalg.norm(inner.scene.puck - arm.goal(inner.scene)) < arm.PUSHED


def exact(hz: int) -> Physics:
    """Joints that obey at once; a lowered finger moves the puck without friction or inertia."""

    def move(inner: Arm, target: jax.Array, closed: jax.Array) -> Arm:
        scene = inner.scene
        if scene.puck is not None:
            puck = jnp.where(closed, arm.slide(scene.puck, inner.q, target), scene.puck)
            scene = scene.replace(puck=puck)
        return inner.replace(q=target, v=(target - inner.q) * hz, scene=scene)

    return move


def simulated(xml: str, frames: int) -> tuple[Callable[..., PyTree], Physics]:
    """MuJoCo's dynamics of a model: `(q, scene) -> data`, and its step of `frames` frames."""
    from rlx.envs import mjx

    physics = mjx.compile_xml(xml)

    def positions(q: jax.Array, scene: arm.Scene) -> jax.Array:
        finger_up = [] if scene.puck is None else [jnp.array([UP]), scene.puck]
        return jnp.concatenate([q, *finger_up])

    def start(q: jax.Array, scene: arm.Scene) -> PyTree:
        return physics.reset(positions(q, scene))

    def move(inner: Arm, target: jax.Array, closed: jax.Array) -> Arm:
        scene = inner.scene
        finger = [] if scene.puck is None else [jnp.where(closed, 0.0, UP)[None]]
        data = physics.step(inner.data, jnp.concatenate([target, *finger]), frames)
        if scene.puck is not None:
            scene = scene.replace(puck=data.qpos[3:5])
        return inner.replace(q=data.qpos[:2], v=data.qvel[:2], scene=scene, data=data)

    return start, move


def chunk_to_actions(q: jax.Array, chunk: jax.Array) -> jax.Array:
    """Return the environment's actions `[..., T, 3]` of a chunk `[..., T, 3]` in the units of the
    demonstrations: rad relative to `q [..., 2]`, the angles where the chunk begins; bit 0 or 1.
    """
    joints = (q[..., None, :2] + chunk[..., :2]) / TURN
    return jnp.concatenate([joints, 2 * chunk[..., 2:] - 1], axis=-1)


def closed_loop(
    env: Env,
    policy: Callable[[PyTree, jax.Array], jax.Array],
    states: EnvState,
    horizon: int | None = None,
) -> jax.Array:
    """Play one episode from each of N states and say where the task is done at its end, `[N]` bool.

    Args:
      policy: (observations [N, ...], prompt numbers int32 [N]) -> chunk [N, T, 3] in the units of
        the demonstrations; it is traced, so everything runs under one `jit` of the caller.
      states: N states, e.g. `jax.vmap(env.reset)(keys)`.
      horizon: steps of a chunk that are played before the policy is asked again, at most T
        (default: T).
    """
    chunk_steps: int = jax.eval_shape(policy, states.obs, states.inner.scene.prompt).shape[1]
    played = chunk_steps if horizon is None else horizon
    if not 1 <= played <= chunk_steps:
        raise ValueError(f"horizon is 1 to {chunk_steps}, the steps of a chunk, got {horizon}")

    def play(states: EnvState, actions: jax.Array) -> tuple[EnvState, None]:
        return jax.vmap(env.step)(states, actions), None

    def ask(states: EnvState, steps: int) -> EnvState:
        chunk = policy(states.obs, states.inner.scene.prompt)
        actions = chunk_to_actions(states.inner.q, chunk)[:, :steps]
        return jax.lax.scan(play, states, jnp.swapaxes(actions, 0, 1))[0]

    whole, rest = divmod(env.episode_length, played)
    states = jax.lax.fori_loop(0, whole, lambda _, states: ask(states, played), states)
    return (ask(states, rest) if rest else states).reward > 0


# Gravity is off: the table is horizontal. The armature dominates the links' inertia, so the servos
# are near critical damping at about 100 rad/s in every pose, and lag by kv / kp = 0.02 s.
UP = 0.08  # m, height of a lifted finger, above the puck's reach
_ARM_XML = """
<mujoco model="arm">
  <option timestep="0.002" gravity="0 0 0" integrator="implicitfast" iterations="4">
    <flag {flags}/>
  </option>
  <default>
    <joint axis="0 0 1" armature="0.01"/>
    <geom type="capsule" size="0.008" mass="0.1" contype="0" conaffinity="0"/>
    <position kp="120" kv="2.4"/>
  </default>
  <worldbody>
    <body name="upper">
      <joint name="shoulder"/>
      <geom fromto="0 0 0 {link} 0 0"/>
      <body name="lower" pos="{link} 0 0">
        <joint name="elbow"/>
        <geom fromto="0 0 0 {link} 0 0"/>
        {finger}
      </body>
    </body>
    {puck}
  </worldbody>
  <actuator>
    <position joint="shoulder"/>
    <position joint="elbow"/>
    {lift}
  </actuator>
</mujoco>
"""
_FINGER_XML = f"""<body name="finger" pos="{arm.LINK} 0 0">
          <joint name="lift" type="slide" armature="0.1"/>
          <geom type="sphere" size="{arm.FINGER}" mass="0.02" contype="1" conaffinity="1"/>
        </body>"""
_PUCK_XML = f"""<body name="puck">
      <joint type="slide" axis="1 0 0" armature="0" damping="5"/>
      <joint type="slide" axis="0 1 0" armature="0" damping="5"/>
      <geom type="sphere" size="{arm.PUCK}" mass="0.05" contype="1" conaffinity="1" condim="1"/>
    </body>"""
REACH_XML = _ARM_XML.format(
    link=arm.LINK, flags='contact="disable" eulerdamp="disable"', finger="", puck="", lift=""
)
PUSH_XML = _ARM_XML.format(
    link=arm.LINK,
    flags='eulerdamp="disable"',
    finger=_FINGER_XML,
    puck=_PUCK_XML,
    lift='<position joint="lift" kp="1200" kv="24"/>',
)
