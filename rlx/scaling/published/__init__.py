"""Published coefficients and curves shipped with rlx, read through importlib.resources.

`README.md` in this folder says where each file comes from.  Data: D_J(s) = M * (c + (s /
b)**-alpha) in env steps, M the pooled scale of the benchmark (Rybkin et al., 2025); see
`PublishedBenchmark`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rlx.scaling.errors import unknown


@dataclass(frozen=True)
class PublishedBenchmark:
    """What a published benchmark needs beside its fits (notebook configuration of the cited code).

    data_scale: M, env steps per unit of normalised D, of the runs at the rule's hyper-parameters.
    constant_scale: M of the runs at constant hyper-parameters (another pool of runs, so another
    scale).
    model_size: N, critic parameters.
    delta: price of one transition, FLOPs.  utd_range: lowest and highest UTD of the sweep.
    """

    data_scale: float
    constant_scale: float
    model_size: float
    delta: float
    utd_range: tuple[float, float]


# Scaling specification 3.2: N and delta are printed in the notebooks of prestonfu/qscaled; M is
# derived from the printed Dmin at J = 800 (constant runs: 9.13e4 / 0.90863 and 4.04e5 / 1.68181, so
# to 3 digits only); the UTD ranges are those of the published panels.
BENCHMARKS = {
    "dmc": PublishedBenchmark(72_539.0, 100_480.0, 4.92e6, 1e10, (0.25, 8.0)),
    "gym": PublishedBenchmark(210_512.0, 240_220.0, 1.5e5, 4e9, (0.25, 16.0)),
}


# Lowest threshold per task of the BRO study with model sizes (prestonfu/model_scaling,
# scripts/constants.py).
COS_BASES = {
    "acrobot-swingup": 200.0,
    "cheetah-run": 450.0,
    "finger-turn": 400.0,
    "fish-swim": 200.0,
    "hopper-hop": 150.0,
    "quadruped-run": 200.0,
    "walker-run": 350.0,
}


# Names that the published tables use -> environments of this house, where it has the task.
ENVIRONMENTS = {
    "acrobot-swingup": "AcrobotSwingup",
    "cartpole-swingup": "CartpoleSwingup",
    "cheetah-run": "CheetahRun",
    "dog-stand": None,
    "finger-spin": "FingerSpin",
    "finger-turn": None,  # of two difficulties; the table does not say which
    "fish-swim": "FishSwim",
    "hopper-hop": "HopperHop",
    "humanoid-stand": "HumanoidStand",
    "quadruped-run": None,
    "quadruped-walk": None,
    "walker-run": "WalkerRun",
    "walker-walk": "WalkerWalk",
    "Ant-v4": "brax/ant",
    "HalfCheetah-v4": "brax/halfcheetah",
    "Humanoid-v4": "brax/humanoid",
    "Walker2d-v4": "brax/walker2d",
}


def benchmark(name: str) -> PublishedBenchmark:
    """The constants of a published benchmark, or an error that lists them."""
    if name not in BENCHMARKS:
        raise unknown("published benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]


def path(name: str) -> Path:
    """Path of a shipped file: `bro_dmc_curves.csv.gz`, `data_fits.csv` or `hparam_rules.csv`."""
    return Path(str(resources.files(__name__).joinpath(name)))


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a shipped CSV file, as text."""
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
