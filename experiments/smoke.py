"""The whole frame in under a minute: SAC on the pure-JAX pendulum, logged, saved, resumable.

  python -m experiments.smoke            goes on where it was stopped; --overwrite starts again

A good policy returns about -150 on average; this run ends above -200 (mean of 16 episodes).
"""

from __future__ import annotations

import sys

from experiments import scaling_laws
from rlx.infra.errors import one_line

CONFIG = "--config=configs/scaling_laws.py:smoke"
WORKDIR = "--workdir=results/smoke"


def main(argv: list[str] | None = None) -> int:
    """Run the smoke config of `experiments.scaling_laws`; return the exit code."""
    rest = sys.argv[1:] if argv is None else argv
    given = any(flag.startswith("--workdir") for flag in rest)
    return scaling_laws.main([CONFIG, *([] if given else [WORKDIR]), *rest])


if __name__ == "__main__":
    sys.exit(one_line(main))
