"""The table of accelerators against its own arithmetic, and the answer to an unknown name."""

from __future__ import annotations

import math
import re

import pytest

from tpu import accelerators
from tpu.errors import LaunchError

FAMILY = {  # prefix: (cores that one chip counts for in names, GKE selector, machine)
    "v4-": (2, "tpu-v4-podslice", "ct4p-hightpu-4t"),
    "v5litepod-": (1, "tpu-v5-lite-podslice", "ct5lp-hightpu-4t"),
    "v5p-": (2, "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v6e-": (1, "tpu-v6e-slice", "ct6e-standard-4t"),
}


@pytest.mark.parametrize("name", accelerators.TPUS)
def test_chips_follow_from_the_topology_and_hosts_from_the_chips(name):
    tpu = accelerators.find(name)
    assert tpu.chips == math.prod(int(side) for side in tpu.topology.split("x"))
    assert tpu.chips_per_host == (1 if name == "v6e-1" else 4)
    assert tpu.hosts * tpu.chips_per_host == tpu.chips
    prefix = name[: name.index("-") + 1]
    if prefix == "tpu7x-":
        assert (tpu.selector, tpu.machine, tpu.runtime) == ("tpu7x", "tpu7x-standard-4t", "")
        return
    cores, selector, machine = FAMILY[prefix]
    assert int(name.removeprefix(prefix)) == cores * tpu.chips
    assert tpu.selector == selector
    assert tpu.machine == ("ct6e-standard-1t" if name == "v6e-1" else machine)
    assert re.fullmatch("tpu-ubuntu2204-base|v2-alpha-tpu.*", tpu.runtime)


def test_the_table_is_whole():
    assert len(accelerators.TPUS) == 4 + 6 + 5 + 8 + 3
    assert accelerators.find("tpu7x-4x4x4")[2:5] == (64, 16, "4x4x4")
    assert accelerators.find("tpu7x-8")[2:] == accelerators.find("tpu7x-2x2x1")[2:]


def test_gpus_are_counted_per_host():
    assert accelerators.find("H100:8")[:4] == ("H100:8", "gpu", 8, 1)
    assert accelerators.find("L4").chips_per_host == 1
    assert accelerators.find("cpu").kind == "cpu"


@pytest.mark.parametrize(
    "name, says",
    [
        (
            "v5litepod-15",
            "unknown accelerator 'v5litepod-15'; nearest: v5litepod-16, v5litepod-128, "
            "v5litepod-256; `python -m tpu.accelerators` lists all",
        ),
        ("v5e-16", "unknown accelerator 'v5e-16'; nearest: v5litepod-16, "),
        ("H101:8", "unknown accelerator 'H101:8'; nearest: H100:8, "),
        ("H100:0", "accelerator 'H100:0': H100:N needs a count of 1 or more, got '0'"),
    ],
)
def test_an_unknown_accelerator_is_answered_with_the_three_nearest(name, says):
    with pytest.raises(LaunchError) as caught:
        accelerators.find(name)
    assert str(caught.value).startswith(says)
