"""How JAX is started: CPU devices for packs of runs, the compilation cache, memory limits."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax

from rlx.infra import distributed

MIN_COMPILE_SECONDS = 0.5  # shorter compiles cost less than reading them back


def start() -> None:
    """Set up JAX before its first use: the other processes, the compilation cache, one CPU device
    per core.

    Runs are independent, so a pack uses every core where one small network cannot. A device count
    given in XLA_FLAGS wins; once a backend runs, it keeps the devices it has.
    """
    distributed.initialize()
    directory = os.environ.get("RLX_CACHE", str(Path.home() / ".cache" / "rlx" / "jax"))
    if directory != "off":
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores or 1)


def on_cpu() -> bool:
    """Say whether computations run on the CPU; starts the backend."""
    return jax.default_backend() == "cpu"


def device_bytes() -> int:
    """Memory of one device: what the backend reports, else this machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(stats.get("bytes_limit", physical))


def used_bytes() -> int | None:
    """Bytes in use on the first device, None where the backend does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_in_use")
