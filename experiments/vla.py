"""Train vision-language-action models on demonstrations and watch them act.

  python -m experiments.vla --tokenizer=fast,bins --hz=50      what the tokenizer changes
  python -m experiments.vla --head=flow --task=push --size=small --images
  python -m experiments.vla --data=FOLDER --format=lerobot --size=base --lora
  python -m experiments.vla --demo                             minutes on a CPU, ends with a figure
The same command goes on where it was stopped; `python -m rlx.serve WORKDIR` serves the result.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Set
from pathlib import Path

from ml_collections import ConfigDict

from experiments import vla_result
from experiments.vla_data import load
from experiments.vla_session import session
from rlx.infra import cli, distributed, errors, runtime
from rlx.infra.logging import Run
from rlx.train import campaign, sequence_checks

DEFAULT = "configs/vla.py"
SHORT = {
    "seed": "seed",
    "seeds": "num_seeds",
    "steps": "train.steps",
    "data": "data.path",
    "format": "data.format",
    "tokenizer": "data.tokenizer",
    "hz": "data.hz",
    "episodes": "data.episodes",
    "lr": "learner.lr",
    "batch_size": "learner.batch_size",
}
LISTS = ("seed", "tokenizer", "hz")
SWITCHES = ("images", "lora", "demo", "smoke")  # options of the config, as are the other three
OPTIONS = dict.fromkeys(SWITCHES, False) | {"task": "reach", "head": "tokens", "size": ""}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code (0, or 42 and 130 after a saved stop)."""
    runtime.start()
    argv = sys.argv[1:] if argv is None else argv
    argv = [f"{a}=true" if a[2:] in SWITCHES else a for a in argv]
    argv = cli.into_config(argv, DEFAULT, *OPTIONS)
    config, workdir, options = cli.start(DEFAULT, SHORT, argv, lists=LISTS, extra=OPTIONS)
    given, names = options.explicit, options.tokenizer
    if config.tag.endswith("demo") and "data.tokenizer" not in given:
        names = ("fast", "bins")
    seeds = options.seed if "seed" in given else tuple(range(config.num_seeds))
    root = workdir if "workdir" in given else Path("results/vla") / vla_result.data_name(config)
    sequence_checks.check(config)
    problem = functools.cache(lambda hz, name: load(config, hz, name))  # seeds share it
    of = lambda own: problem(own.config.data.hz, own.config.data.tokenizer)  # noqa: E731
    entries = [
        entry(config, root, hz, name, seed, problem(hz, name).rows.layout.max_len, given)
        for hz, name, seed in itertools.product(options.hz, names, seeds)
    ]
    plans = [vla_result.describe(own, of(own)) for own in entries]
    if options.dry_run:
        return print(json.dumps(plans, indent=2)) or 0
    code = campaign.run_all(
        entries,
        sequence_checks.opener(lambda own: session(own.config, of(own))),
        vla_result.report,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
    )
    workdirs = [own.workdir for own in entries]
    return code or distributed.on_main(lambda: vla_result.compare(workdirs, root), "comparison")


def entry(
    config: ConfigDict, root: Path, hz: int, tokenizer: str, seed: int, max_len: int, given: Set
) -> campaign.Entry:
    """One run of sequences of `max_len` tokens: its config and where it is kept."""
    own = ConfigDict(config.to_dict())
    own.data.hz, own.data.tokenizer, own.data.max_len, own.seed = hz, tokenizer, max_len, seed
    if {"train.tokens", "train.steps"} <= given:
        raise errors.ConfigError("train.tokens and train.steps are both given: use one of them")
    if "train.steps" in given:
        own.train.tokens = None
    elif own.train.tokens:
        own.train.steps = sequence_checks.steps(own)
    if "learner.decay_steps" not in given:
        own.learner.decay_steps = own.train.steps
    name = "_".join([f"{hz}hz", tokenizer, own.learner.head, own.tag, f"s{seed}"])
    run, plan = Run(f"s{seed}", seed), sequence_checks.plan(own)
    return campaign.Entry(own.lock(), {}, None, plan, [run], root / name)


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
