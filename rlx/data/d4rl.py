"""D4RL's antmaze and adroit data (Fu et al. 2020, arXiv 2004.07219) without the d4rl package.

Three sources: the original HDF5 files, their RLDS copies in TFDS, and Minari's data sets of the
same tasks (collected anew, so not the same numbers). Rewards and ends as in the FQL paper
(Park, Li & Levine 2025, arXiv 2502.02538): antmaze rewards are r - 1, masks are 1 - terminals, and
a trajectory ends where the next row's observation is not the next observation, in adroit also
where terminals is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlx.data import rlds, trajectories
from rlx.data.rows import Rows
from rlx.infra import errors

FOLDER = "~/.d4rl/datasets"  # where the d4rl package keeps its files
_MINARI = "minari:"  # before a Minari id, in place of a path
ANTMAZE_OFFSET = -1.0

TASKS = (
    *(
        f"antmaze-{maze}-v2"
        for maze in (
            "umaze",
            "umaze-diverse",
            "medium-play",
            "medium-diverse",
            "large-play",
            "large-diverse",
        )
    ),
    *(
        f"{hand}-{data}-v1"
        for hand in ("pen", "door", "hammer", "relocate")
        for data in ("human", "cloned", "expert")
    ),
)
# Return of a random and of an expert policy, as d4rl has them; antmaze's return is its success.
REFERENCE = {
    "antmaze": (0.0, 1.0),
    "pen": (96.2628, 3076.8331),
    "door": (-56.5126, 2880.5693),
    "hammer": (-274.8566, 12794.1348),
    "relocate": (-6.4259, 4233.8777),
}


def load(name: str, path: str | Path | None = None) -> trajectories.Dataset:
    """Return the data of task `name`; there is no validation set.

    `path` is an HDF5 file, a TFDS data set's folder (the one with dataset_info.json) or
    `minari:<id>`; by default `~/.d4rl/datasets/<name>.hdf5`. Raises ValueError for an unknown name
    or unusable contents, FileNotFoundError, naming all three, where there is nothing.
    """
    family = _family(name)
    if str(path or "").startswith(_MINARI):
        rows = from_minari(str(path).removeprefix(_MINARI), name)
    else:
        path = Path(path or f"{FOLDER}/{name}.hdf5").expanduser()
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}. {_routes(name)}")
        if path.is_dir() and not rlds.is_rlds(path):
            raise ValueError(f"{path} has no dataset_info.json. {_routes(name)}")
        rows = from_rlds(path, name) if path.is_dir() else from_hdf5(path, name)
    offset = ANTMAZE_OFFSET if family == "antmaze" else 0.0
    return trajectories.Dataset(name=name, env=name, train=rows, val=None, reward_offset=offset)


def normalized_score(name: str, returns: np.ndarray | float) -> np.ndarray | float:
    """Return 100 * (R - R_random) / (R_expert - R_random) of undiscounted returns [...].

    Returns are in the environment's own rewards, antmaze's 0 and 1 and not those of `load`.
    """
    low, high = REFERENCE[_family(name)]
    return 100.0 * (returns - low) / (high - low)


def from_hdf5(path: str | Path, name: str) -> Rows:
    """Return the Rows of an original file: observations, actions, rewards, terminals, timeouts.

    Without next_observations, a row with a timeout, and the last one, is a final observation only,
    as in d4rl's `qlearning_dataset`. Raises ValueError for missing keys or a file that is no HDF5.
    """
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file")
    with h5py.File(path, "r") as file:
        needed = ("observations", "actions", "rewards", "terminals")
        if missing := [key for key in needed if key not in file]:
            raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file)}")
        if "next_observations" not in file and "timeouts" not in file:
            raise ValueError(f"{path} has neither next_observations nor timeouts")
        wanted = (*needed, "next_observations", "timeouts")
        sets: Any = file  # of its entries these are arrays, not groups
        data: dict[str, np.ndarray] = {key: sets[key][:] for key in wanted if key in file}
    done = data["terminals"].reshape(-1).astype(bool)
    timeouts = data.pop("timeouts", np.zeros_like(done)).reshape(-1).astype(bool)
    data |= _values(name, data["rewards"].reshape(-1), done)
    # In antmaze `terminals` says that the goal is reached, and the ant walks on.
    ends = timeouts if _family(name) == "antmaze" else timeouts | done
    if "next_observations" not in data:
        keep = ~timeouts[:-1]
        ends = ends[:-1] | timeouts[1:]
        data["next_observations"] = data["observations"][1:]
        data = {key: x[: len(keep)][keep] for key, x in data.items()}
        ends = ends[keep]
    data["terminals"] = ends
    return trajectories.from_arrays(data, split_jumps=True)


def from_rlds(folder: str | Path, name: str, split: str = "train") -> Rows:
    """Return the Rows of a TFDS data set such as `d4rl_antmaze/umaze-v2`, without TensorFlow.

    An episode's steps are rows; `is_terminal` of a step terminates the transition before it.
    """

    def parts() -> Iterator[dict[str, np.ndarray]]:
        for episode in rlds.episodes(folder, split):
            steps = episode["steps"]
            yield {
                "observations": _observations(steps["observation"]),
                "actions": steps["action"][:-1],
                "rewards": steps["reward"][:-1],
                "done": steps["is_terminal"][1:],
            }

    return _from_episodes(parts(), name, str(folder))


def from_minari(dataset_id: str, name: str) -> Rows:
    """Return the Rows of a Minari data set in its local folder (`MINARI_DATASETS_PATH`).

    Observations that are dicts become achieved_goal and observation end to end, the 29 numbers of
    D4RL's antmaze. Raises FileNotFoundError where it was not downloaded.
    """
    import minari

    try:
        data = minari.load_dataset(dataset_id)
    except (FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(
            f"no Minari data set '{dataset_id}' here ({errors.first_line(error)}); "
            f"fetch it with `minari download {dataset_id}`"
        ) from error

    def parts() -> Iterator[dict[str, np.ndarray]]:
        for episode in data.iterate_episodes():
            yield {
                "observations": _observations(episode.observations),
                "actions": episode.actions,
                "rewards": episode.rewards,
                "done": episode.terminations,
            }

    return _from_episodes(parts(), name, dataset_id)


def _family(name: str) -> str:
    if name not in TASKS:
        raise ValueError(errors.unknown("D4RL task", name, TASKS, "python -m rlx.data.card --list"))
    return name.split("-")[0]


def _routes(name: str) -> str:
    family, _, rest = name.partition("-")
    data, _, version = rest.rpartition("-")
    if family == "antmaze":
        builder, minari = f"d4rl_antmaze/{data}-{version}", f"D4RL/antmaze/{data}-v1"
    else:
        builder, minari = f"d4rl_adroit_{family}/{version}-{data}", f"D4RL/{family}/{data}-v2"
    return (
        f"'{name}' is read from (1) D4RL's HDF5 file, at {FOLDER}/{name}.hdf5 or path=FILE; "
        f"(2) TFDS's {builder}, path=FOLDER with its dataset_info.json; "
        f"(3) Minari, after `minari download {minari}`, path={_MINARI}{minari}"
    )


def _values(name: str, rewards: np.ndarray, done: np.ndarray) -> dict[str, np.ndarray]:
    offset = ANTMAZE_OFFSET if _family(name) == "antmaze" else 0.0
    rewards = rewards.astype(np.float32) + np.float32(offset)
    return {"rewards": rewards, "masks": 1.0 - done.astype(np.float32)}


def _observations(values: Any) -> np.ndarray:
    if not isinstance(values, Mapping):
        return np.asarray(values)
    missing = [key for key in ("achieved_goal", "observation") if key not in values]
    if missing:
        raise ValueError(f"observations lack {', '.join(missing)}; they have {', '.join(values)}")
    return np.concatenate([values["achieved_goal"], values["observation"]], axis=-1)


def _from_episodes(episodes: Iterable[Mapping[str, np.ndarray]], name: str, source: str) -> Rows:
    """Rows of episodes with T + 1 observations and T actions, rewards and done."""
    columns: dict[str, list[np.ndarray]] = {
        key: [] for key in ("observations", "actions", "rewards", "masks", "valids")
    }
    for episode in episodes:
        steps = len(episode["actions"])
        part = {
            "observations": np.asarray(episode["observations"], np.float32),
            "actions": episode["actions"],
            **_values(name, np.asarray(episode["rewards"]), np.asarray(episode["done"])),
            "valids": np.ones(steps, np.float32),
        }
        for key, column in columns.items():
            column.append(part[key] if key == "observations" else _padded(part[key]))
    if not columns["valids"]:
        raise ValueError(f"{source} holds no episode")
    return trajectories.from_arrays({key: np.concatenate(x) for key, x in columns.items()})


def _padded(values: np.ndarray) -> np.ndarray:
    """`values [T, ...]` with a row of zeros for the final observation, [T + 1, ...]."""
    return np.concatenate([values, np.zeros_like(values[:1], shape=(1, *values.shape[1:]))])
