"""Run jobs on this machine: `python -m tpu.local jobs.json`, as `tpu.launch --submit` does.

One job after another, each as N processes that find each other at RLX_COORDINATOR. Process i of a
job writes to `<workdir>.<i>.log`, beside the workdir and not in it. SIGTERM and Ctrl-C go to every
worker, which saves; the exit code is then 42, and the same command goes on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpu.errors import EXIT_FAILED, EXIT_OK, EXIT_PREEMPTED, EXIT_USAGE, LaunchError

POLL_SECONDS = 0.05
FIRST_LOST = 127  # codes from here on: a signal or a lost process, as 134
GRACE_SECONDS = {EXIT_PREEMPTED: 120.0}  # what the other workers get once one has ended so
GRACE_AFTER_FAILURE = 30.0  # they may wait for the dead one: a save is not certain


class Workers:
    """The processes of one job. A stop reaches each exactly once: a second one would cut a save."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen] = []
        self.stop = 0  # the signal that this process got
        self._told: set[int] = set()

    def on_signal(self, number: int, frame: object) -> None:
        """Remember the first signal and pass it on."""
        del frame
        self.stop = self.stop or number
        self.tell(self.stop)

    def tell(self, number: int) -> None:
        """Send `number` to every worker that runs and has not been told yet."""
        for process in self.alive():
            if process.pid not in self._told:
                self._told.add(process.pid)
                process.send_signal(number)

    def alive(self) -> list[subprocess.Popen]:
        return [process for process in self.processes if process.poll() is None]


def run(tree: Mapping[str, Any]) -> int:
    """Run every job of a `jobs.json`; return 0, 2 after a usage error, 1 after other failures, or
    42 if only a relaunch is missing.
    """
    jobs, codes = tree["jobs"], []
    workers = Workers()
    with _handled(workers):
        for number, job in enumerate(jobs, start=1):
            where, start = f"job {number} of {len(jobs)}: {job['name']}", time.monotonic()
            print(f"{where}: started, log {_log(job, 0)}", flush=True)
            code = _run_job(job, tree, workers)
            print(f"{where}: {_ended(code)} after {time.monotonic() - start:.0f} s", flush=True)
            if code == EXIT_PREEMPTED or (workers.stop and number < len(jobs)):
                print("stopped: the same command goes on from there", file=sys.stderr)
                return EXIT_PREEMPTED
            codes.append(code)
    lost = sum(map(_stopped, codes))
    failed = sum(map(bool, codes)) - lost
    if failed:
        print(f"{failed} of {len(jobs)} jobs failed", file=sys.stderr)
    if lost:
        print(
            f"{lost} of {len(jobs)} jobs lost a process: the same command goes on from there",
            file=sys.stderr,
        )
    if failed:
        return EXIT_USAGE if EXIT_USAGE in codes else EXIT_FAILED
    return EXIT_PREEMPTED if lost else EXIT_OK


def environment(job: Mapping[str, Any], tree: Mapping[str, Any], index: int, port: int) -> dict:
    """Return the environment of worker `index` of a job."""
    env = dict(os.environ) | job["env"]
    if tree["devices_per_process"]:
        devices = f"--xla_force_host_platform_device_count={tree['devices_per_process']}"
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {devices}".strip()
    return env | {
        "RLX_COORDINATOR": f"127.0.0.1:{port}",
        "RLX_NUM_PROCESSES": str(tree["processes"]),
        "RLX_PROCESS_ID": str(index),
    }


def _run_job(job: Mapping[str, Any], tree: Mapping[str, Any], workers: Workers) -> int:
    """Start the workers of a job and wait for all of them; return the code of the job."""
    port = _free_port()
    argv = [sys.executable if word == "python" else word for word in job["argv"]]
    workers.processes = []
    logs = [_log(job, index) for index in range(tree["processes"])]
    for index, log in enumerate(logs):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                argv,
                env=environment(job, tree, index, port),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes from here, once
            )
        workers.processes.append(process)
    code, deadline = EXIT_OK, 0.0
    while alive := workers.alive():
        if workers.stop:  # also those that were being started when it came
            workers.tell(workers.stop)
        ended = [p.returncode for p in workers.processes if p.returncode]
        if ended and not deadline:
            code = next((c for c in ended if not _stopped(c)), ended[0])  # the cause, not a victim
            grace = GRACE_SECONDS.get(code, GRACE_AFTER_FAILURE)
            deadline = time.monotonic() + grace
            workers.tell(signal.SIGTERM)
        if deadline and time.monotonic() > deadline:
            for process in alive:
                process.kill()
        time.sleep(POLL_SECONDS)
    codes = [process.returncode for process in workers.processes]
    code = code or next(filter(None, codes), EXIT_OK)
    if code and workers.stop:
        return EXIT_PREEMPTED
    if code not in (EXIT_OK, EXIT_PREEMPTED):
        index = codes.index(code)
        print(f"{logs[index]}: {_last_line(logs[index])}", file=sys.stderr)
    return code


@contextmanager
def _handled(workers: Workers) -> Iterator[None]:
    """Let SIGTERM and SIGINT go to the workers."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, workers.on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stopped(code: int) -> bool:
    """Say whether a relaunch may go on: saved and stopped, a peer lost, ended by a signal."""
    return code == EXIT_PREEMPTED or code < 0 or code >= FIRST_LOST


def _ended(code: int) -> str:
    words = {EXIT_OK: "done", EXIT_PREEMPTED: "stopped"}
    how = f"signal {-code}" if code < 0 else f"exit {code}"
    return words.get(code, f"{'stopped' if _stopped(code) else 'failed'} ({how})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _log(job: Mapping[str, Any], index: int) -> Path:
    return Path(f"{job['workdir']}.{index}.log")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"


def main(argv: Sequence[str]) -> int:
    """Run the file named on the command line."""
    if len(argv) != 1 or not Path(argv[0]).is_file():
        raise LaunchError(f"usage: python -m tpu.local jobs.json, got '{' '.join(argv)}'")
    return run(json.loads(Path(argv[0]).read_text(encoding="utf-8")))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
