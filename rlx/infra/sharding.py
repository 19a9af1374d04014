"""The one mesh of the house: axes `run x data x fsdp`.

Tested with jax 0.10. `AxisType.Auto` is asked for by name because jax >= 0.9 makes Explicit axes by
default, and sizes go by position because the parameter's name differs between 0.10 and 0.11.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from rlx.infra import distributed
from rlx.infra.errors import ConfigError
from rlx.types import PyTree

AXES = ("run", "data", "fsdp")


def make_mesh(run: int = 1, data: int = -1, fsdp: int = 1, devices: list | None = None) -> Mesh:
    """Lay `devices` (default: all) out as run x data x fsdp; -1 takes the devices that remain.

    Those of one process are neighbours along `data`, so that its traffic stays inside a host where
    it fits. Every process takes part with as many devices as any other.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [run, data, fsdp]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ConfigError(f"mesh sizes are whole numbers >= 1, at most one of them -1, got {sizes}")
    known = 1
    for size in sizes:
        known *= max(size, 1)
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // known, 1)
    needed = sizes[0] * sizes[1] * sizes[2]
    if needed > len(devices):
        raise ConfigError(
            f"mesh run x data x fsdp = {sizes} needs {needed} devices, there are {len(devices)}"
        )
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=spread(devices, needed)
    )


def spread(devices: list, needed: int) -> list:
    """Return `needed` of the devices, the same number of each process, one process after another.

    Raises ConfigError where a process would be left out: it could not take part in the program.
    """
    owners = sorted({device.process_index for device in devices})
    if needed % len(owners):
        raise ConfigError(
            f"a mesh of {needed} devices leaves some of the {len(owners)} processes out: "
            f"every process needs the same number of devices in it; make mesh.run x mesh.data "
            f"a multiple of {len(owners)} (mesh.data divides mesh.shards), or start fewer processes"
        )
    each = needed // len(owners)
    own = [[d for d in devices if d.process_index == owner][:each] for owner in owners]
    return [device for part in own for device in part]


def lay_out(run: int, data: int, fsdp: int, num_runs: int, shards: int) -> Mesh:
    """Return the mesh of a pack; checks `shards` against the data axis.

    run = 0: over the runs, as many devices as shorten the work; data = -1: as many of the remaining
    ones as divide the shards. CPU devices share their cores, so there -1 is 1 and spare ones idle;
    several processes use what they have on a CPU too.
    """
    alone = distributed.process_count() == 1
    devices, cpu = jax.device_count(), jax.default_backend() == "cpu" and alone
    if run == 0:
        rows = -(-num_runs // devices)  # runs per device
        run = -(-num_runs // rows) if cpu else largest_divisor(devices, num_runs)
    if data == -1:
        data = 1 if cpu else largest_divisor(shards, max(1, devices // run))
    check_shards(shards, data)
    return make_mesh(run, data, fsdp)


def default_shards(num_envs: int, batch_size: int) -> int:
    """Logical shards of an experiment: the largest of 8, 4, 2, 1 that divides both numbers."""
    return next(s for s in (8, 4, 2, 1) if num_envs % s == 0 and batch_size % s == 0)


def check_shards(shards: int, data: int, **rows: int) -> None:
    """Raise ConfigError unless `shards` divides every entry of `rows` and is a multiple of the data
    axis.
    """
    for name, value in rows.items():
        if value % shards:
            low = value // shards * shards
            near = f"{low} or {low + shards}" if low else f"{shards}"
            raise ConfigError(
                f"{name} = {value} is not divisible by mesh.shards = {shards}; "
                f"nearest valid: {near}"
            )
    if shards % data:
        raise ConfigError(
            f"mesh.shards = {shards} is not a multiple of the {data} devices on the data axis; "
            f"nearest valid: mesh.shards={-(-shards // data) * data} "
            f"or mesh.data={largest_divisor(shards, data)}"
        )


def largest_divisor(value: int, limit: int) -> int:
    """Return the largest divisor of `value` that is at most `limit`."""
    return next(d for d in range(min(limit, value), 0, -1) if value % d == 0)


def fsdp_specs(tree: PyTree, mesh: Mesh, min_bytes: int = 4 << 20) -> PyTree:
    """Cut every array of `min_bytes` and more along its largest axis that the axis `fsdp` divides.

    The first axis of arrays with three and more is kept whole: layers that a scan runs through are
    stacked along it. All else is the same on every device.
    """
    size = mesh.shape["fsdp"]

    def spec(x: jax.ShapeDtypeStruct) -> PartitionSpec:
        axes = [i for i in range(x.ndim > 2, x.ndim) if x.shape[i] % size == 0]
        if size == 1 or x.ndim < 2 or not axes or x.size * x.dtype.itemsize < min_bytes:
            return PartitionSpec()
        longest = max(axes, key=lambda i: x.shape[i])
        return PartitionSpec(*(AXES[2] if i == longest else None for i in range(x.ndim)))

    return jax.tree.map(spec, tree)


def without(sharding: NamedSharding, axis: str) -> NamedSharding:
    """Return the sharding with nothing cut along `axis`, which is no part of a joined name."""
    parts = [None if part == axis else part for part in sharding.spec]
    return NamedSharding(sharding.mesh, PartitionSpec(*parts))


def put(value: ArrayLike, sharding: NamedSharding) -> jax.Array:
    """Place a host array that every process holds; each process places its own part of it."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def shardings(mesh: Mesh, specs: PyTree) -> PyTree:
    """Turn a pytree of PartitionSpecs into NamedShardings on `mesh`."""
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
