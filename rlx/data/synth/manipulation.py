"""Cubes, scenes and puzzles: a robot arm that OGBench's scripted oracles move.

`play` follows noisy plans from one random target to the next, `noisy` a Markov oracle with Gaussian
and uniformly random actions. Park et al. 2025, arXiv 2410.20092, appendix on data collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

OPTIONS = {"mode": "data_collection"}
# Plans of `play`: noise, its smoothing in steps, seconds between two key frames.
PLAN: dict[str, Any] = {"noise": 0.1, "noise_smoothing": 0.5, "segment_dt": 0.4}
MIN_NORM = 0.4  # shortest way that the Markov oracle aims for
NOISE = 0.1  # of `noisy`: the largest xi of an episode
NOISE_SCALE = (1.0, 1.0, 1.0, 3.0, 10.0)  # xi's multiples: x, y, z, yaw, gripper
RANDOM_ACTIONS = {"cube": 0.1, "scene": 0.1, "puzzle": 0.2}
# Chance that a cube is put upon another, drawn once an episode between these.
STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35)}
STACKING |= {"quadruple": (0.1, 0.5), "octuple": (0.0, 0.35)}


def collect(env: Any, kind: str, seed: int, policy: None) -> list[dict[str, Any]] | None:
    """Return the rows of one episode of a gymnasium environment, None to throw it away."""
    del policy
    parts = env.unwrapped.spec.id.removeprefix("visual-").removesuffix("-v0").split("-")
    p_stack = np.random.uniform(*STACKING.get(parts[-1], (0.5, 0.5)))  # noqa: NPY002
    oracles = _oracles(env, kind, puzzle=parts[0] == "puzzle")
    noise = _no_noise if kind == "play" else _noise(RANDOM_ACTIONS[parts[0]])
    obs, info = env.reset(seed=seed)
    oracle = _aim(oracles, obs, info)
    rows, done = [], False
    while not done:
        action = np.clip(noise(oracle.select_action(obs, info)), -1, 1).astype(np.float32)
        next_obs, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        row = {"observations": obs, "actions": action}
        row |= {"qpos": info["prev_qpos"], "qvel": info["prev_qvel"]}
        if "prev_button_states" in info:
            row["button_states"] = info["prev_button_states"]
        rows.append(row)
        if oracle.done:
            oracle = _aim(oracles, *env.unwrapped.set_new_target(p_stack=p_stack))
        obs = next_obs
    return rows if parts[0] != "scene" or _healthy(env, rows) else None


def _aim(oracles: dict[str, Any], obs: np.ndarray, info: dict[str, Any]) -> Any:
    """Choose the oracle of the current target and let it begin."""
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(obs, info)
    return oracle


def _oracles(env: Any, kind: str, puzzle: bool) -> dict[str, Any]:
    from ogbench.manipspace.oracles.markov import (
        button_markov,
        cube_markov,
        drawer_markov,
        window_markov,
    )
    from ogbench.manipspace.oracles.plan import button_plan, cube_plan, drawer_plan, window_plan

    closed = {"gripper_always_closed": puzzle}
    if kind == "play":
        return {
            "cube": cube_plan.CubePlanOracle(env=env, **PLAN),
            "button": button_plan.ButtonPlanOracle(env=env, **closed, **PLAN),
            "drawer": drawer_plan.DrawerPlanOracle(env=env, **PLAN),
            "window": window_plan.WindowPlanOracle(env=env, **PLAN),
        }
    return {
        # (the published scripts also limit its steps in scenes, which its reset overrides)
        "cube": cube_markov.CubeMarkovOracle(env=env, min_norm=MIN_NORM),
        "button": button_markov.ButtonMarkovOracle(env=env, min_norm=MIN_NORM, **closed),
        "drawer": drawer_markov.DrawerMarkovOracle(env=env, min_norm=MIN_NORM),
        "window": window_markov.WindowMarkovOracle(env=env, min_norm=MIN_NORM),
    }


def _no_noise(action: np.ndarray) -> np.ndarray:
    return action


def _noise(p_random: float) -> Callable[[np.ndarray], np.ndarray]:
    """Draw an episode's noise; sometimes it replaces the whole action."""
    draw = np.random.mtrand._rand  # the global generator, which the oracles draw from too
    scale = draw.uniform(0, NOISE) * np.array(NOISE_SCALE)

    def disturb(action: np.ndarray) -> np.ndarray:
        if draw.uniform() < p_random:
            return draw.uniform(-1, 1, action.shape)
        return action + draw.normal(0, scale)

    return disturb


def _healthy(env: Any, rows: list[dict[str, Any]]) -> bool:
    """Say whether a scene's cube stayed where it can be: rarely the drawer pushes it away."""
    at = env.unwrapped.model.joint("object_joint_0").qposadr[0]
    _, y, z = np.array([row["qpos"][at : at + 3] for row in rows]).T
    in_drawer = (0.06 <= z) & (z <= 0.08)
    return not ((y >= 0.29) | ((y <= -0.3) & ~in_drawer)).any()
