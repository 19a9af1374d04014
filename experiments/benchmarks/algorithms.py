"""SAC, BRO and PQL side by side: gradient steps and environment steps per second, solo and packed.

On a CPU with networks that a CPU trains, on accelerators with the published ones.
"""

from __future__ import annotations

import time
from typing import Any

import jax

from experiments.benchmarks import measure, ours
from rlx.infra.runtime import on_cpu

ROUNDS = {True: 5, False: 11}
SMALL = {
    "sac": ours.Setting(hidden=(64, 64), batch_size=128),
    "bro": ours.Setting(algo="bro", hidden=(64,), batch_size=128, learner=(("quantiles", 16),)),
    "pql": ours.Setting(algo="pql", hidden=(128, 64), batch_size=512, num_envs=1024, prefill=32),
}
PUBLISHED = {
    "sac": ours.Setting(hidden=(256, 256), batch_size=256, num_envs=128),
    "bro": ours.Setting(
        algo="bro", hidden=(512, 512), batch_size=128, learner=(("actor_hidden", (256,)),)
    ),
    "pql": ours.Setting(
        algo="pql", hidden=(512, 256, 128), batch_size=8192, num_envs=4096, prefill=32
    ),
}
PACK = 8  # seeds of the packed runs, on accelerators


def speeds(quick: bool) -> measure.Part:
    """Time blocks of (one vector step, eight updates) of each learner, taking turns."""
    settings = SMALL if on_cpu() else PUBLISHED
    if not on_cpu():
        packs = {f"{name} x{PACK}": packed(own) for name, own in settings.items()}
        settings = settings | packs
    blocks, compile_s = {}, {}
    for name, setting in settings.items():
        start = time.perf_counter()
        programs = ours.build(setting)
        state = ours.initial(programs, setting)
        blocks[name] = ours.update_block(programs, state, setting, 4 if quick else 16)
        blocks[name]()
        compile_s[name] = time.perf_counter() - start
    samples = measure.alternate(blocks, ROUNDS[quick])
    found: dict[str, Any] = {name: measure.summary(own) for name, own in samples.items()}
    lines = []
    for name, setting in settings.items():
        rate = found[name]["per_s"]
        env_rate = rate * setting.num_envs / setting.updates
        found[name] |= {"env_steps_per_s": env_rate, "compile_s": compile_s[name]}
        lines.append(measure.Line(f"{name}: updates/s", rate))
        lines.append(measure.Line(f"{name}: env steps/s", env_rate))
    return measure.Part({"settings": {k: str(v) for k, v in settings.items()}, **found}, lines)


def packed(setting: ours.Setting) -> ours.Setting:
    """Return the setting with `PACK` vmapped seeds."""
    return ours.Setting(**{**vars(setting), "num_runs": PACK * max(1, jax.device_count())})
