"""Checkpoints that hold everything a run is: device state, host facts, configuration. The only
orbax user.

A step is written beside its place and renamed, so a torn write is never picked; a damaged last step
falls back to the one before, with a warning.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from rlx.infra import distributed
from rlx.infra.errors import ConfigError
from rlx.infra.restore import check_shapes, read
from rlx.infra.trees import as_dict, from_dict, shapes_of
from rlx.types import PyTree

FOLDER = "checkpoints"
DAMAGED = "checkpoints_damaged"
POLICY = ("params", "target_params", "obs_stats", "frozen")  # what a learner state has of these


def policy_of(learner: PyTree) -> dict[str, PyTree]:
    """Return what the export holds of a learner state: what it takes to act."""
    return {name: getattr(learner, name) for name in POLICY if hasattr(learner, name)}


class Checkpoints:
    """The checkpoints of one workdir: `state` (all of it), `host` (JSON), `params` (the policy)."""

    def __init__(
        self,
        workdir: str | Path,
        keep: int = 2,
        keep_every: int | None = None,
        create: bool = True,
        assets: dict[str, Any] | None = None,
    ):
        """Open `workdir/checkpoints`, keeping the last `keep` steps (and every `keep_every`-th for
        good); `assets`: JSON that goes into each of them, see `read_assets`.
        """
        import orbax.checkpoint as ocp

        self._ocp, self._assets = ocp, assets
        self.folder = Path(workdir).absolute() / FOLDER
        if create and distributed.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
        distributed.barrier(f"open {self.folder}")
        # All processes by name: its barriers then go through JAX's service, not through devices,
        # where those of a save under way would meet the collectives of the next chunk.
        everyone = (
            set(range(distributed.process_count())) if distributed.process_count() > 1 else None
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_every,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=everyone),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: PyTree, host: dict[str, Any], params: PyTree) -> None:
        """Write step `step` (vector steps); does nothing if that step is already there.

        On a CPU it waits for the write: the state is donated to the next chunk, and host arrays
        alias it.
        """
        if distributed.broadcast(step in self._manager.all_steps(), f"save step {step}"):
            return
        save, as_json = self._ocp.args.StandardSave, self._ocp.args.JsonSave
        items = {
            "state": save(as_dict(state)),
            "params": save(params),
            "host": as_json({**host, "shapes": shapes_of(state)}),
        }
        if self._assets is not None:
            items["assets"] = as_json(self._assets)
        self._manager.save(step, args=self._ocp.args.Composite(**items))
        if jax.default_backend() == "cpu":
            self._manager.wait_until_finished()

    def restore(self, *templates: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Return (state, host) of the newest step that is whole, None when there is no step.

        `templates`: ShapeDtypeStructs with shardings; the first that has the leaves of the
        checkpoint is used. A checkpoint of other shapes raises ConfigError. A step counts as whole
        if every process could read its part.
        """
        steps = distributed.broadcast(sorted(self._manager.all_steps(), reverse=True), "steps")
        for step in steps:
            host = read(self.folder / str(step) / "host", self._ocp.JsonCheckpointHandler())
            if host is None:
                continue
            saved = host.pop("shapes")
            fitting = [t for t in templates if shapes_of(t).keys() == saved.keys()]
            template = fitting[0] if fitting else templates[0]
            check_shapes(self.folder, saved, template)
            handler, path = self._ocp.StandardCheckpointHandler(), self.folder / str(step) / "state"
            state = read(path, handler, item=as_dict(template))
            if state is not None:
                return from_dict(state, template), host
        if steps:
            raise ConfigError(
                f"no checkpoint in {self.folder} is whole: pass another --workdir, "
                "or --overwrite to start again"
            )
        return None

    def latest(self) -> Path | None:
        """Return the folder of the newest step, None when there is none."""
        step = self._manager.latest_step()
        return None if step is None else self.folder / str(step)

    def set_aside(self, step: int) -> None:
        """Move steps newer than `step`, which `restore` could not read, out of the way."""
        later = [s for s in self._manager.all_steps() if s > step]
        for newer in later if distributed.is_main() else ():
            target = self.folder.parent / DAMAGED / str(newer)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.folder / str(newer), target)
        distributed.barrier("set aside")
        self._manager.reload()

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def read_params(workdir: str | Path) -> PyTree:
    """Return the policy export of the newest checkpoint of `workdir`: nested dicts of NumPy arrays.

    It says so for every leaf, because orbax would else want the devices that wrote them.
    """
    return read_tree(newest(workdir) / "params")


def read_tree(path: str | Path) -> PyTree:
    """Return a tree that orbax wrote at `path`, rlx or another: nested dicts of NumPy arrays."""
    import orbax.checkpoint as ocp

    path, handler = cast(Any, (Path(path).absolute(), ocp.PyTreeCheckpointHandler()))
    tree = handler.metadata(path).tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return handler.restore(path, restore_args=as_numpy)


def read_assets(workdir: str | Path) -> dict[str, Any]:
    """Return the `assets` of the newest checkpoint of `workdir`."""
    import orbax.checkpoint as ocp

    path: Any = newest(workdir) / "assets"  # orbax types know only etils' own paths
    if not path.is_dir():
        raise ConfigError(f"the checkpoint {path.parent} has no assets: it is of another kind")
    return dict(ocp.JsonCheckpointHandler().restore(path))


def newest(workdir: str | Path) -> Path:
    """Return the folder of the newest checkpoint of `workdir`."""
    folder = Path(workdir).absolute() / FOLDER
    steps = sorted(int(child.name) for child in folder.glob("[0-9]*") if child.name.isdigit())
    if not steps:
        raise ConfigError(f"no checkpoint in {folder}")
    return folder / str(steps[-1])
