"""Speed and length of FAST tokens against the reference's algorithm, in one process, in turns.

  python -m experiments.benchmarks.tokens            about a minute; --quick for fewer rounds

Chunks of 50 steps x 14 numbers (two arms, one second at 50 Hz), scale 10, vocabulary 1 024: smooth
ones, to which the targets apply, and ones with two grippers that jump, which have content at all
frequencies. Figures are of CPU seconds of the process, which other work disturbs less.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import measure, online
from experiments.benchmarks.measure import Block, Line
from experiments.benchmarks.tokens_reference import Reference
from experiments.fast_compression_data import trajectories
from rlx.infra import files
from rlx.ops import action_tokens
from rlx.tokenizers.chunks import pad
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.stats import NormStats

STEPS, DIMS, CHUNKS, FIT_CHUNKS = 50, 14, 2000, 3000
TARGETS = {"encode": ">= 5", "decode": ">= 6", "fit": ">= 1"}


def repeated(work: Callable[[], Any], times: int, units: int) -> Block:
    """Return a block that does `work` `times` times, `units` chunks each; blocks that take turns
    last about equally long.
    """

    def block() -> int:
        for _ in range(times):
            work()
        return times * units

    return block


def blocks(fit: np.ndarray, test: np.ndarray) -> tuple[dict[str, dict[str, Block]], dict[str, Any]]:
    """Return what takes turns, by figure, and the facts of both tokenizers on the same chunks."""
    ours = FastTokenizer.fit(fit, norm_mode=None)
    theirs = Reference(fit)
    own_ids, their_ids = ours.encode(test), theirs.encode(test)
    codec, padded = ours.codec(), pad(own_ids)
    on_device = jax.jit(action_tokens.decode)
    x, valid, _ = ours.decode(own_ids)
    y = theirs.decode(their_ids)
    back = ~np.isclose(y, 0).all((1, 2)) & (np.abs(y - test).max((1, 2)) < 1)
    facts = {
        "mean_tokens": {"rlx": mean_length(own_ids), "reference": mean_length(their_ids)},
        "without_eob": mean_length(FastTokenizer.fit(fit, norm_mode=None, eob=False).encode(test)),
        "rmse": {
            "rlx": rmse(x - test),
            "reference_of_chunks_that_come_back": rmse((y - test)[back]),
        },
        "chunks_lost": {"rlx": int((~valid).sum()), "reference": int((~back).sum())},
        "vocab_size": {"rlx": ours.vocab_size, "reference": theirs.bpe.get_vocab_size()},
    }
    return {
        "encode": {
            "rlx": repeated(lambda: ours.encode(test), 12, len(test)),
            "reference": repeated(lambda: theirs.encode(test), 1, len(test)),
        },
        "decode": {
            "rlx": repeated(lambda: ours.decode(own_ids), 12, len(test)),
            "reference": repeated(lambda: theirs.decode(their_ids), 1, len(test)),
            "rlx under jit": repeated(
                lambda: jax.block_until_ready(on_device(codec, padded)), 8, len(test)
            ),
        },
        "fit": {
            "rlx": repeated(lambda: FastTokenizer.fit(fit, norm_mode=None), 1, len(fit)),
            "reference": repeated(lambda: Reference(fit), 1, len(fit)),
        },
        "encode, one call": {  # last: what it leaves in the allocator slows what follows
            "rlx": repeated(lambda: ours.encode(test), 12, len(test)),
            "reference": repeated(lambda: theirs.encode_batch(test), 1, len(test)),
        },
    }, facts


def mean_length(ids: list[list[int]]) -> float:
    return float(np.mean([len(row) for row in ids]))


def rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def compare(quick: bool, grippers: bool) -> tuple[dict[str, Any], list[Line]]:
    """Measure one kind of chunks; return the figures and the lines of the table."""
    raw = trajectories(FIT_CHUNKS + CHUNKS, DIMS, STEPS, seed=0, grippers=grippers)
    data = NormStats.fit(raw[:FIT_CHUNKS]).normalize(raw)
    turns, figures = blocks(data[:FIT_CHUNKS], data[FIT_CHUNKS:])
    lines = []
    for name, both in turns.items():
        rounds = (2 if quick else 4) if name == "fit" else (3 if quick else 7)
        samples = measure.alternate(both, rounds)
        faster = measure.ratio(samples["reference"], samples["rlx"])
        figures[name] = {who: measure.summary(samples[who]) for who in both}
        figures[name]["reference_over_rlx"] = faster
        cpu = faster["cpu_s"]
        target = "" if grippers else TARGETS.get(name, "")
        lines.append(Line(f"{name}: speed over the reference", cpu["median"], target))
        lines += [Line(f"  {end} of the rounds", cpu[end]) for end in ("min", "max")]
        for who in both:
            per_s = 1 / figures[name][who]["cpu_s"]["median"]
            lines.append(Line(f"  chunks per CPU second, {who}", per_s))
    tokens = figures["mean_tokens"]
    lines.append(
        Line("mean tokens over the reference", tokens["rlx"] / tokens["reference"], "<= 1")
    )
    lines += [Line(f"  mean tokens, {who}", tokens[who]) for who in tokens]
    lines += [Line(f"  chunks lost, {who}", n) for who, n in figures["chunks_lost"].items()]
    return figures, lines


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, write `tokens_<backend>.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--out", type=Path, default=online.RESULTS, help="folder of the JSON")
    options = parser.parse_args(argv)
    machine = measure.machine()
    found, targets = {"machine": machine, "chunk": [STEPS, DIMS], "chunks": CHUNKS}, []
    for kind, grippers in (("smooth", False), ("grippers", True)):
        found[kind], lines = compare(options.quick, grippers)
        online.show(f"tokens, {kind}", lines)
        targets += [
            {"kind": kind} | row._asdict() | {"met": row.met()} for row in lines if row.target
        ]
    out = options.out / f"tokens_{machine['backend']}.json"
    files.write_json(out, found | {"targets": targets})
    print(f"written: {out}")


if __name__ == "__main__":
    main()
