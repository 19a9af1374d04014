"""wandb, as a guest: offline unless told otherwise, never asks for a login, never stops a run.

A pack is one wandb run whose keys carry the run id (`s0_lr1/train/return`): one start-up for all.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlx.infra.errors import ConfigError
from rlx.infra.files import write_text

MODES = ("off", "offline", "online")


class Tracker:
    """One wandb run, or what is left of it: after the first failure every call does nothing."""

    def __init__(self, make: Callable[[], Any]):
        """Start the run that `make` returns."""
        self._run: Any = None
        self._run = self._guard(make)

    def log(self, row: Mapping[str, Any], prefix: str = "") -> None:
        """Send the numbers of one row; keys get `prefix`, so that runs of a pack keep apart."""
        numbers = {
            prefix + key: value
            for key, value in row.items()
            if isinstance(value, (int, float)) and key not in ("step", "seed")
        }
        if self._run:
            self._guard(lambda: self._run.log(numbers, step=row["step"]))

    def close(self) -> None:
        """Finish the run."""
        if self._run:
            self._guard(lambda: self._run.finish())
            self._run = None

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # whatever a tracker throws, training goes on
            print(f"warning: wandb is off for this run: {error}", file=sys.stderr)
            self._run = None
            return None


def check_mode(mode: str) -> None:
    """Raise ConfigError unless `mode` is one of MODES."""
    if mode not in MODES:
        raise ConfigError(f"log.wandb is one of {', '.join(MODES)}, got '{mode}'")


def start_wandb(
    mode: str, workdir: str | Path, config: Mapping[str, Any], project: str = "rlx"
) -> Tracker | None:
    """Start or continue the wandb run of `workdir`.

    Args:
      mode: "off", "offline" or "online"; online without stored credentials becomes offline, with a
        warning.
      workdir: holds the run id in `wandb_id` and the data in `wandb/`.
      config: {field: value}, shown by wandb.
      project: the wandb project.

    Returns:
      The tracker, or None if mode is "off".
    """
    check_mode(mode)
    if mode == "off":
        return None
    return Tracker(lambda: _init(mode, Path(workdir), dict(config), project))


def run_id(workdir: Path) -> str:
    """Return the wandb id of this workdir, kept in the file `wandb_id`."""
    file = workdir / "wandb_id"
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:8] + "\n")
    return file.read_text(encoding="utf-8").strip()


def _init(mode: Any, workdir: Path, config: dict[str, Any], project: str) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if mode == "online" and not _has_credentials(wandb):
        print(
            "warning: no wandb credentials, logging offline; `wandb sync` sends it later",
            file=sys.stderr,
        )
        mode = "offline"
    settings = wandb.Settings(
        silent=True,
        console="off",  # no capture of stdout
        save_code=False,
        disable_git=True,
        disable_job_creation=True,
        x_disable_stats=True,
        init_timeout=30,
    )
    return wandb.init(
        project=project,
        dir=str(workdir),
        id=run_id(workdir),
        name=workdir.name,
        mode=mode,
        resume="allow",
        config=config,
        settings=settings,
    )


def _has_credentials(wandb: Any) -> bool:
    return bool(wandb.login(prompt=False, verify=False))
