"""Speed of guided sampling against what it must cost, and against NumPy, in one process, in turns.

  python -m experiments.benchmarks.guidance          a few minutes; --quick for fewer rounds

svdd  one step with M = 16 children and the posterior-mean value over ONE bare forward of the same
      network on 16 times the rows: what is left is noise, Gumbel-max and gathers.
smc   64 particles x 50 steps on the linear-Gaussian bed, compiled once, over the same algorithm in
      NumPy with a loop over particles, and vectorised; the compile stands apart.
Figures are of CPU seconds of the process, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.benchmarks import guidance_numpy, measure, online
from experiments.benchmarks.measure import Block, Line
from rlx.guidance import Config, ddpm, posterior_mean
from rlx.guidance.core import as_arguments
from rlx.guidance.guide import compiled, spread_over
from rlx.guidance.svdd import choose_child
from rlx.guidance.testbeds import linear_gaussian
from rlx.infra import files

NETWORKS = ((64, 2, 2), (128, 3, 8), (256, 3, 32), (512, 4, 64))  # width, layers, numbers
CHILDREN, ROWS = 16, 4096
ALPHA, PARTICLES, STEPS = 1.0, 64, 50
ABAR = np.cos(0.4995 * np.pi * np.arange(STEPS + 1) / STEPS) ** 2


def network(params: list[tuple[jax.Array, jax.Array]], x: jax.Array, t: jax.Array) -> jax.Array:
    """A ReLU network of x and t."""
    h = jnp.concatenate([x, jnp.broadcast_to(t / STEPS, (*x.shape[:-1], 1))], axis=-1)
    for w, b in params[:-1]:
        h = jax.nn.relu(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def parameters(width: int, layers: int, d: int) -> list[tuple[jax.Array, jax.Array]]:
    rng = np.random.default_rng(0)
    sizes = [d + 1, *[width] * layers, d]
    weights = [rng.normal(size=pair) / pair[0] ** 0.5 for pair in pairwise(sizes)]
    return [(jnp.asarray(w, jnp.float32), jnp.zeros(w.shape[1])) for w in weights]


def repeated(work: Callable[[], Any], times: int) -> Block:
    """Return a block of `times` calls."""

    def block() -> int:
        for _ in range(times):
            out = work()
        jax.block_until_ready(out)
        return times

    return block


def svdd(width: int, layers: int, d: int) -> dict[str, Block]:
    """One whole step, and the bare forward on as many rows."""
    net = Partial(network, parameters(width, layers, d))
    process, reward = ddpm(net, ABAR, (d,)), Partial(lambda x: -jnp.sum(x**2, axis=-1))
    value, N = posterior_mean(process, reward), ROWS // CHILDREN
    config = Config(method="svdd", alpha=0.5, particles=N, children=CHILDREN)
    config = spread_over(config, 1)
    keys = jax.random.split(jax.random.key(0), 3)[:, None]
    x = jax.random.normal(jax.random.key(1), (1, N, d))
    rows = jax.random.normal(jax.random.key(2), (1, ROWS, d))
    t = jnp.int32(STEPS // 2)
    prediction = process.predict(x, t)

    def step(keys, process, value, reward, config, x, prediction, t):
        chosen = choose_child(keys, process, value, reward, config, x, prediction, t)
        return chosen.x, chosen.v, chosen.prediction

    step, bare = jax.jit(step), jax.jit(lambda net, x, t: net(x, t))
    arguments = (keys, process, value, reward, config, x, prediction, t)
    times = max(2, 20_000 // (width * layers) * 4)
    return {
        "step": repeated(lambda: step(*arguments), times),
        "bare": repeated(lambda: bare(net, rows, t), times),
    }


def smc() -> tuple[dict[str, Block], dict[str, float]]:
    """Three programs of the same algorithm; how long ours takes to trace and compile."""
    bed = linear_gaussian.reference(STEPS)
    parts = as_arguments((bed.process(), bed.value(ALPHA), bed.reward()))
    keys = jax.random.split(jax.random.key(0), 1)
    config = spread_over(Config(method="smc", alpha=ALPHA, particles=PARTICLES), 1)
    arguments = jax.device_put((keys, *parts, config))
    start, cpu = time.perf_counter(), time.process_time()
    compiled.lower(*arguments, None).compile()
    compile_s = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    table = guidance_numpy.tables(bed, ALPHA)
    return {
        "rlx": repeated(lambda: compiled(*arguments, None), 200),
        "numpy": repeated(lambda: guidance_numpy.vectorised(table, ALPHA, PARTICLES, 0)[0], 40),
        "numpy loop": repeated(lambda: guidance_numpy.looped(table, ALPHA, PARTICLES, 0)[0], 2),
    }, compile_s


def svdd_lines(quick: bool) -> tuple[dict[str, Any], list[Line]]:
    """Ratios for every network."""
    figures, lines = {}, []
    for size in NETWORKS[:2] if quick else NETWORKS:
        samples = measure.alternate(svdd(*size), 5 if quick else 9)
        name = f"{size[1]}x{size[0]}, {size[2]} numbers"
        over = measure.ratio(samples["step"], samples["bare"])
        figures[name] = {who: measure.summary(samples[who]) for who in samples} | {"ratio": over}
        target = "<= 2" if size[0] < 128 else "<= 1.5"
        cpu = over["cpu_s"]
        lines.append(Line(f"svdd step over bare forward, {name}", cpu["median"], target))
        lines += [Line(f"  {end} of the rounds", cpu[end]) for end in ("min", "max")]
    return figures, lines


def smc_lines(quick: bool) -> tuple[dict[str, Any], list[Line]]:
    """Speed over both peers."""
    blocks, compile_s = smc()
    samples = measure.alternate(blocks, 3 if quick else 7)
    figures: dict[str, Any] = {who: measure.summary(samples[who]) for who in samples}
    lines = []
    for peer, target in (("numpy loop", ">= 40"), ("numpy", ">= 2")):
        faster = measure.ratio(samples[peer], samples["rlx"])
        figures[f"{peer} over rlx"] = faster
        lines.append(Line(f"smc: speed over {peer}", faster["cpu_s"]["median"], target))
        lines += [Line(f"  {end} of the rounds", faster["cpu_s"][end]) for end in ("min", "max")]
    per_run = {who: figures[who]["cpu_s"]["median"] * 1e3 for who in samples}
    lines += [Line(f"  CPU milliseconds of a run, {who}", per_run[who]) for who in per_run]
    lines.append(Line("  CPU seconds to trace and compile, rlx", compile_s["cpu_s"]))
    return figures | {"compile": compile_s}, lines


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, write `guidance_<backend>.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and networks")
    parser.add_argument("--out", type=Path, default=online.RESULTS, help="folder of the JSON")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_compilation_cache", False)  # the compile is a figure too
    machine = measure.machine()
    found: dict[str, Any] = {"machine": machine, "rows": ROWS, "children": CHILDREN}
    targets = []
    for name, part in (("svdd", svdd_lines), ("smc", smc_lines)):
        found[name], lines = part(options.quick)
        online.show(name, lines)
        targets += [row._asdict() | {"met": row.met()} for row in lines if row.target]
    out = options.out / f"guidance_{machine['backend']}.json"
    files.write_json(out, found | {"targets": targets})
    print(f"written: {out}")


if __name__ == "__main__":
    main()
