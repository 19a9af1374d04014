"""Turn one experiment, one config and its sweep into jobs for a machine or a cluster.

  python -m tpu.launch --experiment=scaling_laws --backend=local                what would run
  python -m tpu.launch --experiment=scaling_laws --backend=local --submit       run it here
  python -m tpu.launch --experiment=scaling_laws --backend=skypilot --accelerator=v5litepod-16 \\
      --spot --workdir=gs://bucket/sweep --submit
  ... --status                                                                  what became of it
  ... -- --steps=1000                                                           flags for every job

Without --submit it prints the plan and writes files, and runs nothing.
"""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # configs import jax: a launcher never takes a TPU host's chips

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tpu import accelerators, local, plan, render, status, storage, submit, sweep
from tpu.errors import EXIT_OK, EXIT_USAGE, LaunchError, unknown
from tpu.plan import Job, Options

FLAGS = {
    "experiment": "program in experiments/, by name",
    "config": "configs/x.py:options; default the experiment's own",
    "backend": ", ".join(render.BACKENDS),
    "accelerator": "TPU slice such as v5litepod-16, GPUs such as H100:8, or cpu",
    "slices": "slices (TPU) or nodes (GPU) of each job; default 1",
    "name": "of the launch, begins every job name; default the experiment's",
    "workdir": "parent of the jobs' workdirs: a folder, or gs://bucket/path",
    "out": "folder of the written files; default results/launch/NAME",
    "processes": "processes of each job, local only; default 1",
    "devices_per_process": "CPU devices of each process, local only; default as rlx picks",
    "max_restarts": "of each job after preemptions, on a cluster; default 50",
    "image": "container image with rlx (xpk, jobset)",
    "cluster": "name of the cluster (xpk)",
    "project": "Google Cloud project (xpk, queued_resources); default gcloud's",
    "zone": "Google Cloud zone (xpk, queued_resources, skypilot)",
    "queue": "Kueue queue (jobset)",
    "partition": "Slurm partition",
}
SWITCHES = {
    "spot": "machines that may be taken away",
    "submit": "run it",
    "status": "print what became of every job, and nothing else",
    "retry_failed": "go on with failed jobs too",
    "resubmit": "submit again what was submitted before and has not failed",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise LaunchError(message)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; everything after a bare `--` is for the workers."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = Parser(
        prog="python -m tpu.launch",
        usage="%(prog)s --flag=value ... [-- --worker_flag=value ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, about in FLAGS.items():
        number = name in ("slices", "processes", "devices_per_process", "max_restarts")
        parser.add_argument(f"--{name}", type=int if number else str, help=about)
    for name, about in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=about)
    given, rest = parser.parse_known_args(words[:cut])
    if rest:
        flag = rest[0].partition("=")[0]
        flags = [f"--{name}" for name in (*FLAGS, *SWITCHES)]
        raise LaunchError(unknown("flag", flag, flags, "python -m tpu.launch --help"))
    given.extra = tuple(words[cut + 1 :])
    return given


def options_of(given: argparse.Namespace) -> Options:
    """Check the command line and fill in its defaults."""
    for name in ("experiment", "backend"):
        if not getattr(given, name):
            raise LaunchError(f"--{name} is needed: {FLAGS[name]}")
    sweep.check_experiment(given.experiment)
    module = render.backend(given.backend)
    if given.backend != "local" and not given.accelerator:
        raise LaunchError(f"--accelerator is needed: {FLAGS['accelerator']}")
    counts = {"slices": 1, "processes": 1, "devices_per_process": 0, "max_restarts": 50}
    for name, default in counts.items():
        value = getattr(given, name)
        least = 0 if name == "max_restarts" else 1
        if value is not None and value < least:
            raise LaunchError(f"--{name} is an integer of {least} or more, got {value}")
        counts[name] = default if value is None else value
    for name in ("processes", "devices_per_process"):
        if getattr(given, name) is not None and given.backend != "local":
            raise LaunchError(
                f"--{name} is for backend local; {given.backend} starts one process per host"
            )
    name = given.name or plan.slug(given.experiment)[: plan.MAX_LAUNCH_NAME]
    if not plan.NAME.fullmatch(name) or len(name) > plan.MAX_LAUNCH_NAME:
        raise LaunchError(
            f"--name is a-z, 0-9 and inner dashes, begins with a letter, has at most "
            f"{plan.MAX_LAUNCH_NAME} characters; got '{name}'"
        )
    texts = {key: getattr(given, key) or module.NEEDS.get(key, "") for key in _texts()}
    options = Options(
        name=name,
        experiment=given.experiment,
        config=given.config or f"configs/{given.experiment}.py",
        backend=given.backend,
        workdir=_workdir(given, name, module.BUCKET),
        accelerator=accelerators.find(given.accelerator or "cpu"),
        spot=given.spot,
        extra=given.extra,
        **counts,
        **texts,
    )
    render.check(options)
    missing = [f"--{key}" for key in module.NEEDS if not getattr(given, key)]
    if missing and given.submit:
        raise LaunchError(f"--submit on {given.backend} needs {' and '.join(missing)} by hand")
    return options


def _texts() -> tuple[str, ...]:
    return ("image", "cluster", "project", "zone", "queue", "partition")


def _workdir(given: argparse.Namespace, name: str, bucket: bool) -> str:
    if not bucket:
        if given.workdir and "://" in given.workdir:
            raise LaunchError(
                f"--workdir={given.workdir}: backend {given.backend} writes local paths; "
                "mount the bucket and pass the mount point"
            )
        return given.workdir or f"results/sweeps/{name}"
    if not given.workdir:
        raise LaunchError(f"--workdir is needed by backend {given.backend}: gs://bucket/path")
    if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+(/[^/]+)*/?", given.workdir):
        raise LaunchError(
            f"--workdir of backend {given.backend} is gs://bucket/path, got '{given.workdir}'"
        )
    return given.workdir.rstrip("/")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = parse(sys.argv[1:] if argv is None else argv)
    options = options_of(given)
    module = render.backend(options.backend)
    jobs = plan.expand(sweep.load(options.experiment, options.config), options)
    asked = given.status or given.submit or not storage.is_bucket(options.workdir)
    states = status.states_of(jobs) if asked else {}
    if given.status:
        print(table(jobs, states))
        return EXIT_OK
    todo = [job for job in jobs if wanted(job, states, given.retry_failed)]
    todo = [plan.retry(job) if _failed(job, states) else job for job in todo]
    out = Path(given.out or f"results/launch/{options.name}")
    before = submit.read(out) if module.QUEUES and not given.resubmit else {}
    queued = [job for job in todo if job.workdir in before and not _failed(job, states)]
    todo = [job for job in todo if job not in queued]
    print(table(jobs, states))
    print(summary(jobs, todo, states))
    for job in queued:
        print(f"skipped: {job.name}, submitted {before[job.workdir]} (--resubmit does it again)")
    if not todo:
        return EXIT_OK
    if given.submit:
        submit.check_tool(module.TOOL)
        storage.check_writable(options.workdir)
    files = module.render(todo, options)
    _write(out, files)
    commands = module.commands(todo, options, out)
    if not given.submit:
        defaults = [
            f"--{key}={value}" for key, value in module.NEEDS.items() if not given.__dict__[key]
        ]
        if defaults:
            print(f"assumed: {' '.join(defaults)} (give them by hand with --submit)")
        print("--submit would run:", *(f"  {shlex.join(argv)}" for argv in commands), sep="\n")
        return EXIT_OK
    if options.backend == "local":
        return local.run(json.loads(files[module.FILE]))
    return submit.run(commands, todo, out if module.QUEUES else None)


def wanted(job: Job, states: Mapping[str, status.State], retry_failed: bool) -> bool:
    """Say whether a job is to be run: not if done, and if failed only when asked for."""
    state = states[job.name].name if job.name in states else status.NOT_STARTED
    return state != status.DONE and (state != status.FAILED or retry_failed)


def table(jobs: Sequence[Job], states: Mapping[str, status.State]) -> str:
    """Return one line per job: name, runs, where, overrides, state."""
    rows = [("job", "runs", "on", "overrides", "state")]
    for job in jobs:
        on = f"{job.slices} x {job.accelerator.name} ({job.processes} hosts)"
        overrides = " ".join(f"{k}={sweep.as_text(v)}" for k, v in job.overrides.items())
        rows.append((job.name, str(job.runs), on, overrides or "-", str(states.get(job.name, "?"))))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def summary(jobs: Sequence[Job], todo: Sequence[Job], states: Mapping[str, status.State]) -> str:
    """Return what of the plan is left, and why the rest is not."""
    count = {
        name: sum(state.name == name for state in states.values())
        for name in (status.DONE, status.FAILED)
    }
    text = f"{sum(job.runs for job in jobs)} runs in {len(jobs)} jobs; {len(todo)} to run"
    if count[status.DONE]:
        text += f", {count[status.DONE]} done"
    if count[status.FAILED]:
        text += f", {count[status.FAILED]} failed (--retry_failed goes on with those)"
    if not states:
        text += "; states of a bucket are read with --status and --submit"
    return text


def _failed(job: Job, states: Mapping[str, status.State]) -> bool:
    return job.name in states and states[job.name].name == status.FAILED


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"--out={folder} cannot be written: {error.strerror}") from error
    print(
        f"written: {len(files)} files in {folder}"
        if len(files) > 1
        else f"written: {folder / next(iter(files))}"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
