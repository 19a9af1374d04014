"""The one mesh of the house: axes `run x data x fsdp`.

Tested with jax 0.10. `AxisType.Auto` is asked for by name because jax >= 0.9 makes Explicit axes by
default, and sizes go by position because the parameter's name differs between 0.10 and 0.11.
"""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rlx.infra.errors import ConfigError
from rlx.types import PyTree

AXES = ("run", "data", "fsdp")


def make_mesh(run: int = 1, data: int = -1, fsdp: int = 1, devices: list | None = None) -> Mesh:
    """Lay `devices` (default: all) out as run x data x fsdp; -1 takes the devices that remain."""
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
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:needed]
    )


def lay_out(run: int, data: int, fsdp: int, num_runs: int, shards: int) -> Mesh:
    """Return the mesh of a pack; checks `shards` against the data axis.

    run = 0: over the runs, as many devices as shorten the work; data = -1: as many of the remaining
    ones as divide the shards. CPU devices share their cores, so there -1 is 1 and spare ones idle.
    """
    devices, cpu = jax.device_count(), jax.default_backend() == "cpu"
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


def shardings(mesh: Mesh, specs: PyTree) -> PyTree:
    """Turn a pytree of PartitionSpecs into NamedShardings on `mesh`."""
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
