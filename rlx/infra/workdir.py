"""The run directory: who may use it, and the record of how its run was started.

`config.json` = {"schema", "config_sha", "config", "sweep", "launches": [{started, argv, git_commit,
git_dirty, packages, devices}, ...]}: one launch per start or resume, oldest first.
"""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rlx.infra.config import SPEED_ONLY, diff, sha, to_json
from rlx.infra.errors import WorkdirError
from rlx.infra.files import write_json

SCHEMA = 1
# Everything that rlx writes in a workdir; `--overwrite` deletes these names and nothing else.
FILES = ("metrics.jsonl", "metrics.csv", "runs.csv", "result.json", "wandb_id", "config.json")
FOLDERS = ("checkpoints", "checkpoints_damaged", "wandb", "profile")
RUNS = "runs"  # a pack's runs/<id>/, each with names of FILES and FOLDERS only

_PACKAGES = (
    "rlx",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "chex",
    "orbax-checkpoint",
    "numpy",
    "ml_collections",
)
_PACKAGES += ("brax", "mujoco", "mujoco-mjx", "playground")


def claim_workdir(
    workdir: str | Path,
    config: ConfigDict,
    *,
    sweep: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    ignore: Iterable[str] = SPEED_ONLY,
    devices: Sequence[str] = (),
) -> bool:
    """Take `workdir` for a run of `config` and write `config.json`.

    Call it before step 0, on process 0 only (tell the others what it returned).

    Args:
      workdir: a local folder, made if it is not there.
      config: the resolved config.
      sweep: {what: values} in which the runs of a pack differ, `{"seed": (0, 1, 2)}`; it must
        be the same on a resume.
      overwrite: delete what an earlier run of rlx wrote there, and start again.
      retry_failed: go on with a run whose `result.json` says "failed".
      ignore: patterns of fields that may differ between the start and a resume.
      devices: the devices of this launch, for the record.

    Returns:
      True if an earlier launch of the same config used this workdir: resume.
    """
    folder = _local(workdir)
    record = _record(folder)
    if record is None:
        _refuse_foreign(folder)
    elif overwrite:
        _delete_run(folder)
        record = None
    else:
        _refuse_other_config(folder, record, config, sweep or {}, tuple(ignore))
        _refuse_failed(folder, retry_failed)
    launches = [*(record["launches"] if record else []), _launch(devices)]
    entry = {
        "schema": SCHEMA,
        "config_sha": sha(config, ignore),
        "config": to_json(config),
        "sweep": sweep or {},
        "launches": launches,
    }
    write_json(folder / "config.json", entry)
    return record is not None


def _local(workdir: str | Path) -> Path:
    if "://" in str(workdir):
        raise WorkdirError(
            f"workdir '{workdir}' is no local path: mount the bucket and pass the mount point"
        )
    folder = Path(workdir)
    if folder.exists() and not folder.is_dir():
        raise WorkdirError(f"workdir '{folder}' is a file: pass a folder")
    return folder


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the `config.json` that rlx wrote in `folder`, or None."""
    try:
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return (
        record
        if isinstance(record, dict) and {"schema", "config", "sweep", "launches"} <= record.keys()
        else None
    )


def _refuse_foreign(folder: Path) -> None:
    taken = [name for name in (*FILES, *FOLDERS, RUNS) if (folder / name).exists()]
    if taken:
        raise WorkdirError(
            f"workdir '{folder}' holds {', '.join(taken)} but no config.json of rlx: "
            "pass another --workdir, or move them away (--overwrite deletes only what rlx wrote)"
        )


def _refuse_other_config(
    folder: Path,
    record: dict[str, Any],
    config: ConfigDict,
    sweep: Mapping[str, Any],
    ignore: tuple[str, ...],
) -> None:
    there = record["config"] | {"pack": record["sweep"]}
    lines = diff(there, to_json(config) | {"pack": sweep}, ignore)
    if lines:
        raise WorkdirError(
            f"workdir '{folder}' belongs to another config (there -> here):\n  "
            + "\n  ".join(lines)
            + "\npass another --workdir, or --overwrite to delete that run and start again"
        )


def _refuse_failed(folder: Path, retry_failed: bool) -> None:
    result = folder / "result.json"
    if not result.exists():
        return
    outcome = json.loads(result.read_text(encoding="utf-8"))
    if outcome.get("status") != "failed":
        return
    if not retry_failed:
        raise WorkdirError(
            f"the run in '{folder}' failed before: {outcome.get('message', 'no message')}; "
            "pass --retry_failed to go on from its last checkpoint, "
            "or --overwrite to delete it and start again"
        )
    result.unlink()


def _delete_run(folder: Path) -> None:
    """Delete the known names, `config.json` last: a killed deletion can be repeated."""
    runs = folder / RUNS
    if runs.is_dir() and not runs.is_symlink():
        for run in [child for child in runs.iterdir() if child.is_dir() and not child.is_symlink()]:
            _delete_run(run)
            _remove_if_empty(run)
        _remove_if_empty(runs)
    for name in (*FOLDERS, *FILES):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _launch(devices: Sequence[str]) -> dict[str, Any]:
    commit, dirty = git_commit()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": commit,
        "git_dirty": dirty,
        "python": sys.version.split()[0],
        "packages": package_versions(),
        "devices": [str(device) for device in devices],
    }


def git_commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds rlx, and if files differ; else (None, None)."""
    house = Path(__file__).resolve().parents[2]

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(house), *args], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != house:
            return None, None
        return git("rev-parse", "--verify", "HEAD"), bool(
            git("status", "--porcelain", "--untracked-files=no")
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None


def package_versions() -> dict[str, str]:
    """Return the versions of the packages we build on, without importing them."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
