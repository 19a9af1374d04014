"""Best-of-N against guided sampling with a trained critic, at equal calls of the networks.

  python -m experiments.offline --agent=ifql --task=pointmaze-medium-navigate-singletask-task1-v0 \\
      --data=results/maze --small --seeds=3 --steps=6000 --n_step=10 --workdir=results/maze_ifql
  python -m experiments.guidance_policies results/maze_ifql own,learner.samples=8 \\
      bon,particles=8 smc,particles=4,alpha=0.3 svdd,particles=1,children=4,alpha=0

A method is its name and settings of `config.guidance`, or of any other section by their full name;
`own` is how the learner acts. The others are compared with the first. All play the same episodes;
intervals are 95 % bootstraps over episodes, each the mean over the runs. Writes `policies.csv`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.guidance_policies_act import policy, saved_config, with_method
from rlx.envs import host
from rlx.infra import checkpoint, errors, files, runtime
from rlx.train.host_evaluate import Episodes, evaluate

BOOTSTRAP = 5000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").replace("%", "%%"))
    parser.add_argument("workdir", type=Path)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode's reset")
    parser.add_argument("--lanes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/guidance"))
    options = parser.parse_args(argv)
    for name in ("episodes", "lanes"):
        if getattr(options, name) < 1:
            raise errors.ConfigError(
                f"--{name} is a whole number >= 1, got {getattr(options, name)}"
            )
    saved = saved_config(options.workdir)
    configs = [with_method(saved, text) for text in options.methods]
    runtime.start()
    params = checkpoint.read_params(options.workdir)
    rows, first = [], None
    with host.Pool(saved.env.name, options.lanes, 0, saved.data.frame_stack) as pool:
        for text, config in zip(options.methods, configs):
            start = time.perf_counter()
            act, runs, calls = policy(config, pool.spec, params)
            found = evaluate(act, pool, runs, options.episodes, options.seed, saved.data.chunk)
            first = first or found
            rows.append({"method": text, **calls, **compared(found, first)})
            shown = ", ".join(f"{k} {v:.3g}" for k, v in rows[-1].items() if k != "method")
            print(f"{text}: {shown}  ({time.perf_counter() - start:.0f} s)", flush=True)
            files.write_csv(options.out / "policies.csv", rows)
    print(f"written: {options.out / 'policies.csv'}")
    return 0


def compared(found: Episodes, first: Episodes) -> dict[str, float]:
    """Success in % and length in steps, and by how much they exceed those of the first method."""
    row = {"runs": found.success.shape[0], "episodes": found.success.shape[1]}
    for name, scale in (("success", 100.0), ("length", 1.0)):
        own, other = (scale * getattr(each, name).mean(0) for each in (found, first))
        row |= interval(name, own) | interval(f"{name}_more", own - other)
    return row


def interval(name: str, values: np.ndarray) -> dict[str, float]:
    """Mean over episodes and its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAP, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return {name: values.mean(), f"{name}_low": low, f"{name}_high": high}


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
