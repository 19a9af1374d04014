"""Gradient steps per second: against brax's SAC, against bare matmuls, by kind of loop."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import ours, peers
from experiments.benchmarks.measure import Block, Line, Part, alternate, ratio, summary
from experiments.benchmarks.ours import Setting
from rlx import envs
from rlx.scaling import flops

SECONDS = 1.0  # of one block, about
SMALL = Setting(hidden=(64, 64), batch_size=128)
LARGE = Setting(hidden=(256, 256), batch_size=256)


def against_brax(quick: bool) -> Part:
    """Time our chunk and brax's own `training_epoch`, environment steps included, in turns.

    Same task and physics, networks (ReLU, twin critics), batch, environments, updates per vector
    step and ring; neither normalises observations. A full ring is a case of its own: brax's then
    moves at every insert.
    """
    cases = {SMALL: ">= 2", LARGE: ">= 1.3"}
    if not quick:
        cases |= {replace(SMALL, full=True): ""}
    figures, lines = {}, []
    for setting, target in cases.items():
        figures[name(setting)], found = compare(setting, 3 if quick else 7, target)
        lines += found
    return Part(figures, lines)


def compare(setting: Setting, rounds: int, target: str) -> tuple[dict[str, Any], list[Line]]:
    """Measure one setting; return its figures and table rows."""
    per_update = count_flops(setting)
    steps = max(4, int(SECONDS * 2e10 / per_update / setting.updates))
    started = time.perf_counter()
    programs = ours.build(setting)
    update = ours.update_block(programs, ours.initial(programs, setting), setting, steps)
    update()
    ours_ready = time.perf_counter()
    epoch = peers.epoch_block(peers.capture_epoch(setting, steps), setting)
    epoch()
    brax_ready = time.perf_counter()
    width, batch = setting.hidden[0], setting.batch_size
    samples = alternate(
        {"rlx": update, "brax": epoch, "matmul": matmul_block(batch, width)}, rounds
    )
    rate = summary(samples["matmul"])["per_s"]
    speeds = {who: summary(samples[who]) for who in ("rlx", "brax")}
    for speed in speeds.values():
        speed["matmul_share"] = speed["per_s"] * per_update / rate
    faster = ratio(samples["brax"], samples["rlx"])
    figures = {
        "setting": vars(setting),
        "flops_per_update": per_update,
        "matmul_flops_per_s": rate,
        **speeds,
        "brax_over_rlx": faster,
        "ready_s": {"rlx": ours_ready - started, "brax": brax_ready - ours_ready},
    }
    label = name(setting)
    return figures, [
        Line(f"{label}: speed over brax, wall", faster["wall_s"]["median"], target),
        Line(f"{label}: speed over brax, CPU time", faster["cpu_s"]["median"]),
        Line(f"{label}: updates/s, rlx", speeds["rlx"]["per_s"]),
        Line(f"{label}: updates/s, brax", speeds["brax"]["per_s"]),
        Line(f"{label}: share of matmul rate, rlx", speeds["rlx"]["matmul_share"]),
        Line(f"{label}: share of matmul rate, brax", speeds["brax"]["matmul_share"]),
    ]


def name(setting: Setting) -> str:
    """Return the short name of a setting."""
    widths = "x".join(map(str, setting.hidden))
    return f"{widths} B={setting.batch_size}" + " full ring" * setting.full


def count_flops(setting: Setting) -> int:
    """Return the dot FLOPs of one gradient step."""
    spec = envs.make(setting.env, "jax").spec
    return flops.sac(
        spec.obs.shape[0], spec.action.shape[0], setting.hidden, setting.hidden, setting.batch_size
    ).per_update


def matmul_block(batch: int, width: int) -> Block:
    """Return a block of FLOPs: a hidden layer of two critics, its products forward and backward.

    The weights are orthogonal, so that the values neither grow nor vanish in a long loop.
    """
    rng = np.random.default_rng(0)
    weights = np.stack([np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2)])
    x = rng.standard_normal((2, batch, width)).astype(np.float32)
    flops_per_turn = 3 * 2 * 2 * batch * width * width

    @jax.jit
    def turns(x: jax.Array, weights: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        def turn(_, carry):
            x, gradient = carry
            y = x @ weights
            return y @ weights.mT, gradient + x.mT @ y

        return jax.lax.fori_loop(0, n, turn, (x, 0.0 * weights))

    n = np.int32(max(8, SECONDS * 3e10 / flops_per_turn))
    weights = weights.astype(np.float32)

    def block() -> int:
        jax.block_until_ready(turns(x, weights, n))
        return int(n) * flops_per_turn

    return block


def loops(quick: bool) -> Part:
    """Time the update loop with lengths as arguments (what rlx runs) and as constants."""
    figures, lines = {}, []
    for setting in (SMALL,) if quick else (SMALL, LARGE):
        setting = replace(setting, env="pendulum")
        updates = max(16, int(SECONDS * 2e10 / count_flops(setting)))
        samples = alternate(loop_blocks(setting, updates), 3 if quick else 7)
        over = ratio(samples["argument"], samples["constant"])
        figures[name(setting)] = {
            "updates_per_call": updates,
            **{kind: summary(values) for kind, values in samples.items()},
            "argument_over_constant": over,
        }
        lines.append(
            Line(
                f"{name(setting)}: loop of run-time length / static",
                over["wall_s"]["median"],
                "<= 1.05",
            )
        )
    return Part(figures, lines)


def loop_blocks(setting: Setting, updates: int) -> dict[str, Block]:
    """Return blocks of `updates` gradient steps in one call of both kinds of program."""
    programs = ours.build(setting)
    constant = jax.jit(
        lambda state: programs.chunk.__wrapped__(state, 1, 1, updates, False), donate_argnums=0
    )
    fill = lambda: ours.call(programs, ours.initial(programs, setting), setting.prefill, 1, 0, True)  # noqa: E731
    states = {"argument": fill(), "constant": fill()}

    def by_argument() -> int:
        states["argument"] = ours.call(programs, states["argument"], 1, 1, updates)
        return updates

    def by_constant() -> int:
        states["constant"] = jax.block_until_ready(constant(states["constant"])[0])
        return updates

    return {"argument": by_argument, "constant": by_constant}
