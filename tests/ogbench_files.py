"""Small real OGBench files, for the tests that read them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

LENGTH = 20  # transitions of a trajectory
TRAJECTORIES = {"": 3, "-val": 1}  # by the end of the file's name


def collect(env, options: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One trajectory of random actions, LENGTH + 1 rows as in OGBench's files."""
    ob, _ = env.reset(seed=int(rng.integers(2**31)), options=options)
    rows = []
    for step in range(LENGTH + 1):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        action[0] = 1.0 if step % 2 else action[0]  # some that are clipped
        next_ob, _, _, _, info = env.step(action)
        rows.append((ob, action, step == LENGTH, info["prev_qpos"], info["prev_qvel"]))
        ob = next_ob
    ob, action, terminal, qpos, qvel = (np.stack(column) for column in zip(*rows))
    return {
        "observations": ob.astype(np.float32),
        "actions": action,
        "terminals": terminal,
        "qpos": qpos.astype(np.float32),
        "qvel": qvel.astype(np.float32),
    }


def save(folder: Path, stem: str, make_trajectory) -> None:
    """Write `<stem>.npz` and `<stem>-val.npz`."""
    for end, count in TRAJECTORIES.items():
        parts = [make_trajectory() for _ in range(count)]
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        np.savez(folder / f"{stem}{end}.npz", **whole)


@pytest.fixture(scope="session")
def ogbench_folder(tmp_path_factory) -> Path:
    """A folder with files of pointmaze-medium-navigate and cube-single-play.

    Maze trajectories begin at the goal of task 1; in the cube's, rows 5 to 9 of a trajectory have
    the cube at the goal of task 2.
    """
    os.environ.setdefault("MUJOCO_GL", "disable")
    import gymnasium
    import ogbench  # noqa: F401  registers the environments

    folder = tmp_path_factory.mktemp("ogbench")
    rng = np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002  the environments draw from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maze = gymnasium.make("pointmaze-medium-v0", terminate_at_goal=False)
        goal = maze.unwrapped.task_infos[0]["goal_ij"]
        start = {"task_info": {"init_ij": goal, "goal_ij": (1, 1)}}
        save(folder, "pointmaze-medium-navigate-v0", lambda: collect(maze, start, rng))

        cube = gymnasium.make("cube-single-v0", terminate_at_goal=False)
        target = cube.unwrapped.task_infos[1]["goal_xyzs"][0]

        def with_completed_rows() -> dict[str, np.ndarray]:
            trajectory = collect(cube, {"task_id": 1}, rng)
            trajectory["qpos"][5:10, 14:17] = target
            return trajectory

        save(folder, "cube-single-play-v0", with_completed_rows)
    return folder
