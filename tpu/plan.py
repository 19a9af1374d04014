"""From sweep entries to jobs: fold what one program can vmap, give the rest names and commands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tpu import storage
from tpu.accelerators import CPU, Accelerator
from tpu.errors import LaunchError
from tpu.sweep import Override, Sweep, as_text

MAX_NAME = 28  # of a job; GKE adds up to 35 characters to it and allows 63
HASH_DIGITS = 6
NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
MAX_LAUNCH_NAME = MAX_NAME - HASH_DIGITS - 1
CONFIG_OPTIONS = ("algo", "env")  # what get_sweep(arg) is told: no flags of a worker
# Named, so that a job whose chips are not found fails instead of training on the host's CPU.
PLATFORMS = {"tpu": "tpu,cpu", "gpu": "cuda,cpu", "cpu": "cpu"}


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line of the launcher, checked."""

    name: str  # of the launch; job names begin with it
    experiment: str
    config: str
    backend: str
    workdir: str  # parent of the jobs' workdirs: a folder, or gs://bucket/path
    accelerator: Accelerator = CPU
    slices: int = 1
    spot: bool = False
    max_restarts: int = 50  # by the cluster, after a preemption
    extra: tuple[str, ...] = ()  # flags for every worker
    processes: int = 1  # local only
    devices_per_process: int = 0  # local on CPU only; 0: as many as rlx picks
    image: str = ""
    cluster: str = ""
    project: str = ""
    zone: str = ""
    queue: str = ""
    partition: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """One program on one set of hosts; every host runs `argv` with `env`."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str  # as the launcher sees it; `argv` has it as the workers do
    accelerator: Accelerator
    slices: int
    spot: bool
    max_restarts: int
    overrides: Override  # packed fields as tuples
    runs: int  # sweep entries in it

    @property
    def processes(self) -> int:
        """Hosts of all slices."""
        return self.accelerator.hosts * self.slices


def fold(entries: Sequence[Override], packed: Sequence[str]) -> list[Override]:
    """Merge entries that one program can run; each packed field of the result is a tuple.

    One field after the other: entries equal in all else, the other packed values included, become
    one. So every result is a full product of its packed values, and an irregular sweep ends in
    several. Packed values are sorted: the order of a sweep changes no name.
    """
    folded = [
        {field: (value,) if field in packed else value for field, value in entry.items()}
        for entry in entries
    ]
    for field in packed:
        groups: dict[tuple[str, ...], Override] = {}
        for entry in folded:
            rest = {name: value for name, value in entry.items() if name != field}
            key = (str(field in entry), *sorted(f"{k}={v!r}" for k, v in rest.items()))
            if key in groups and field in entry:
                groups[key][field] += entry[field]
            else:
                groups[key] = dict(entry)
        folded = list(groups.values())
    for entry in folded:
        entry.update({name: tuple(sorted(entry[name])) for name in packed if name in entry})
    return folded


def expand(sweep: Sweep, options: Options) -> list[Job]:
    """Return the jobs of a sweep; equal work has equal names and workdirs, launch by launch.

    Every job is listed, finished or not.
    """
    _check_extra(sweep, options)
    _check_processes(sweep, options)
    jobs, taken = [], set()
    for overrides in fold(sweep.entries, list(sweep.packed)):
        name = _job_name(options, overrides, sweep.packed, taken)
        taken.add(name)
        workdir = f"{options.workdir.rstrip('/')}/{name}"
        jobs.append(
            Job(
                name=name,
                argv=_command(overrides, sweep.packed, options, workdir),
                env={"JAX_PLATFORMS": PLATFORMS[options.accelerator.kind]},
                workdir=workdir,
                accelerator=options.accelerator,
                slices=options.slices,
                spot=options.spot,
                max_restarts=options.max_restarts,
                overrides=overrides,
                runs=_product(overrides, sweep.packed),
            )
        )
    return jobs


def _check_processes(sweep: Sweep, options: Options) -> None:
    """Refuse more hosts than a run can have, before any is paid for."""
    hosts = options.accelerator.hosts * options.slices
    processes, most = max(hosts, options.processes), sweep.max_processes
    if most is not None and processes > most:
        where = (
            f"{options.accelerator.name} x {options.slices} slices" if hosts > 1 else "the flags"
        )
        raise LaunchError(
            f"{options.config} trains in at most {most} process per run, {where} would start "
            f"{processes}: choose an accelerator of one host"
        )


def retry(job: Job) -> Job:
    """Return `job` with leave to go on after a failure."""
    return dataclasses.replace(job, argv=(*job.argv, "--retry_failed"))


def slug(text: str) -> str:
    """Return `text` in the letters of a job name."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def _job_name(
    options: Options, overrides: Override, packed: Mapping[str, str], taken: set[str]
) -> str:
    """Return the launch's name, the overrides in words, and a hash of all that the worker reads."""
    told = [
        f"{field.rpartition('.')[2]}-{f'{value:g}' if isinstance(value, float) else value}"
        for field, value in overrides.items()
        if field not in packed
    ]
    start = slug("-".join([options.name, *told]))[:MAX_LAUNCH_NAME].strip("-")
    path, colon, arg = options.config.partition(":")
    config = os.path.normpath(path) + (colon + arg if arg else "")
    # By flag only: of a flag that is given twice the last one counts.
    extra = sorted(options.extra, key=lambda word: word.partition("=")[0])
    work = [options.experiment, config, extra, overrides]
    text = json.dumps(work, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    # Six digits of many jobs may meet; the next ones of the same digest then part them.
    for begin in range(0, len(digest), HASH_DIGITS):
        name = f"{start}-{digest[begin : begin + HASH_DIGITS]}"
        if name not in taken:
            return name
    raise LaunchError(f"too many jobs begin with '{start}': give another --name")


def _command(
    overrides: Override, packed: Mapping[str, str], options: Options, workdir: str
) -> tuple[str, ...]:
    flags = [
        f"--{packed[field]}={as_text(values)}"
        for field, values in overrides.items()
        if field in packed
    ]
    flags += [
        f"--config.{field}={as_text(value)}"
        for field, value in overrides.items()
        if field not in packed
    ]
    return (
        "python",
        "-m",
        f"experiments.{options.experiment}",
        f"--config={options.config}",
        *flags,
        *options.extra,
        f"--workdir={storage.seen_by_workers(workdir)}",
    )


def _product(overrides: Mapping[str, Any], packed: Mapping[str, str]) -> int:
    runs = 1
    for field in packed:
        runs *= len(overrides.get(field, (None,)))
    return runs


def _check_extra(sweep: Sweep, options: Options) -> None:
    """Refuse flags after `--` that fight with what the launcher writes, or with the sweep."""
    swept = {field for entry in sweep.entries for field in entry}
    field_of = dict(sweep.flags) | {flag: field for field, flag in sweep.packed.items()}
    for word in options.extra:
        if not word.startswith("--") or "=" not in word:
            raise LaunchError(f"extra flag '{word}' after --: write it as --name=value")
        flag, _, value = word[2:].partition("=")
        if flag in ("config", "workdir", "retry_failed", "config.workdir"):
            raise LaunchError(f"extra flag '{word}' after --: the launcher sets --{flag} itself")
        if flag in CONFIG_OPTIONS:
            joint = "," if ":" in options.config else ":"
            raise LaunchError(
                f"extra flag '{word}' after --: the sweep depends on it, put it into "
                f"--config={options.config}{joint}{flag}={value}"
            )
        clash = swept & {flag.removeprefix("config."), field_of.get(flag)}
        if clash:
            raise LaunchError(f"extra flag '{word}' after --: the sweep sets {clash.pop()}")
