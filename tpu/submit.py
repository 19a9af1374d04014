"""Submit the written files, and note which jobs a cluster has been given.

A queued job has no workdir yet, so that nothing but the note in `submitted.json`, in the folder of
the written files, keeps a relaunch from queueing it twice.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tpu.errors import EXIT_FAILED, EXIT_OK, LaunchError
from tpu.plan import Job

FILE = "submitted.json"  # {workdir of a job: time}


def check_tool(tool: str) -> None:
    """Raise LaunchError unless the program that submits is there."""
    if tool and shutil.which(tool) is None:
        raise LaunchError(f"--submit needs the tool {tool}, which is not on the PATH")


def read(folder: Path) -> dict[str, str]:
    """Return {workdir: time} of the jobs submitted from `folder` before."""
    file = folder / FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LaunchError(f"{file} cannot be read: {error}") from error


def run(commands: Sequence[Sequence[str]], jobs: Sequence[Job], folder: Path | None) -> int:
    """Run every command, also after one that failed; note the jobs in `folder`, if there is one.

    Returns 1 if any failed, and names them at the end.
    """
    failures = []
    for number, (argv, owners) in enumerate(_owned(commands, jobs), start=1):
        print(f"submit {number} of {len(commands)}: {shlex.join(argv)}", flush=True)
        code = subprocess.run(argv, check=False).returncode
        if code:
            failures.append(f"error: {shlex.join(argv)} ended with exit code {code}")
        elif folder is not None:
            _note(folder, owners)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return EXIT_FAILED if failures else EXIT_OK


def _owned(
    commands: Sequence[Sequence[str]], jobs: Sequence[Job]
) -> list[tuple[Sequence[str], Sequence[Job]]]:
    """Pair every command with the jobs it submits: all, one, or none if it comes before them."""
    if len(commands) < len(jobs):
        [command] = commands
        return [(command, jobs)]
    first = len(commands) - len(jobs)
    owners = [*([] for _ in range(first)), *([job] for job in jobs)]
    return list(zip(commands, owners, strict=True))


def _note(folder: Path, jobs: Sequence[Job]) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    notes = read(folder) | {job.workdir: now for job in jobs}
    part = folder / f"{FILE}.part"
    part.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / FILE)
