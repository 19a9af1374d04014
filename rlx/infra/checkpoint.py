"""Checkpoints that hold everything a run is: device state, host facts, configuration. The only
orbax user.

A step is written beside its place and renamed, so a torn write is never picked; a damaged last step
falls back to the one before, with a warning.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlx.infra.errors import ConfigError
from rlx.infra.trees import as_dict, from_dict, shapes_of
from rlx.types import PyTree

FOLDER = "checkpoints"
DAMAGED = "checkpoints_damaged"
POLICY = ("params", "target_params", "obs_stats")  # what the export holds of a learner state


class Checkpoints:
    """The checkpoints of one workdir: `state` (all of it), `host` (JSON), `params` (the policy)."""

    def __init__(
        self,
        workdir: str | Path,
        keep: int = 2,
        keep_every: int | None = None,
        create: bool = True,
    ):
        """Open `workdir/checkpoints`, keeping the last `keep` steps (and every `keep_every`-th for
        good).
        """
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.folder = Path(workdir).absolute() / FOLDER
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, create=create
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: PyTree, host: dict[str, Any], params: PyTree) -> None:
        """Write step `step` (vector steps); does nothing if that step is already there.

        On a CPU it waits for the write: the state is donated to the next chunk, and host arrays
        alias it.
        """
        if step in self._manager.all_steps():
            return
        save, as_json = self._ocp.args.StandardSave, self._ocp.args.JsonSave
        items = {
            "state": save(as_dict(state)),
            "params": save(params),
            "host": as_json({**host, "shapes": shapes_of(state)}),
        }
        self._manager.save(step, args=self._ocp.args.Composite(**items))
        if jax.default_backend() == "cpu":
            self._manager.wait_until_finished()

    def restore(self, *templates: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Return (state, host) of the newest step that is whole, None when there is no step.

        `templates`: ShapeDtypeStructs with shardings; the first that has the leaves of the
        checkpoint is used. A checkpoint of other shapes raises ConfigError.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                host = self._item(step, "host", self._ocp.args.JsonRestore())
            except Exception as error:  # what orbax raises for a damaged file
                self._warn(step, error)
                continue
            saved = host.pop("shapes")
            fitting = [t for t in templates if shapes_of(t).keys() == saved.keys()]
            template = fitting[0] if fitting else templates[0]
            self._check_shapes(saved, template)
            try:
                args = self._ocp.args.StandardRestore(as_dict(template))
                return from_dict(self._item(step, "state", args), template), host
            except Exception as error:  # what orbax raises for a damaged file
                self._warn(step, error)
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
        for newer in [s for s in self._manager.all_steps() if s > step]:
            target = self.folder.parent / DAMAGED / str(newer)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.folder / str(newer), target)
        self._manager.reload()

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _item(self, step: int, name: str, args: Any) -> Any:
        return self._manager.restore(step, args=self._ocp.args.Composite(**{name: args}))[name]

    def _warn(self, step: int, error: Exception) -> None:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"warning: checkpoint {self.folder / str(step)} is damaged ({text})", file=sys.stderr)

    def _check_shapes(self, saved: dict[str, str], template: PyTree) -> None:
        here = shapes_of(template)
        lines = [
            f"checkpoint has {key} {saved.get(key, '(absent)')}, "
            f"this config makes {here.get(key, '(absent)')}"
            for key in sorted({*saved, *here})
            if saved.get(key) != here.get(key)
        ]
        if lines:
            raise ConfigError(
                f"the checkpoint in {self.folder} does not fit this config: " + "; ".join(lines[:8])
            )


def read_params(workdir: str | Path) -> PyTree:
    """Return the policy export of the newest checkpoint of `workdir`: nested dicts of NumPy arrays.

    It says so for every leaf, because orbax would else want the devices that wrote them.
    """
    import orbax.checkpoint as ocp

    folder = Path(workdir).absolute() / FOLDER
    steps = sorted(int(child.name) for child in folder.glob("[0-9]*") if child.name.isdigit())
    if not steps:
        raise ConfigError(f"no checkpoint in {folder}")
    path, checkpointer = folder / str(steps[-1]) / "params", ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return checkpointer.restore(path, restore_args=as_numpy)
