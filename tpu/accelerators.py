"""The accelerators a job can ask for, as data.

v4 and v5p names count TensorCores, two per chip; v5litepod, v6e and tpu7x names count chips (but
tpu7x-8 is 2x2x1 chips with two cores each). Values as xpk 1.16.0 knows them.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from tpu.errors import LaunchError, unknown


class Accelerator(NamedTuple):
    """What one job runs on, per slice."""

    name: str
    kind: str  # tpu, gpu or cpu
    chips: int  # per slice
    hosts: int  # per slice
    topology: str = ""  # of chips, such as 4x4
    selector: str = ""  # GKE node label cloud.google.com/gke-tpu-accelerator
    machine: str = ""  # GKE machine type
    runtime: str = ""  # software version of a TPU VM; "" where there are no TPU VMs

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts


class _Family(NamedTuple):
    selector: str
    machine: str
    runtime: str
    sizes: dict[str, tuple[str, int]]  # {name: (topology, hosts)}


_FAMILIES = (
    _Family(
        "tpu-v4-podslice",
        "ct4p-hightpu-4t",
        "tpu-ubuntu2204-base",
        {
            "v4-8": ("2x2x1", 1),
            "v4-16": ("2x2x2", 2),
            "v4-32": ("2x2x4", 4),
            "v4-64": ("2x4x4", 8),
        },
    ),
    _Family(
        "tpu-v5-lite-podslice",
        "ct5lp-hightpu-4t",
        "v2-alpha-tpuv5-lite",
        {
            "v5litepod-8": ("2x4", 2),
            "v5litepod-16": ("4x4", 4),
            "v5litepod-32": ("4x8", 8),
            "v5litepod-64": ("8x8", 16),
            "v5litepod-128": ("8x16", 32),
            "v5litepod-256": ("16x16", 64),
        },
    ),
    _Family(
        "tpu-v5p-slice",
        "ct5p-hightpu-4t",
        "v2-alpha-tpuv5",
        {
            "v5p-8": ("2x2x1", 1),
            "v5p-16": ("2x2x2", 2),
            "v5p-32": ("2x2x4", 4),
            "v5p-64": ("2x4x4", 8),
            "v5p-128": ("4x4x4", 16),
        },
    ),
    _Family("tpu-v6e-slice", "ct6e-standard-1t", "v2-alpha-tpuv6e", {"v6e-1": ("1x1", 1)}),
    _Family(
        "tpu-v6e-slice",
        "ct6e-standard-4t",
        "v2-alpha-tpuv6e",
        {
            "v6e-4": ("2x2", 1),
            "v6e-8": ("2x4", 2),
            "v6e-16": ("4x4", 4),
            "v6e-32": ("4x8", 8),
            "v6e-64": ("8x8", 16),
            "v6e-128": ("8x16", 32),
            "v6e-256": ("16x16", 64),
        },
    ),
    _Family(
        "tpu7x",
        "tpu7x-standard-4t",
        "",
        {"tpu7x-8": ("2x2x1", 1), "tpu7x-2x2x1": ("2x2x1", 1), "tpu7x-4x4x4": ("4x4x4", 16)},
    ),
)
TPUS = {
    name: Accelerator(
        name,
        "tpu",
        math.prod(map(int, topology.split("x"))),
        hosts,
        topology,
        family.selector,
        family.machine,
        family.runtime,
    )
    for family in _FAMILIES
    for name, (topology, hosts) in family.sizes.items()
}
GPUS = ("A100", "A100-80GB", "B200", "GB200", "H100", "H200", "L4", "L40S", "T4", "V100")
CPU = Accelerator("cpu", "cpu", 1, 1)


def find(name: str) -> Accelerator:
    """Return the accelerator called `name`: a TPU slice, `H100:8` (8 on one host) or `cpu`."""
    if name == "cpu":
        return CPU
    if name in TPUS:
        return TPUS[name]
    gpu, colon, count = name.partition(":")
    if gpu in GPUS and (not colon or re.fullmatch("[1-9][0-9]*", count)):
        return Accelerator(name, "gpu", int(count or 1), 1)
    if gpu in GPUS:
        raise LaunchError(
            f"accelerator '{name}': {gpu}:N needs a count of 1 or more, got '{count}'"
        )
    names = (*TPUS, *(f"{gpu}:8" for gpu in GPUS), "cpu")
    like = name.replace("v5e-", "v5litepod-")  # how everybody calls it
    listing = "python -m tpu.accelerators"
    raise LaunchError(unknown("accelerator", name, names, listing, like=like))


if __name__ == "__main__":
    for tpu in TPUS.values():
        print(
            f"{tpu.name:14} {tpu.topology:7} {tpu.chips:4} chips {tpu.hosts:3} hosts  {tpu.machine}"
        )
    print("GPUs, N on one host:", *(f"{gpu}:N" for gpu in GPUS))
    print("cpu")
