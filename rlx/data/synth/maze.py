"""Mazes: a point, or a walker with a learned policy, that follows the shortest way, with noise.

`navigate` walks from one random goal to the next, `stitch` to a goal four cells away, `path` to
one goal, `explore` in random directions. Park et al. 2025, arXiv 2410.20092, appendix on data
collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]  # obs [O] without xy, direction [2] -> [A]
Cell = tuple[int, int]

OPTIONS: dict[str, Any] = {}
NOISE = 0.2  # standard deviation of what is added to actions
POINT_NOISE = 0.5
EXPLORE_NOISE = 1.0
STITCH_CELLS = 4  # from the start to the goal
EXPLORE_STEPS = 10  # in the same direction


def collect(env: Any, kind: str, seed: int, policy: Policy | None) -> list[dict[str, Any]]:
    """Return the rows of one episode of a gymnasium environment."""
    draw = np.random.mtrand._rand  # the global generator, which the maze draws from too
    maze = env.unwrapped
    goals = _junctions(maze.maze_map)
    start = _pick(draw, _free(maze.maze_map))
    goal = _pick(draw, _around(maze, start) if kind == "stitch" else goals)
    noise = EXPLORE_NOISE if kind == "explore" else NOISE if policy else POINT_NOISE
    obs, _ = env.reset(seed=seed, options={"task_info": {"init_ij": start, "goal_ij": goal}})
    rows, done, direction = [], False, np.zeros(2)
    while not done:
        if kind != "explore":
            direction = _unit(maze.get_oracle_subgoal(maze.get_xy(), maze.cur_goal_xy)[0], maze)
        elif len(rows) % EXPLORE_STEPS == 0:
            direction = draw.normal(size=2)
            direction /= np.linalg.norm(direction)
        action = policy(maze.get_ob(ob_type="states")[2:], direction) if policy else direction
        action = np.clip(action + draw.normal(0, noise, np.shape(action)), -1, 1)
        action = action.astype(np.float32)
        next_obs, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        if info["success"] and kind == "navigate":
            maze.set_goal(goal_xy=maze.add_noise(maze.ij_to_xy(_pick(draw, goals))))
        row = {"observations": obs, "actions": action}
        rows.append(row | {"qpos": info["prev_qpos"], "qvel": info["prev_qvel"]})
        obs = next_obs
    return rows


def check_policy(env: Any, policy: Policy) -> None:
    """Raise a ValueError if `policy` does not fit the body in the maze."""
    env.reset(seed=0)
    obs = env.unwrapped.get_ob(ob_type="states")[2:]
    wanted = env.action_space.shape
    try:
        shape = np.shape(policy(obs, np.zeros(2)))
    except ValueError as error:
        raise ValueError(f"the policy does not take {len(obs)} numbers and 2: {error}") from error
    if shape != wanted:
        raise ValueError(f"the policy gives actions {shape}, {env.spec.id} takes {wanted}")


def _unit(subgoal: np.ndarray, maze: Any) -> np.ndarray:
    """Return the direction to `subgoal`, zeros in its very place."""
    way = subgoal - maze.get_xy()
    return way / (np.linalg.norm(way) + 1e-6)


def _pick(draw: np.random.RandomState, cells: list[Cell]) -> Cell:
    return cells[draw.randint(len(cells))]


def _free(walls: np.ndarray) -> list[Cell]:
    return [(int(i), int(j)) for i, j in np.argwhere(walls == 0)]


def _junctions(walls: np.ndarray) -> list[Cell]:
    """Return the free cells that are no straight hallway: corners, crossings, dead ends."""

    def straight(i: int, j: int) -> bool:
        column, row = walls[[i - 1, i + 1], j], walls[i, [j - 1, j + 1]]
        return bool((column.all() and not row.any()) or (row.all() and not column.any()))

    return [cell for cell in _free(walls) if not straight(*cell)]


def _around(maze: Any, start: Cell) -> list[Cell]:
    """Return the cells `STITCH_CELLS` steps away from `start`, itself where there are none."""
    here = np.array(maze.ij_to_xy(start))
    _, steps = maze.get_oracle_subgoal(here, here)
    return [(int(i), int(j)) for i, j in np.argwhere(steps == STITCH_CELLS)] or [start]
