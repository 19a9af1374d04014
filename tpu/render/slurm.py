"""Slurm: one array job, an element per job, one task per node.

Slurm sends SIGTERM to the batch shell, which passes it on; a job that then exits with 42, or that
a signal or a lost process ended (127 and more), is put back in the queue. The nodes see one file
system, which holds the workdirs, and are the job's alone: a task has all cores of its node. TPU
nodes are those of a partition: Slurm has no name for their chips.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tpu.plan import Job, Options

KINDS = ("cpu", "gpu", "tpu")
SPOT = False
BUCKET = False
TOOL = "sbatch"
NEEDS: dict[str, str] = {}
QUEUES = True

SCRIPT = r"""
case "$SLURM_ARRAY_TASK_ID" in
{cases}
esac

export {environment}
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RLX_COORDINATOR="$host:$((20000 + SLURM_JOB_ID % 20000))"
srun --kill-on-bad-exit=1 bash -c '
  export RLX_NUM_PROCESSES=$SLURM_NTASKS RLX_PROCESS_ID=$SLURM_PROCID
  exec "$@"' worker "${{command[@]}}" &
step=$!
trap 'kill -TERM "$step"' TERM INT

# A trapped signal ends `wait` before the step has saved: wait until it is gone.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done

if [ "$code" -eq 42 ] || [ "$code" -ge 127 ]; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_restarts} ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$code"
"""


def check(options: Options) -> None:
    """Slurm runs whatever KINDS names."""
    del options


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return one batch file for all jobs."""
    directives = {
        "job-name": options.name,
        "array": f"0-{len(jobs) - 1}",
        "nodes": jobs[0].processes,
        "ntasks-per-node": 1,
        "output": f"{options.workdir}/%x-%A_%a.log",
        "open-mode": "append",
        "signal": "B:TERM@120",
    }
    if options.accelerator.kind == "gpu":
        gpu = options.accelerator.name.partition(":")[0].lower()
        directives["gres"] = f"gpu:{gpu}:{options.accelerator.chips}"
    if options.partition:
        directives["partition"] = options.partition
    head = [
        "#!/bin/bash",
        "# Slurm makes no folder for the logs. Before an sbatch by hand:",
        f"#   mkdir -p {shlex.quote(options.workdir)}",
        *(f"#SBATCH --{key}={value}" for key, value in directives.items()),
        "#SBATCH --exclusive",  # without it a task gets one core
        "#SBATCH --requeue",
    ]
    cases = "\n".join(
        f"  {index}) # {job.name}\n    command=({shlex.join(job.argv)}) ;;"
        for index, job in enumerate(jobs)
    )
    environment = shlex.join(f"{name}={value}" for name, value in jobs[0].env.items())
    script = SCRIPT.format(cases=cases, environment=environment, max_restarts=options.max_restarts)
    return {f"{options.name}.sbatch": "\n".join(head) + "\n" + script}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return the one command that queues the array."""
    del jobs
    return [["sbatch", str(folder / f"{options.name}.sbatch")]]
