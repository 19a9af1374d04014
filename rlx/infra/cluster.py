"""Which processes make up this program, as the environment tells it.

By hand: RLX_COORDINATOR (host:port of process 0), RLX_NUM_PROCESSES and RLX_PROCESS_ID, all three.
By itself: a Slurm step of several tasks, or a TPU pod of several hosts. RLX_NUM_PROCESSES=1 alone
keeps a process of such a step or pod to itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import util
from pathlib import Path
from typing import NamedTuple

from rlx.infra.errors import EXIT_USAGE, ConfigError

VARIABLES = ("RLX_COORDINATOR", "RLX_NUM_PROCESSES", "RLX_PROCESS_ID")
TIMEOUT = 120.0  # seconds for all processes to find each other; RLX_COORDINATOR_TIMEOUT
PORT_SECONDS = 5.0  # an earlier launch may still be letting its port go
METADATA_SECONDS = 2.0  # of Google's server, which answers at once where there is one
TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")  # TPU v2 to v4, v5 and later


class Group(NamedTuple):
    """The processes of this program, from the RLX variables."""

    address: str  # host:port of the coordinator, which process 0 runs
    count: int
    index: int  # of this process


def from_variables(env: Mapping[str, str]) -> Group | None:
    """Return the group that the RLX variables describe, None without them or for one process.

    Raises ConfigError that names what is missing or has a value that cannot be.
    """
    given = [name for name in VARIABLES if env.get(name)]
    if not given or (given == ["RLX_NUM_PROCESSES"] and env["RLX_NUM_PROCESSES"] == "1"):
        return None
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        raise ConfigError(
            f"{', '.join(given)} given without {' and '.join(missing)}: several processes need "
            f"{', '.join(VARIABLES)}"
        )
    address = env["RLX_COORDINATOR"]
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"RLX_COORDINATOR is host:port, such as 10.0.0.1:8476, got '{address}'")
    count = _whole(env, "RLX_NUM_PROCESSES", 1)
    index = _whole(env, "RLX_PROCESS_ID", 0)
    if index >= count:
        raise ConfigError(
            f"RLX_PROCESS_ID is a whole number from 0 to {count - 1} "
            f"(RLX_NUM_PROCESSES = {count}), got {index}"
        )
    return Group(address, count, index) if count > 1 else None


def detected(env: Mapping[str, str]) -> str | None:
    """Return what kind of cluster runs several processes of this program, None for none.

    Only where JAX can find the others by itself; a single machine is never asked to wait.
    """
    if env.get("RLX_NUM_PROCESSES") == "1":
        return None
    if env.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in env:
        return "Slurm"
    if "tpu" in env.get("JAX_PLATFORMS", "tpu") and tpu_hosts(env) > 1:
        return "TPU pod"
    return None


def tpu_hosts(env: Mapping[str, str]) -> int:
    """Return how many hosts the TPU slices of this job have: GKE's variables, or Google's server.

    The server is asked only on a machine with a TPU and its library.
    """
    slices = int(env.get("MEGASCALE_NUM_SLICES") or 1)
    workers = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES")
    if workers or slices > 1:
        return max(slices, slices * len((workers or "").split(",")))
    if not util.find_spec("libtpu") or not any(Path(path).exists() for path in TPU_DEVICES):
        return 1
    server = env.get("GCE_METADATA_IP", "metadata.google.internal")
    return len(metadata(server, "worker-network-endpoints").split(","))


def metadata(server: str, key: str) -> str:
    """Return an attribute of this virtual machine, "" where it has none or nobody answers."""
    url = f"http://{server}/computeMetadata/v1/instance/attributes/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=METADATA_SECONDS) as answer:
            return answer.read().decode()
    except OSError:  # URLError and time-outs are OSErrors: no such server, hence no pod
        return ""


def timeout(env: Mapping[str, str]) -> float:
    """Return the seconds that all processes have to find each other."""
    text = env.get("RLX_COORDINATOR_TIMEOUT") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"RLX_COORDINATOR_TIMEOUT is a number of seconds > 0, got '{text}'")
    return seconds


def no_answer(address: str, seconds: float) -> str:
    """Return the error of a process that found no coordinator."""
    return (
        f"the coordinator at {address} did not answer within {seconds:g} s: "
        "is process 0 running there? (RLX_COORDINATOR, RLX_COORDINATOR_TIMEOUT)"
    )


def not_all(address: str, count: int, seconds: float) -> str:
    """Return the error of a group that did not come together."""
    return (
        f"not all {count} processes called the coordinator at {address} within {seconds:g} s: "
        "was one not started? (RLX_NUM_PROCESSES, RLX_COORDINATOR_TIMEOUT)"
    )


def wait_for(address: str, seconds: float) -> None:
    """Return once something listens at `address`; ConfigError after `seconds`."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return
        except OSError:  # not there yet, or its name is not known yet: pods start in any order
            time.sleep(min(0.2, left))
    raise ConfigError(no_answer(address, seconds))


def check_free(address: str) -> None:
    """Raise ConfigError unless this machine can listen on the port of `address`."""
    port = int(address.rpartition(":")[2])
    until = time.monotonic() + PORT_SECONDS
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                    raise ConfigError(
                        f"process 0 cannot be the coordinator at {address}: port {port} of this "
                        f"machine: {error.strerror}; choose another RLX_COORDINATOR"
                    ) from error
        time.sleep(0.2)


@contextlib.contextmanager
def limit(seconds: float, text: str) -> Iterator[None]:
    """End the process with `text` and EXIT_USAGE if the block takes longer than `seconds`.

    A thread does it: JAX's connect cannot be interrupted, and ends in an abort of its own.
    """

    def end() -> None:
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(EXIT_USAGE)

    timer = threading.Timer(max(0.0, seconds), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _whole(env: Mapping[str, str], name: str, low: int) -> int:
    if not env[name].isdigit() or int(env[name]) < low:
        raise ConfigError(f"{name} is a whole number >= {low}, got '{env[name]}'")
    return int(env[name])
