"""xpk: one `xpk workload create` per job, after one `xpk storage attach` of the bucket.

xpk makes the JobSet itself, with the exit codes and the restarts of ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tpu import storage
from tpu.plan import Job, Options, slug
from tpu.render.jobset import GRACE_SECONDS

KINDS = ("tpu",)
SPOT = True
BUCKET = True
TOOL = "xpk"
NEEDS = {"image": "rlx:latest", "cluster": "rlx"}
QUEUES = True
FILE = "xpk.sh"
SCRIPT = r"""#!/usr/bin/env bash
set -uo pipefail
failed=()

{commands}

if [ "${{#failed[@]}}" -gt 0 ]; then
  echo "error: not submitted: ${{failed[*]}}" >&2
  exit 1
fi
"""


def check(options: Options) -> None:
    """The table of TPUs is xpk's own."""
    del options


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return the commands as a shell script, which tries every job and then says which failed."""
    lines = [shlex.join(attach(options)) + " || exit 1", ""]
    lines += [f"{shlex.join(create(job, options))} ||\n  failed+=({job.name})" for job in jobs]
    return {FILE: SCRIPT.format(commands="\n".join(lines))}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return the commands of the script one by one: the launcher notes each job."""
    del folder
    return [attach(options), *(create(job, options) for job in jobs)]


def attach(options: Options) -> list[str]:
    """Return the command that makes the bucket a storage of the cluster; it may be repeated."""
    return [
        *("xpk", "storage", "attach", storage_name(options), *_where(options)),
        "--type=gcsfuse",
        f"--bucket={storage.bucket_of(options.workdir)}",
        f"--mount-point={storage.MOUNT}",
        f"--mount-options={storage.MOUNT_OPTIONS}",
        "--size=1",  # asked for, and of no effect on a bucket
        "--readonly=false",
        "--auto-mount=false",
    ]


def create(job: Job, options: Options) -> list[str]:
    """Return the command that creates one workload."""
    return [
        *("xpk", "workload", "create", *_where(options)),
        f"--workload={job.name}",
        f"--tpu-type={job.accelerator.name}",
        f"--num-slices={job.slices}",
        f"--docker-image={options.image}",
        f"--storage={storage_name(options)}",
        f"--max-restarts={job.max_restarts}",
        f"--termination-grace-period-seconds={GRACE_SECONDS}",
        *(f"--env={name}={value}" for name, value in job.env.items()),
        *(["--spot"] if job.spot else []),
        f"--command=exec {shlex.join(job.argv)}",
    ]


def storage_name(options: Options) -> str:
    """Return the name of the bucket in the cluster."""
    return f"rlx-{slug(storage.bucket_of(options.workdir))}"


def _where(options: Options) -> list[str]:
    """Project and zone are those of gcloud where they are not given."""
    given = {"cluster": options.cluster, "project": options.project, "zone": options.zone}
    return [f"--{name}={value}" for name, value in given.items() if value]
