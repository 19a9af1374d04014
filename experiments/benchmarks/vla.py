"""Speed of the vision-language-action model: training steps, and chunks said token by token.

  python -m experiments.benchmarks.vla                       the sizes of a CPU: ten minutes
  python -m experiments.benchmarks.vla --quick               the smallest one
  python -m experiments.benchmarks.vla --sizes=small --dtype=bfloat16 --batch=256    a GPU

train    a gradient step on text, state and action tokens, no images. MFU is the formula's
         floating-point operations per second (rlx/nn/flops.py) over those of a large matrix product
         on the same device, measured here.
decode   chunks said greedily, one alone and a batch, under the constraint that each is valid, by a
         model of 100 gradient steps: enough to end where the data's chunks end.
Timings depend on what else the machine does: they are reported, never asserted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import measure
from rlx.agents import vla
from rlx.infra import files
from rlx.nn import flops
from rlx.nn.transformer import variant
from rlx.ops.action_tokens import Slots
from rlx.tokenizers import FastTokenizer
from rlx.types import EnvSpec, Keys, Spec, TokenBatch

T, A, PREFIX, VOCAB = 50, 7, 48, 1024  # a second of one arm at 50 Hz; text tokens; action tokens
TEXT = 256  # text tokens of the vocabulary
STEPS = 100  # of training before chunks are said
RESULTS = Path(__file__).parent / "results"


def chunks(count: int) -> np.ndarray:
    """Return smooth random motions `[count, T, A]`: a few slow cosines per dimension."""
    rng = np.random.default_rng(0)
    t = np.arange(T)[:, None, None] / T
    waves = np.cos(np.pi * t * np.arange(1, 6) + rng.uniform(0, 6, (count, 1, A, 5)))
    return (waves * rng.normal(size=(count, 1, A, 5)) / np.arange(1, 6)).sum(-1)


class Bench:
    """One size of model, its tokenizer and a batch of `rows`."""

    def __init__(self, size: str, rows: int, dtype: str) -> None:
        motions = chunks(2000)
        self.rows, self.tokenizer = rows, FastTokenizer.fit(motions, vocab_size=VOCAB)
        self.slots = Slots(TEXT, 1, self.tokenizer.vocab_size, end=1, eos=2, pad=0)
        self.config = vla.get_config()
        self.config.update(
            decoder=size, vocab_size=TEXT + VOCAB, dtype=dtype, action_vocab_only=False
        )
        spec = EnvSpec({"state": Spec((A,))}, Spec((T, A)))
        codec = self.tokenizer.codec(T, A)
        self.learner = vla.make(self.config, spec, slots=self.slots, codec=codec)
        hp = {name: jnp.float32(x) for name, x in self.learner.hp.items()}
        self.state = jax.jit(self.learner.init)(jax.random.key(0), hp)
        self.keys = Keys(jax.random.key(1)[None], jnp.zeros(1, int), jax.random.key(2), 1)
        self.batch = self._batch(self.tokenizer.encode(motions[:rows]))
        self.update = jax.jit(self.learner.update, donate_argnums=0)
        for _ in range(STEPS):
            self.state, _ = self.update(self.state, self.batch, self.keys)

    def _batch(self, ids: list[list[int]]) -> TokenBatch:
        rng = np.random.default_rng(1)
        length = PREFIX + max(map(len, ids)) + 2
        tokens: Any = np.zeros((self.rows, length), np.int32)
        tokens[:, :PREFIX] = rng.integers(3, TEXT, (self.rows, PREFIX))
        for row, own in zip(tokens, ids, strict=True):
            said = [*self.slots.to_model(np.array(own)), self.slots.end, self.slots.eos]
            row[PREFIX : PREFIX + len(said)] = said
        suffix = (np.arange(length) >= PREFIX) & (tokens != self.slots.pad)
        there: Any = np.int32(tokens != self.slots.pad)
        return TokenBatch(tokens, suffix, suffix, there)

    def training_flops(self) -> float:
        """Operations of a step: all positions through the decoder, chunks of 64 to logits."""
        length = self.batch.tokens.shape[1]
        predicted = min(length - 1, -(-int(self.batch.mask_loss.sum(1).max()) // 64) * 64)
        v, vocab = variant(self.config.decoder), self.config.vocab_size
        return flops.TRAINING * self.rows * flops.decoder(v, length, length, predicted, vocab)

    def train(self) -> measure.Block:
        """A block of gradient steps."""
        state = [jax.tree.map(jnp.copy, self.state)]

        def block(steps: int = 3) -> int:
            for _ in range(steps):
                state[0], metrics = self.update(state[0], self.batch, self.keys)
            jax.block_until_ready(metrics)
            return steps

        return block

    def decode(self, rows: int) -> tuple[measure.Block, Any]:
        """A block that says one batch of chunks, and what it said."""
        act = jax.jit(self.learner.act, static_argnums=3)
        prefix = self.batch.tokens[:rows, :PREFIX]
        obs = {
            "tokens": prefix,
            "segment": np.ones_like(prefix),
            "mask_ar": np.zeros(prefix.shape, bool),
        }
        run = lambda: jax.block_until_ready(act(self.state, obs, self.keys, False))  # noqa: E731
        _, extras = run()

        def block() -> int:
            run()
            return 1

        return block, jax.tree.map(np.asarray, extras)


def peak(dtype: str) -> measure.Block:
    """A block of matrix products; its unit is one floating-point operation."""
    n = 1024 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((n, n), dtype)
    product = jax.jit(lambda x: x @ x)

    def block(times: int = 4) -> int:
        for _ in range(times):
            last = product(x)
        jax.block_until_ready(last)
        return times * 2 * n**3

    return block


def speeds(size: str, rows: int, dtype: str, rounds: int) -> measure.Part:
    """Measure one size; see the module's docstring."""
    bench = Bench(size, rows, dtype)
    one, said_one = bench.decode(1)
    many, said = bench.decode(rows)
    blocks = {"peak": peak(dtype), "train": bench.train(), "one": one, "many": many}
    samples = measure.alternate(blocks, rounds)
    found = {name: measure.summary(x) for name, x in samples.items()}
    median = lambda name: found[name]["wall_s"]["median"]  # noqa: E731
    work = bench.training_flops()
    tokens, longest = int(said["num_tokens"].sum()), int(said["num_tokens"].max())
    figures = {
        "rows": rows,
        "length": bench.batch.tokens.shape[1],
        "params": sum(x.size for x in jax.tree.leaves(bench.state.params)),
        "train_flops": work,
        "train": found["train"],
        "peak_flops_per_s": 1.0 / median("peak"),
        "mfu": measure.ratio(
            {clock: [work * x for x in values] for clock, values in samples["peak"].items()},
            samples["train"],
        ),
        "decode": {"one": found["one"], "many": found["many"]},
        "decode_steps": {"one": int(said_one["steps"]), "many": int(said["steps"])},
        "longest_row": longest,
        "tokens": tokens,
        "valid": bool(said["valid"].all()),
    }
    label = f"{size}, {rows} rows"
    lines = [
        measure.Line(f"{label}: training step, ms", 1e3 * median("train")),
        measure.Line(f"{label}: MFU of training", figures["mfu"]["wall_s"]["median"]),
        measure.Line(f"{label}: tokens said per s", tokens / median("many")),
        measure.Line(f"{label}: ms per chunk", 1e3 * median("many") / rows),
        measure.Line(f"{label}: ms per step of the loop",
                     1e3 * median("many") / figures["decode_steps"]["many"]),
        measure.Line(f"{size}, 1 row: ms per chunk", 1e3 * median("one")),
        measure.Line(f"{label}: steps beyond the longest row and its end marker",
                     figures["decode_steps"]["many"] - longest - 1, "<= 0"),
    ]  # fmt: skip
    return measure.Part(figures, lines)


def main(argv: list[str] | None = None) -> None:
    """Measure the sizes asked for, print their rows and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="micro,tiny", help="decoders; default %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="rows; default %(default)s")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--quick", action="store_true", help="micro alone, fewer rounds")
    parser.add_argument("--out", type=Path, help="default results/vla_BACKEND.json")
    options = parser.parse_args(argv)
    sizes = ["micro"] if options.quick else options.sizes.split(",")
    found: dict[str, Any] = {"machine": measure.machine(), "quick": options.quick}
    for size in sizes:
        part = speeds(size, options.batch, options.dtype, rounds=3 if options.quick else 9)
        found[size] = part.figures
        for line in part.lines:
            print(f"{line.what:<58} {line.value:10.4g} {line.target}", flush=True)
    out = options.out or RESULTS / f"vla_{found['machine']['backend']}.json"
    files.write_json(out, found)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
