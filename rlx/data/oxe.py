"""Robot data sets of Open X-Embodiment (arXiv 2310.08864) in one form: which camera, state, action
and sentence are where in their RLDS files.

Everywhere the last action is the gripper, 0 open, 1 closed. The rest keep their units; what
"standing still" is in them says `still`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlx.data import rlds
from rlx.data.chunks import ChunkSource, Episode, choice
from rlx.names import nearest

IDLE = 1e-3  # rad/s; DROID's teleoperators rest often, their joints then count as still


class Adapter(NamedTuple):
    """Where a data set keeps what; paths are below `steps`."""

    cameras: Mapping[str, Sequence[str]]  # ours: theirs; of several a step takes one by chance
    state: Sequence[str]  # put side by side: [T, S]
    actions: Sequence[str]  # put side by side: [T, A], the gripper last
    gripper: Callable[[np.ndarray], np.ndarray]  # [T] as recorded -> 0 open, 1 closed
    still: Sequence[bool]  # [A] True: 0 is standing still (differences, velocities)
    prompts: Sequence[str]  # sentences, of which empty ones do not count
    hz: int  # control frequency; a chunk is one second by default
    weight: float  # in mixtures, times the number of samples
    kept: Callable[[Mapping[str, Any]], np.ndarray] | None = None  # episode -> bool [T], see Store


def as_recorded(gripper: np.ndarray) -> np.ndarray:
    """0 open, 1 closed."""
    return gripper


def from_open(gripper: np.ndarray) -> np.ndarray:
    """1 open, 0 closed."""
    return 1.0 - gripper


def from_signed(gripper: np.ndarray) -> np.ndarray:
    """-1 open, 1 closed."""
    return (gripper + 1.0) / 2


def from_changes(gripper: np.ndarray) -> np.ndarray:
    """1 begins to close, -1 to open, 0 goes on: the last command holds. Before the first one the
    gripper is what that command changes; without any it is open.
    """
    commands = np.flatnonzero(np.abs(gripper) > 0.5)
    if not len(commands):
        return np.zeros_like(gripper)
    closed = gripper[commands] > 0
    latest = np.searchsorted(commands, np.arange(len(gripper)), side="right") - 1
    return np.where(latest < 0, ~closed[0], closed[latest]).astype(gripper.dtype)


def successful_and_moving(episode: Mapping[str, Any]) -> np.ndarray:
    """DROID: no step of a failed episode, and none at which all joints are told to rest."""
    velocity = at(episode["steps"], "action_dict/joint_velocity")
    success = "success" in episode["episode_metadata"]["file_path"]
    return (np.abs(velocity) > IDLE).any(axis=1) & success


_EEF = (True,) * 6 + (False,)  # differences of the end effector's pose, gripper
_DROID = Adapter(
    cameras={
        "base": ("observation/exterior_image_1_left", "observation/exterior_image_2_left"),
        "wrist": ("observation/wrist_image_left",),
    },
    state=("observation/joint_position", "observation/gripper_position"),
    actions=("action_dict/joint_velocity", "action_dict/gripper_position"),
    gripper=as_recorded,
    still=(True,) * 7 + (False,),
    prompts=("language_instruction", "language_instruction_2", "language_instruction_3"),
    hz=15,
    weight=0.06,
    kept=successful_and_moving,
)
ADAPTERS: dict[str, Adapter] = {
    # BridgeData V2 (2308.12952) as its own site distributes it.
    "bridge": Adapter(
        cameras={"base": ("observation/image_0",)},
        state=("observation/state",),
        actions=("action",),
        gripper=from_open,
        still=_EEF,
        prompts=("language_instruction",),
        hz=5,
        weight=1.0,
    ),
    # DROID (2403.12945): joint velocities, or joint targets, which a last action may repeat.
    "droid": _DROID,
    "droid_position": _DROID._replace(
        actions=("action_dict/joint_position", "action_dict/gripper_position"),
        still=(False,) * 8,
    ),
    # LIBERO (2306.03310) in the RLDS form that finetuning of OpenVLA uses.
    "libero": Adapter(
        cameras={"base": ("observation/image",), "wrist": ("observation/wrist_image",)},
        state=("observation/state",),
        actions=("action",),
        gripper=from_signed,
        still=_EEF,
        prompts=("language_instruction",),
        hz=10,
        weight=1.0,
    ),
    # RT-1's robots (2212.06817), fractal20220817_data.
    "fractal": Adapter(
        cameras={"base": ("observation/image",)},
        state=("observation/base_pose_tool_reached", "observation/gripper_closed"),
        actions=(
            "action/world_vector",
            "action/rotation_delta",
            "action/gripper_closedness_action",
        ),
        gripper=from_changes,
        still=_EEF,
        prompts=("observation/natural_language_instruction",),
        hz=3,
        weight=0.54087122203,
    ),
}


class Store:
    """The episodes of an RLDS folder as `rlx.data.chunks` wants them.

    All steps of an episode count, its last one too, as in the published trainings. On first use one
    pass over the data counts steps and asks `adapter.kept` where chunks may begin; the answer is
    kept beside the data.
    """

    def __init__(self, folder: str | Path, name: str, split: str = "train"):
        """Raises ValueError for an unknown adapter, otherwise as `rlx.data.rlds.Split`."""
        if name not in ADAPTERS:
            close = ", ".join(nearest(name, ADAPTERS))
            raise ValueError(f"unknown robot data set '{name}'; nearest: {close}")
        self.adapter, self._split = ADAPTERS[name], rlds.Split(folder, split)
        found = self._split.cached(name, self._scan)
        self.lengths = found["lengths"]
        ends = np.cumsum(self.lengths)[:-1]
        self.kept = np.split(found["kept"], ends) if self.adapter.kept else None

    def __getitem__(self, number: int) -> Episode:
        steps = self._split[number]["steps"]
        actions = _side_by_side(steps, self.adapter.actions)
        actions[:, -1] = self.adapter.gripper(actions[:, -1])
        return Episode(
            state=_side_by_side(steps, self.adapter.state),
            actions=actions,
            prompts=[at(steps, path) for path in self.adapter.prompts],
            images={
                camera: _OneOf([at(steps, path) for path in paths], number)
                for camera, paths in self.adapter.cameras.items()
            },
        )

    def _scan(self) -> dict[str, np.ndarray]:
        lengths, kept = [], []
        for number in range(len(self._split)):
            episode = self._split[number]
            lengths.append(len(at(episode["steps"], self.adapter.actions[0])))
            if self.adapter.kept:
                kept.append(self.adapter.kept(episode))
        return {
            "lengths": np.array(lengths, np.int64),
            "kept": np.concatenate([np.zeros(0, bool), *kept]),
        }


def chunks(
    folder: str | Path,
    name: str,
    horizon: int | None = None,
    split: str = "train",
    image_size: tuple[int, int] | None = (224, 224),
) -> ChunkSource:
    """Return the chunks of an RLDS folder, read by the adapter `name`: of one second, or of
    `horizon` steps.
    """
    store = Store(folder, name, split)
    horizon = store.adapter.hz if horizon is None else horizon
    return ChunkSource(store, horizon, zero_pad=store.adapter.still, image_size=image_size)


class _OneOf(Sequence[np.ndarray]):
    """Images of several cameras of which each step shows one."""

    def __init__(self, cameras: Sequence[Sequence[np.ndarray]], episode: int):
        self._cameras, self._episode = cameras, episode

    def __len__(self) -> int:
        return len(self._cameras[0])

    def __getitem__(self, step: Any) -> np.ndarray:
        return self._cameras[choice(self._episode, step, len(self._cameras))][step]


def at(tree: Mapping[str, Any], path: str) -> Any:
    """Return the leaf of a nested dict; ValueError, with what there is, if it has none."""
    node: Any = tree
    for part in path.split("/"):
        if not isinstance(node, Mapping) or part not in node:
            found = ", ".join(node) if isinstance(node, Mapping) else "no more levels"
            raise ValueError(f"steps have no {path}: at '{part}' there is {found}")
        node = node[part]
    return node


def _side_by_side(steps: Mapping[str, Any], paths: Sequence[str]) -> np.ndarray:
    """The leaves `paths` as columns: f32 [T, D]."""
    columns = [np.asarray(at(steps, path), np.float32) for path in paths]
    return np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)
