"""Launches that the tests of tpu/ share; `python tests/tpu/launches.py` rewrites the golden files.

Run that after a wanted change of what a backend writes, and read the difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tpu import accelerators, plan, render, sweep  # noqa: E402

GOLDEN = HERE / "golden"
PACKED = {"seed": "seed", "learner.lr": "lr"}
FLAGS = {"utd": "train.utd", "width": "width", "seeds": "seed"}
CONFIG = """
from configs.scaling_laws import FLAGS, PACKED, get_config


def get_sweep(arg=""):
    return {entries}
"""
BUCKET = "gs://our-runs/sweeps/first"
LAUNCHES = {
    "local": {"accelerator": "cpu", "processes": 2, "devices_per_process": 4},
    "slurm": {"accelerator": "H100:8", "slices": 2, "partition": "gpu"},
    "queued_resources": {"zone": "us-central1-a", "project": "lab", "spot": True},
    "xpk": {"cluster": "pods", "project": "lab", "zone": "us-central1-a", "spot": True},
    "jobset": {"slices": 2, "queue": "multislice-queue", "spot": True},
    "skypilot": {"spot": True},
}


def options(backend: str, **changes) -> plan.Options:
    """Return the options of the golden launch of a backend, with changes."""
    given = {"accelerator": "v5litepod-16"} | LAUNCHES[backend] | changes
    given["accelerator"] = accelerators.find(given["accelerator"])
    bucket = render.backend(backend).BUCKET
    base = {
        "name": "sac",
        "experiment": "scaling_laws",
        "config": "configs/scaling_laws.py:wide",
        "workdir": BUCKET if bucket else "results/sweeps/sac",
        "image": "gcr.io/lab/rlx:1" if backend in ("xpk", "jobset") else "",
    }
    return plan.Options(backend=backend, **(base | given))


def jobs(chosen: plan.Options, entries=None) -> list[plan.Job]:
    """Return the jobs of `entries`, by default two UTDs x three seeds."""
    if entries is None:
        entries = [{"train.utd": utd, "seed": s} for utd in (1.0, 2.0) for s in (0, 1, 2)]
    return plan.expand(sweep.Sweep(entries, PACKED, FLAGS), chosen)


def rendered(backend: str, **changes) -> dict[str, str]:
    """Return {file name: text} of a launch."""
    chosen = options(backend, **changes)
    return render.backend(backend).render(jobs(chosen), chosen)


def sweep_file(folder: Path, entries: object) -> str:
    """Write a config of scaling_laws with this sweep; return its path."""
    file = folder / "swept.py"
    file.write_text(CONFIG.format(entries=repr(entries)), encoding="utf-8")
    return str(file)


def first_job(backend: str, **changes) -> tuple[plan.Job, plan.Options]:
    """Return the first job of a launch, and its options."""
    chosen = options(backend, **changes)
    return jobs(chosen)[0], chosen


if __name__ == "__main__":
    for name in LAUNCHES:
        folder = GOLDEN / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in rendered(name).items():
            (folder / file).write_text(text, encoding="utf-8")
