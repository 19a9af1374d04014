"""How few tokens say an action chunk, and how exactly: FAST, binning with fewer steps, learned FSQ.

  python -m experiments.fast_compression             90 CPU seconds; three minutes on busy cores
  python -m experiments.fast_compression --full      more settings, FSQ trained ten times longer
The default trains one FSQ for so few steps that its error is not what it can do.
Table I of FAST (arXiv 2501.09747) in shape: its dims and control frequencies, on made-up motion
of one second. Prints the table; writes all rows as CSV and a figure of error against tokens.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.fast_compression_data import trajectories
from experiments.fast_compression_fsq import train
from experiments.fast_compression_naive import subsampled
from experiments.fast_compression_plot import draw, table
from rlx.infra import files
from rlx.infra.errors import ConfigError, one_line
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.measure import measure
from rlx.tokenizers.stats import NormStats

SCALES = (2, 5, 10, 20, 50)
STRIDES = (1, 2, 4, 8)
VOCABULARY = 1024


class Task(NamedTuple):
    """A row of the paper's table."""

    name: str
    dims: int
    hz: int
    paper_naive: int  # tokens per chunk, published
    paper_fast: int


TASKS = (
    Task("BridgeV2", 7, 5, 35, 20),
    Task("DROID", 7, 15, 105, 29),
    Task("Bussing", 7, 20, 140, 28),
    Task("Shirt fold", 14, 50, 700, 53),
)


def fast(fit: np.ndarray, test: np.ndarray, scale: float) -> dict[str, float]:
    """Figures of FAST at one scale; where the alphabet is larger, so is the vocabulary."""
    alphabet = FastTokenizer.fit(fit, scale=scale, vocab_size=None, norm_mode=None).vocab_size
    size = max(VOCABULARY, alphabet + 128)
    tokenizer = FastTokenizer.fit(fit, scale=scale, vocab_size=size, norm_mode=None)
    return measure(tokenizer, test) | {"vocab_size": tokenizer.vocab_size}


def rows_of(task: Task, full: bool, seed: int) -> list[dict]:
    """Measure every method on one task; errors are of normalised actions."""
    raw = trajectories(2500, task.dims, task.hz, seed)
    data = NormStats.fit(raw[:2000]).normalize(raw)
    fit, test = data[:2000], data[2000:]
    found = [("FAST", scale, fast(fit, test, scale)) for scale in SCALES]
    found += [
        ("binning", stride, subsampled(test, stride)) for stride in STRIDES if stride < task.hz
    ]
    steps = 3000 if full else 300
    for tokens in (4, 8, 16, 32, 64) if full else (16,):
        tokenizer = train(fit, tokens, steps, seed)
        row = measure(tokenizer, test) | {"vocab_size": tokenizer.vocab_size}
        found.append((f"FSQ, {steps} steps", tokens, row))
    head = {"task": task.name, "dims": task.dims, "hz": task.hz}
    return [head | {"method": name, "setting": value} | row for name, value, row in found]


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write the CSV and the figure."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--full", action="store_true", help="more settings, longer training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/fast_compression"))
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise ConfigError(f"--seed is a whole number >= 0, got {options.seed}")
    start, rows = time.perf_counter(), []
    for task in TASKS:
        rows += rows_of(task, options.full, options.seed)
        print(f"{task.name} measured after {time.perf_counter() - start:.0f} s", flush=True)
    print(table(rows, TASKS))
    files.write_csv(options.out / "compression.csv", rows)
    draw(rows, options.out / "compression.png")
    print(f"written: {options.out / 'compression.csv'}, {options.out / 'compression.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
