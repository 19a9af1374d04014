"""OGBench (Park et al. 2025, arXiv 2410.20092): task names, files on disk, rewards -> `Dataset`.

A single task is `<environment>-<type>-singletask[-task1..5]-v0`, e.g.
`cube-single-play-singletask-task2-v0`. Its file is `cube-single-play-v0.npz`, shared by all tasks:
rewards and masks are computed from `qpos` and `button_states` by the `ogbench` package. Names
without `singletask` carry no task: their rewards are 0.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlx.data import trajectories
from rlx.data.rows import Rows
from rlx.infra import errors

URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
FOLDER = "~/.ogbench/data"

# Family: (sizes, sizes with images, types of data, default task). There is no file of OGBench's for
# cube-octuple, whose 1M set is to be generated.
_MAZES = ("medium", "large", "giant", "teleport")
_CUBES = ("single", "double", "triple", "quadruple")
_PUZZLES = ("3x3", "4x4", "4x5", "4x6")
_FAMILIES = {
    "pointmaze": (_MAZES, (), ("navigate", "stitch", "path"), 1),
    "antmaze": (_MAZES, _MAZES, ("navigate", "stitch", "explore"), 1),
    "humanoidmaze": (_MAZES[:3], _MAZES[:3], ("navigate", "stitch"), 1),
    "antsoccer": (("arena", "medium"), (), ("navigate", "stitch"), 4),
    "cube": ((*_CUBES, "octuple"), _CUBES, ("play", "noisy"), 2),
    "scene": (("",), ("",), ("play", "noisy"), 2),
    "puzzle": (_PUZZLES, _PUZZLES, ("play", "noisy"), 4),
}
_DEFAULT_TASK = {"puzzle-4x5": 2, "puzzle-4x6": 2}  # of single environments, before the family's
_NUM_TASKS = 5

# The 55 tasks of the FQL paper's tables (Park, Li & Levine 2025, arXiv 2502.02538).
TASKS = (
    *(
        f"{data}-singletask-task{task}-v0"
        for data in (
            "antmaze-large-navigate",
            "antmaze-giant-navigate",
            "humanoidmaze-medium-navigate",
            "humanoidmaze-large-navigate",
            "antsoccer-arena-navigate",
            "cube-single-play",
            "cube-double-play",
            "scene-play",
            "puzzle-3x3-play",
            "puzzle-4x4-play",
        )
        for task in range(1, _NUM_TASKS + 1)
    ),
    *(
        f"visual-{data}-play-singletask-task1-v0"
        for data in ("cube-single", "cube-double", "scene", "puzzle-3x3", "puzzle-4x4")
    ),
)


class Task(NamedTuple):
    """A parsed name."""

    name: str
    env: str  # the environment's id: `ogbench.make_env_and_datasets(name, env_only=True)`
    state_env: str  # the same without pixels, whose rewards are the same and need no renderer
    type: str  # how the data was collected: navigate, stitch, explore, path, play, noisy
    data: str  # stem of its files: `<data>.npz`, `<data>-val.npz`
    task: int | None  # 1..5; None where the name has no task
    visual: bool  # uint8 images [64, 64, 3]


def parse(name: str) -> Task:
    """Return what `name` means. ValueError for an unknown one, with those most like it."""
    if "100m" in name.split("-"):
        raise ValueError(
            f"'{name}': the 100M-transition sets are folders of 1M-transition files, which are not "
            "read here; use the 1M set, the same name without -100m"
        )
    known = _names()
    if name not in known:
        raise ValueError(
            errors.unknown("OGBench task", name, known, "python -m rlx.data.card --list")
        )
    return known[name]


def names() -> list[str]:
    """Return all names: those without a task, the default tasks, tasks 1 to 5."""
    return list(_names())


def load(
    name: str,
    folder: str | Path | None = None,
    path: str | Path | None = None,
    *,
    sparse: bool = False,
    download: bool = False,
) -> trajectories.Dataset:
    """Return the data of task `name` from `<folder>/<stem>.npz` and, if it is there, `-val.npz`.

      folder    default ~/.ogbench/data
      path      a training file anywhere, with its `-val.npz` beside it; instead of `folder`
      sparse    cube, scene and puzzle: reward -1, or 0 where all subtasks are done (Li et al. 2025,
                arXiv 2507.07969), instead of minus the number of subtasks left
      download  fetch missing files from OGBench's server; never done unasked
    Raises ValueError for names and contents, FileNotFoundError where there is no file. Images are
    held in memory once.
    """
    task = parse(name)
    if sparse and (task.task is None or _is_maze(task)):
        raise ValueError(f"sparse=True changes nothing for '{name}': its rewards are so already")
    train = train_file(task, folder, path, download=download)
    val = train.with_name(f"{train.stem}-val.npz")
    goal = None if task.task is None else _state_env(task)
    return trajectories.Dataset(
        name=name,
        env=task.env,
        train=_rows(train, task, goal, sparse),
        val=_rows(val, task, goal, sparse) if val.is_file() else None,
        sparse=sparse,
    )


def train_file(
    task: Task,
    folder: str | Path | None = None,
    path: str | Path | None = None,
    *,
    download: bool = False,
) -> Path:
    """Return the training file of `task`, arguments as of `load`; FileNotFoundError without it."""
    if path is not None:
        if folder is not None or download:
            raise ValueError("path names the file itself; leave folder and download out")
        path = Path(path).expanduser()
        if path.is_dir():
            raise ValueError(f"{path} is a folder; pass it as folder=, or the .npz file as path=")
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}{_how_to_get(task, path.parent)}")
        return path
    folder = Path(FOLDER if folder is None else folder).expanduser()
    path = folder / f"{task.data}.npz"
    if download:
        _download(task, folder)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}{_how_to_get(task, folder)}")
    return path


def single_tasks(task: Task) -> list[Task]:
    """Return the five single tasks on the data of `task`."""
    stem = task.data.removesuffix("-v0")
    return [parse(f"{stem}-singletask-task{k}-v0") for k in range(1, _NUM_TASKS + 1)]


def relabel(task: Task, info: dict[str, np.ndarray], env: Any = None) -> dict[str, np.ndarray]:
    """Return `rewards, masks` f32[N] of `task` (not None) for rows with `info`.

    `info` holds `qpos [N, Q]` and, for scenes and puzzles, `button_states [N, K]`; `env` is an
    environment to reuse, `task.state_env`. By ogbench 1.2's own function: both belong to the state
    before the action.
    """
    from ogbench.relabel_utils import relabel_dataset

    arrays = dict(info)
    with _simulator_is_quiet():
        relabel_dataset(task.state_env, _state_env(task) if env is None else env, arrays)
    return {key: arrays[key] for key in ("rewards", "masks")}


def read_info(path: Path) -> dict[str, np.ndarray]:
    """Return what rewards are computed from, of every row of the file: qpos, button_states."""
    with np.load(path) as file:
        return {key: file[key] for key in ("qpos", "button_states") if key in file.files}


def _names() -> dict[str, Task]:
    return {
        task.name: task
        for visual in (False, True)
        for family, (sizes, with_images, types, default) in _FAMILIES.items()
        for size in (with_images if visual else sizes)
        for kind in types
        for task in _tasks(f"{family}-{size}".rstrip("-"), kind, default, visual)
    }


def _tasks(base: str, kind: str, default: int, visual: bool) -> list[Task]:
    prefix = "visual-" if visual else ""
    data = f"{prefix}{base}-{kind}"
    suffixes = {"": None, "-singletask": _DEFAULT_TASK.get(base, default)}
    suffixes |= {f"-singletask-task{k}": k for k in range(1, _NUM_TASKS + 1)}
    return [
        Task(
            name=f"{data}{suffix}-v0",
            env=f"{prefix}{base}{suffix}-v0",
            state_env=f"{base}{suffix}-v0",
            type=kind,
            data=f"{data}-v0",
            task=task,
            visual=visual,
        )
        for suffix, task in suffixes.items()
    ]


def _is_maze(task: Task) -> bool:
    return "maze" in task.env or "soccer" in task.env


@contextlib.contextmanager
def _simulator_is_quiet() -> Iterator[None]:
    """Ignore warnings of a missing display and of the precision of spaces."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="glfw|gymnasium")
        yield


def _state_env(task: Task) -> Any:
    with _simulator_is_quiet():
        import ogbench

        return ogbench.make_env_and_datasets(task.name.removeprefix("visual-"), env_only=True)


def _download(task: Task, folder: Path) -> None:
    """Fetch the files of `task` that `folder` lacks."""
    import ogbench

    try:
        ogbench.download_datasets([task.data], str(folder))
    except OSError as error:
        raise FileNotFoundError(f"no download ({error}){_how_to_get(task, folder)}") from error


def _how_to_get(task: Task, folder: Path) -> str:
    env = task.data.removesuffix(f"-{task.type}-v0")
    text = (
        f". Download {URL}/{task.data}.npz and {URL}/{task.data}-val.npz into that folder "
        "(--config.data.download=true does)"
    )
    if "antsoccer" in env:  # its expert plays ball: it can be downloaded only
        return text
    walks = "antmaze" in env or "humanoidmaze" in env
    expert = " --expert=WORKDIR (of python -m experiments.expert)" if walks else ""
    return (
        f"{text}, or generate them: python -m experiments.make_data --env={env} "
        f"--type={task.type} --episodes=1000 --out={folder}{expert}"
    )


def _rows(path: Path, task: Task, env: Any, sparse: bool) -> Rows:
    with np.load(path) as file:
        wanted = ("observations", "actions", "terminals") + (("qpos",) if env is not None else ())
        missing = [key for key in wanted if key not in file.files]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}; it has {', '.join(file.files)}. An OGBench "
                "file holds observations, actions, terminals, qpos, qvel (and button_states)"
            )
        data = {key: file[key] for key in ("observations", "actions")}
        data["valids"] = file["terminals"] == 0
    _check_images(path, data["observations"], task.visual)
    if env is not None:
        data |= relabel(task, read_info(path), env)
    if sparse:
        data["rewards"] = np.where(data["rewards"] != 0, -1.0, 0.0)
    return trajectories.from_arrays(data, final_actions=True, rewarded=env is not None)


def _check_images(path: Path, observations: np.ndarray, visual: bool) -> None:
    if visual != (observations.dtype == np.uint8 and observations.ndim == 4):
        expected = "uint8 images [N, 64, 64, 3]" if visual else "float vectors [N, D]"
        raise ValueError(
            f"{path}: observations are {observations.dtype} {observations.shape}, expected "
            f"{expected}; names of image data begin with visual-"
        )
