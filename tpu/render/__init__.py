"""One module per backend: what it can run, the files it writes, the commands that submit them.

A backend is a module with
  KINDS     the kinds of accelerator it can start
  SPOT      whether it has machines that may be taken away
  BUCKET    whether its workdirs are in a bucket, which it mounts
  TOOL      the program that submits, "" for none
  NEEDS     {option: default}: what it must know besides, and what a dry run writes meanwhile
  QUEUES    whether a command ends once its jobs are queued, and they live on without it
  check(options)                    refuses what only this backend cannot do
  render(jobs, options)             {file name: text}
  commands(jobs, options, folder)   argv lists that submit the files once they are in `folder`: one
                                    for all jobs, or one per job after what must come first
"""

from __future__ import annotations

from types import ModuleType

from tpu.errors import LaunchError, unknown
from tpu.plan import Options
from tpu.render import jobset, local, queued_resources, skypilot, slurm, xpk

BACKENDS: dict[str, ModuleType] = {
    "local": local,
    "slurm": slurm,
    "queued_resources": queued_resources,
    "xpk": xpk,
    "jobset": jobset,
    "skypilot": skypilot,
}


def backend(name: str) -> ModuleType:
    """Return the module of the backend called `name`."""
    if name not in BACKENDS:
        raise LaunchError(unknown("backend", name, BACKENDS, "python -m tpu.launch --help"))
    return BACKENDS[name]


def check(options: Options) -> None:
    """Refuse what the backend cannot run, before anything is written."""
    module, accelerator = backend(options.backend), options.accelerator
    if accelerator.kind not in module.KINDS:
        able = ", ".join(name for name, b in BACKENDS.items() if accelerator.kind in b.KINDS)
        raise LaunchError(
            f"accelerator '{accelerator.name}' ({accelerator.kind}) is not for backend "
            f"{options.backend}, which runs {' and '.join(module.KINDS)}; use {able}"
        )
    if options.spot and not module.SPOT:
        able = ", ".join(name for name, b in BACKENDS.items() if b.SPOT)
        raise LaunchError(f"--spot: backend {options.backend} has no spot machines; use {able}")
    module.check(options)
