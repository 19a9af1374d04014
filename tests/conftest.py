"""For all tests: one CPU device, a compile cache that outlives the run, fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from ogbench_files import ogbench_folder  # noqa: F401  a fixture of several files

ROOT = Path(__file__).resolve().parent.parent
MOST_MAPS = 30_000


def compile_cache() -> str | None:
    """The folder of compiled programs, shared by all test processes; `RLX_CACHE=off` for none."""
    folder = os.environ.get("RLX_CACHE", str(Path.home() / ".cache" / "rlx" / "jax"))
    return None if folder == "off" else folder


# jax reads these when it is imported, so they are set before any test module is.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if (cache := compile_cache()) is not None:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

RunPython = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Run code, or `python` arguments, in a fresh process: for multi-device and import tests.

    run_python(code: str | arguments: list, env={...}, devices=1, timeout=300, check=True)
    `devices` is the number of fake CPU devices. Returns the CompletedProcess with text output; a
    failure raises with the process's own output unless `check=False`.
    """

    def run(
        code_or_args: str | Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        devices: int = 1,
        timeout: float = 300.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess:
        args = ["-c", code_or_args] if isinstance(code_or_args, str) else list(code_or_args)
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), environment.get("PYTHONPATH")])
        )
        if devices > 1:
            flags = environment.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = (
                f"{flags} --xla_force_host_platform_device_count={devices}".strip()
            )
        environment.update(env or {})
        done = subprocess.run(
            [sys.executable, *args],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
            )
        return done

    return run


@pytest.fixture(autouse=True, scope="module")
def few_maps():
    """Drop compiled programs before they fill the process's memory maps: each takes some, and the
    65 530 that Linux allows end in a segmentation fault of the compiler.
    """
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        sys.modules["jax"].clear_caches()
