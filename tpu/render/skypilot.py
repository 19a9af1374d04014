"""SkyPilot: one managed job per job. The bucket is mounted by `file_mounts`, spot is recovered."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu import storage
from tpu.errors import LaunchError
from tpu.plan import Job, Options
from tpu.render import yaml

KINDS = ("tpu", "gpu", "cpu")
SPOT = True
BUCKET = True
TOOL = "sky"
NEEDS: dict[str, str] = {}
QUEUES = True

# Saved and stopped; another process of the run lost; terminated. SkyPilot counts none of these
# restarts, so that codes which may stay (127: no such command) are not among them.
RESTARTABLE = (42, 134, 143)
KILLED = 137  # on several hosts also what SkyPilot gives the others of one that failed by a bug

# rlx needs Python 3.11 or later, which machine images need not have: uv brings one.
SETUP = """set -e
python3 -m pip install --quiet --user uv || python3 -m pip install --quiet uv
python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python -e '{package}'
"""
PACKAGE = {"tpu": ".[tpu]", "gpu": ".[cuda]", "cpu": "."}
# On TPUs JAX finds the other hosts by itself.
NODES = """export RLX_COORDINATOR="$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):8476"
export RLX_NUM_PROCESSES=$SKYPILOT_NUM_NODES RLX_PROCESS_ID=$SKYPILOT_NODE_RANK
"""


def check(options: Options) -> None:
    """Refuse what has no TPU VMs, and several slices: nothing would tell them of each other."""
    if options.accelerator.kind == "tpu" and not options.accelerator.runtime:
        raise LaunchError(
            f"accelerator '{options.accelerator.name}' has no TPU VMs, only GKE; "
            "use backend xpk or jobset"
        )
    if options.accelerator.kind == "tpu" and options.slices > 1:
        raise LaunchError(
            f"--slices={options.slices}: skypilot starts one TPU slice per job; use xpk or jobset"
        )


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return one task file per job."""
    return {f"{job.name}.yaml": yaml.dump(task(job, options)) for job in jobs}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return one `sky jobs launch` per job; none waits for its job."""
    del options
    return [
        ["sky", "jobs", "launch", "--yes", "--async", str(folder / f"{job.name}.yaml")]
        for job in jobs
    ]


def task(job: Job, options: Options) -> dict[str, Any]:
    """Return the task of one job."""
    kind, name = job.accelerator.kind, job.accelerator.name
    codes = RESTARTABLE if job.processes > 1 else (*RESTARTABLE, KILLED)
    wanted = {"tpu": f"tpu-{name}", "gpu": name if ":" in name else f"{name}:1", "cpu": ""}[kind]
    resources: dict[str, Any] = {"accelerators": wanted} if wanted else {"cpus": "8+"}
    if kind == "tpu":
        resources["accelerator_args"] = {"runtime_version": job.accelerator.runtime}
    if kind == "tpu" or options.zone:
        resources["infra"] = f"gcp/*/{options.zone}" if options.zone else "gcp"
    resources["use_spot"] = job.spot
    resources["job_recovery"] = {
        "strategy": "EAGER_NEXT_REGION",
        "max_restarts_on_errors": 0,  # a bug stays one
        "recover_on_exit_codes": sorted(codes),
    }
    several = NODES if kind != "tpu" and job.slices > 1 else ""
    return {
        "name": job.name,
        "num_nodes": job.slices,
        "workdir": ".",
        "resources": resources,
        "envs": job.env,
        "file_mounts": {
            storage.MOUNT: {
                "source": f"{storage.SCHEME}{storage.bucket_of(options.workdir)}",
                "mode": "MOUNT",
            }
        },
        "setup": SETUP.format(package=PACKAGE[kind]),
        "run": f"{several}. .venv/bin/activate\nexec {shlex.join(job.argv)}\n",
    }
