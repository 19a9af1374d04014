"""The result of a fit: the dict of `fit.json` and, beside it, the bootstrap replicates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rlx.scaling.errors import ScalingError

VERSION = 2  # of fit.json; 2: model-size axis, seconds, overfitting, task scales, samples.npz
SAMPLES = "samples.npz"


class Result(dict):
    """Strict-JSON content of `fit.json`; `samples` {name: [K, ...]} bootstrap replicates.

    Without samples (published coefficients, one random seed, a lost samples.npz) intervals of new
    questions are unavailable.
    """

    def __init__(self, content: dict, samples: dict[str, np.ndarray] | None = None):
        super().__init__(content)
        self.samples = dict(samples or {})


def samples_of(result: dict) -> dict[str, np.ndarray]:
    """The replicates of a result; empty for a plain dict."""
    return getattr(result, "samples", {})


def write(result: dict, out_dir: str | Path, overwrite: bool = False) -> list[Path]:
    """Write fit.json, report.txt, the figures (PNG and SVG) and samples.npz; refuses to replace a
    fit.json unless told to."""
    from rlx.scaling import plots, text

    out = Path(out_dir)
    if (out / "fit.json").exists() and not overwrite:
        raise ScalingError(f"{out / 'fit.json'} exists; add --overwrite or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "fit.json").write_text(
        json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    (out / "report.txt").write_text(text.render(result), encoding="utf-8")
    paths = [out / "fit.json", out / "report.txt", *plots.write_all(result, out)]
    (out / SAMPLES).unlink(missing_ok=True)  # never replicates of another fit
    samples: dict[str, Any] = samples_of(result)  # Any: a name could be an option of savez
    if samples:
        np.savez_compressed(out / SAMPLES, **samples)
        paths.append(out / SAMPLES)
    return paths


def load(out_dir: str | Path) -> Result:
    """Read back a report directory (or its fit.json)."""
    path = Path(out_dir) / "fit.json" if Path(out_dir).suffix != ".json" else Path(out_dir)
    if not path.exists():
        raise ScalingError(
            f"no fit.json in {out_dir}; make one with: python -m rlx.scaling fit TABLE --out "
            f"{out_dir}"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("version") != VERSION:
        raise ScalingError(
            f"{path}: version {content.get('version')}, this rlx reads {VERSION}; fit it again"
        )
    samples = {}
    if (path.parent / SAMPLES).exists():
        with np.load(path.parent / SAMPLES, allow_pickle=False) as arrays:
            samples = {name: arrays[name] for name in arrays.files}
    return Result(content, samples)
