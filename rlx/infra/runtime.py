"""How JAX is started: CPU devices for packs of runs, the persistent compilation cache, memory
limits.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax

MIN_COMPILE_SECONDS = 0.5  # shorter compiles cost less than reading them back


def start(num_runs: int = 1, cpu_devices: int = 0) -> None:
    """Set up JAX before its first use; later calls change nothing.

    cpu_devices: CPU devices to split the run axis over; 0 = one per core, at most `num_runs`. Runs
      are independent, so this uses every core where one small network cannot.
    """
    directory = os.environ.get("RLX_CACHE", str(Path.home() / ".cache" / "rlx" / "jax"))
    if directory != "off":
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        try:
            jax.config.update(
                "jax_num_cpu_devices", cpu_devices or max(1, min(cores or 1, num_runs))
            )
        except RuntimeError:  # the backend runs already: it keeps the devices it has
            return


def device_bytes() -> int:
    """Memory of one device: what the backend reports, else this machine's memory over its CPU
    devices.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return physical // jax.local_device_count()


def used_bytes() -> int | None:
    """Bytes in use on the first device, None where the backend does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_in_use")
