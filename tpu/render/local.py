"""This machine: one job after another, each as one or several processes. See tpu/local.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tpu.errors import LaunchError
from tpu.plan import Job, Options

KINDS = ("cpu", "gpu", "tpu")
SPOT = False
BUCKET = False
TOOL = ""
NEEDS: dict[str, str] = {}
QUEUES = False
FILE = "jobs.json"


def check(options: Options) -> None:
    """Refuse to split what cannot be: several processes share a CPU, no other accelerator."""
    if options.slices > 1:
        raise LaunchError(f"--slices={options.slices}: backend local is one machine")
    if options.accelerator.kind == "cpu":
        return
    if options.processes > 1 or options.devices_per_process > 1:
        raise LaunchError(
            "--processes and --devices_per_process split a CPU; "
            f"leave them out with --accelerator={options.accelerator.name}"
        )


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return the list of jobs as `python -m tpu.local` reads it."""
    tree = {
        "processes": options.processes,
        "devices_per_process": options.devices_per_process,
        "jobs": [
            {"name": job.name, "argv": list(job.argv), "env": job.env, "workdir": job.workdir}
            for job in jobs
        ],
    }
    return {FILE: json.dumps(tree, indent=2) + "\n"}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return the one command that runs all jobs."""
    del jobs, options
    return [["python", "-m", "tpu.local", str(folder / FILE)]]
