"""Whole program starts, each in its own process: packs, compile times, persistent cache, memory.

This file is also the program that is launched: it trains one pack and prints its figures as one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.benchmarks.measure import Line, Part, spread

PACK = 8  # seeds
SIZES = (2, 4)  # further packs, for the scaling over runs
CAPACITY = 1_000_000  # transitions of each run's ring, the largest default


def launches(quick: bool) -> Part:
    """Time fresh launches: eight seeds as one pack and one by one, other packs, a cached start."""
    updates = 1000 if quick else 5000
    solo_count = 2 if quick else PACK
    pack = launch(PACK, updates)
    solos = [launch(1, updates, first_seed=seed) for seed in range(solo_count)]
    others = {} if quick else {runs: launch(runs, updates) for runs in SIZES}
    cached = [cold_and_warm(updates=64) for _ in range(1 if quick else 3)]
    apart = sum(solo["wall_s"] for solo in solos) * PACK / solo_count
    speed = {1: spread(solo["updates_per_s"] for solo in solos)["median"]}
    speed |= {runs: found["updates_per_s"] for runs, found in others.items()}
    speed[PACK] = pack["updates_per_s"]
    figures: dict[str, Any] = {
        "updates_per_run": updates,
        "pack": pack,
        "solo": solos,
        "others": others,
        "pack_over_apart": pack["wall_s"] / apart,
        "updates_per_s_by_runs": speed,
        "cache": cached,
        "cold_over_warm": spread(
            cold["first_update_s"] / warm["first_update_s"] for cold, warm in cached
        ),
    }
    if not quick:
        figures["CartpoleSwingup"] = launch(1, 64, env="CartpoleSwingup")
    return Part(figures, rows(figures, solo_count))


def rows(figures: dict[str, Any], solo_count: int) -> list[Line]:
    """Return the table rows of the launches."""
    measured = "" if solo_count == PACK else f" (scaled from {solo_count} launches)"
    compiles = {"pendulum R=1": figures["solo"][0], f"pendulum R={PACK}": figures["pack"]}
    if "CartpoleSwingup" in figures:
        compiles["CartpoleSwingup R=1"] = figures["CartpoleSwingup"]
    return [
        Line(
            f"{PACK} seeds, one pack / one by one{measured}", figures["pack_over_apart"], "<= 0.75"
        ),
        *(
            Line(f"updates/s of all runs, R={r}", x)
            for r, x in figures["updates_per_s_by_runs"].items()
        ),
        Line(
            "first update: cold start / cached start", figures["cold_over_warm"]["median"], ">= 2"
        ),
        *(
            Line(f"{label}: compile s of {program}", seconds)
            for label, found in compiles.items()
            for program, seconds in found["compile_s"].items()
        ),
        *(
            Line(f"{label}: chunk's temp / ring", x["temp_share"], "<= 0.1")
            for label, x in compiles.items()
        ),
    ]


def cold_and_warm(updates: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Launch twice with one fresh cache folder."""
    with tempfile.TemporaryDirectory() as cache:
        return launch(1, updates, cache=cache), launch(1, updates, cache=cache)


def launch(
    runs: int, updates: int, *, first_seed: int = 0, env: str = "pendulum", cache: str = "off"
) -> dict[str, Any]:
    """Run this file in a new process, which lives `wall_s`, and return its figures."""
    options = {
        "runs": runs,
        "updates": updates,
        "first_seed": first_seed,
        "env": env,
        "started": time.time(),
    }
    words = [f"--{key}={value}" for key, value in options.items()]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *words],
        env={**os.environ, "RLX_CACHE": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.perf_counter() - start}


def main(argv: list[str] | None = None) -> None:
    """Compile, fill the ring, train, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, kind in (
        ("runs", int),
        ("updates", int),
        ("first_seed", int),
        ("env", str),
        ("started", float),
    ):
        parser.add_argument(f"--{option}", type=kind, required=True)
    options = parser.parse_args(argv)

    import jax

    from experiments.benchmarks import ours
    from rlx.infra import runtime
    from rlx.train.compiled import compile_programs

    runtime.start()
    setting = ours.Setting(env=options.env, num_runs=options.runs, capacity=CAPACITY)
    compiled = compile_programs(ours.build(setting), setting.num_runs, ours.numeric(setting))
    state = ours.initial(compiled, setting, options.first_seed)
    state = ours.call(compiled, state, setting.prefill, 1, 0, random=True)
    state = ours.call(compiled, state, 1, 1, 1)
    first_update = time.time() - options.started
    steps = -(-options.updates // setting.updates)
    start, cpu = time.perf_counter(), time.process_time()
    state = ours.call(compiled, state, steps, 1, setting.updates)
    seconds, total = time.perf_counter() - start, steps * setting.updates * setting.num_runs
    jax.block_until_ready(compiled.evaluate(state))
    ring = sum(x.nbytes for x in jax.tree.leaves(state.buffer))
    found = {
        "runs": options.runs,
        "devices": jax.device_count(),
        "compile_s": compiled.seconds,
        "first_update_s": first_update,
        "updates_per_s": total / seconds,
        "updates_per_cpu_s": total / (time.process_time() - cpu),
        "temp_bytes": compiled.temp_bytes,
        "ring_bytes": ring,
        "temp_share": compiled.temp_bytes / ring,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
