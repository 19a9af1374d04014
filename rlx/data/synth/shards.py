"""A data set as one file per episode, made side by side, joined when all are there.

A run that was stopped goes on with the episodes that are missing. Episode i has seed `seed + i`, so
the joined files are the same bytes whatever the number of processes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlx.data.synth.maze import Policy
from rlx.data.synth.ogbench import Generator
from rlx.envs.workers import Remote, ready
from rlx.infra.files import write_text

KEYS = ("observations", "actions", "terminals", "qpos", "qvel", "button_states")
VALIDATION = 10  # training episodes for each one of validation, which come after all of training
PACKAGES = ("ogbench", "mujoco")  # whose versions are written beside the data
POLL_S = 0.5  # how soon a request to stop is seen
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # instead of now: the same data is the same file


class Plan(NamedTuple):
    """All that decides what a data set holds; the packages' versions apart."""

    env: str
    type: str
    episodes: int  # for training
    rows: int  # per episode
    seed: int
    expert: str  # workdir of the policy, "" without

    @property
    def name(self) -> str:
        """The stem of its file, as OGBench calls it."""
        return f"{self.env}-{self.type}-v0"

    @property
    def total(self) -> int:
        """Episodes for training and validation."""
        return self.episodes + -(-self.episodes // VALIDATION)


class Shards:
    """The episodes of a plan below `out`, as far as they are made."""

    def __init__(self, plan: Plan, out: Path):
        """Look at what is there; nothing is written."""
        mark = hashlib.sha256(repr(plan).encode()).hexdigest()[:8]
        self._plan, self._out = plan, out
        self.folder = out / f".{plan.name}.{mark}"
        self.train = out / f"{plan.name}.npz"
        self._about = out / f"{plan.name}.json"

    def path(self, index: int) -> Path:
        """Return the file of episode `index`."""
        return self.folder / f"{index:06}.npz"

    def missing(self) -> list[int]:
        """Return the episodes that are still to be made."""
        return [i for i in range(self._plan.total) if not self.path(i).exists()]

    def make(
        self,
        workers: int,
        policy: tuple[Callable[[str], Policy], str] | None,
        stop: list[str],
        report: Callable[[int], None],
    ) -> bool:
        """Make what is missing in `workers` processes; return whether nothing is missing any more.

        Args:
          policy: a function and its argument: each process calls it for its own policy.
          stop: once it holds anything, episodes in progress are finished and no others begun.
          report: gets the number of episodes made so far in this call.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        todo = iter(missing := self.missing())
        made, count = 0, min(workers, len(missing))
        remotes: list[Remote] = []
        try:
            remotes += (Remote(_Writer, self._plan, self._out, policy) for _ in range(count))
            busy = set(remotes)
            while busy:
                for remote in ready(busy, POLL_S):
                    made += remote.receive() or 0
                    report(made)
                    index = None if stop else next(todo, None)
                    if index is None:
                        busy.remove(remote)
                    else:
                        remote.send("write", index)
        finally:
            for remote in remotes:
                remote.close()
        return made == len(missing)

    def finish(self) -> None:
        """Join the episodes into the files of training and validation; delete the parts."""
        parts = [self.path(i) for i in range(self._plan.total)]
        _join(parts[: self._plan.episodes], self.train)
        _join(parts[self._plan.episodes :], self.train.with_name(f"{self._plan.name}-val.npz"))
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        text = json.dumps(self._plan._asdict() | versions, indent=2) + "\n"
        write_text(self._about, text)  # last: it says that the files are whole
        shutil.rmtree(self.folder)

    def finished(self) -> bool:
        """Return whether the files are there already.

        Raises:
          ValueError: files of this name hold something else.
        """
        made = json.loads(self._about.read_text()) if self._about.exists() else {}
        if not self.train.exists() or (not made and self.folder.exists()):
            return False
        plan = self._plan._asdict()
        other = {key: made.get(key) for key in plan if made.get(key) != plan[key]}
        if other:
            raise ValueError(f"{self.train} holds other data, {other}: give another folder")
        return True


class _Writer:
    """Writes episodes, in a process of its own."""

    def __init__(self, plan: Plan, out: Path, policy: tuple[Callable[[str], Policy], str] | None):
        """Make the environment."""
        made = policy[0](policy[1]) if policy else None
        self._generator = Generator(plan.env, plan.type, plan.rows, made)
        self._shards, self._seed = Shards(plan, out), plan.seed

    def write(self, index: int) -> int:
        """Write one episode, whole or not at all; return how many were written."""
        path = self._shards.path(index)
        temporary = path.with_name(f".{path.name}")
        arrays: dict[str, Any] = self._generator.episode(self._seed + index)
        np.savez(temporary, **arrays)
        os.replace(temporary, path)
        return 1


def _join(parts: list[Path], path: Path) -> None:
    """Put episodes end to end, one array and one episode in memory at a time."""
    temporary = path.with_name(f".{path.name}")
    with zipfile.ZipFile(temporary, "w") as archive:
        with np.load(parts[0]) as episode:
            names = [name for name in KEYS if name in episode]
        for name in names:
            member = zipfile.ZipInfo(f"{name}.npy", ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                for i, part in enumerate(parts):
                    with np.load(part) as episode:
                        array = episode[name]
                    if i == 0:
                        shape = (len(array) * len(parts), *array.shape[1:])
                        header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(array.tobytes())
    os.replace(temporary, path)
