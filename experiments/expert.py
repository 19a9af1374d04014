"""Train the policy that walks OGBench's ant (or humanoid) in a given direction, with SAC.

  python -m experiments.expert --env=ant --workdir=results/expert_ant
  python -m experiments.make_data --env=antmaze-large --type=navigate --expert=results/expert_ant

400 000 steps of the ant as OGBench's own (Park et al. 2025, arXiv 2410.20092); a humanoid takes
forty million. Further flags are those of `experiments.offline`; the same command goes on.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from experiments import offline
from rlx.data.synth import expert
from rlx.infra import checkpoint
from rlx.infra.errors import one_line


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser("python -m experiments.expert", allow_abbrev=False)
    parser.add_argument("--env", choices=("ant", "humanoid"), default="ant")
    parser.add_argument("--workdir")
    options, rest = parser.parse_known_args(argv)
    workdir = options.workdir or f"results/expert_{options.env}"
    given = ["--agent=rlpd", f"--task=walk-{options.env}", f"--workdir={workdir}"]
    code = offline.main([*given, *rest])
    if not code and "--dry_run" not in rest:
        export(workdir)
        print(f"written: {workdir}/{expert.FILE}")
    return code


def export(workdir: str) -> None:
    """Write the mean of the first run's policy as `expert.load` reads it."""
    params = checkpoint.read_params(workdir)["params"]["policy"]["params"]["MLP_0"]
    dense = [params[f"Dense_{i}"] for i in range(len(params))]
    layers = [(np.array(layer["kernel"][0]), np.array(layer["bias"][0])) for layer in dense]
    kernel, bias = layers[-1]
    half = len(bias) // 2  # the second half is the logarithm of the standard deviation
    layers[-1] = kernel[:, :half], bias[:half]
    expert.save(workdir, layers)


if __name__ == "__main__":
    sys.exit(one_line(main))
