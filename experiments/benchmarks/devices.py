"""What several devices and several processes cost on one machine: the same SAC, updates per second.

Fake CPU devices share the cores, so more of them are slower: the price of a test, no target. This
file is also the program that is launched; it prints its figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

from experiments.benchmarks.measure import Line, Part

SIZES = {"64x64": ((64, 64), 128), "256x256": ((256, 256), 256)}
LAYOUTS = {"1 device": (1, 1), "8 devices": (1, 8), "2 processes x 4": (2, 4)}
TIMEOUT = 900  # seconds


def costs(quick: bool) -> Part:
    """Launch each size on each layout; the ratio is seconds per update over those of one device."""
    updates = 40 if quick else 160
    found: dict[str, Any] = {}
    lines = []
    for size in list(SIZES)[: 1 if quick else 2]:
        rates = {name: launch(size, *layout, updates) for name, layout in LAYOUTS.items()}
        found[size] = {"updates_per_s": rates}
        for name, rate in rates.items():
            slower = rates["1 device"] / rate
            found[size][f"{name}, times slower"] = slower
            lines.append(Line(f"{size}, {name}: updates/s", rate))
            lines.append(Line(f"{size}, {name}: times the seconds of one device", slower))
    return Part(found, lines)


def launch(size: str, processes: int, devices: int, updates: int) -> float:
    """Run `processes` x `devices` fake devices; return updates per second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.benchmarks.devices", size, str(updates)]
    flags = f"--xla_force_host_platform_device_count={devices}"
    common = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    running = []
    for index in range(processes):
        own = {}
        if processes > 1:
            own = {"RLX_COORDINATOR": f"127.0.0.1:{port}", "RLX_PROCESS_ID": str(index)}
            own["RLX_NUM_PROCESSES"] = str(processes)
        running.append(subprocess.Popen(command, env=common | own, stdout=subprocess.PIPE))
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in running]
    if any(process.returncode for process in running):
        codes = [process.returncode for process in running]
        raise RuntimeError(f"{processes} processes x {devices} devices ended with {codes}")
    lines = outputs[0].decode().splitlines()  # gloo prints there too
    return json.loads(next(line for line in lines if line.startswith("{")))["updates_per_s"]


def worker(size: str, updates: int) -> float:
    """Time `updates` gradient steps after as many for warming up, on all devices there are."""
    import jax

    from experiments.benchmarks import ours
    from rlx.infra import runtime

    runtime.start()
    hidden, batch_size = SIZES[size]
    setting = ours.Setting("pendulum", 8, hidden, batch_size, 8, data=jax.device_count())
    programs = ours.build(setting)
    state = ours.call(programs, ours.initial(programs, setting), 64, 1, 0, random=True)
    iterations = updates // setting.updates
    state = ours.call(programs, state, iterations, 1, setting.updates)
    start = time.perf_counter()
    ours.call(programs, state, iterations, 1, setting.updates)
    return iterations * setting.updates / (time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("updates", type=int)
    options = parser.parse_args()
    print(json.dumps({"updates_per_s": worker(options.size, options.updates)}))
