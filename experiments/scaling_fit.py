"""The laws through all finished runs of a sweep."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import scaling_table
from rlx.infra.errors import ConfigError
from rlx.scaling import report as laws
from rlx.scaling.errors import ScalingError


def check(config: ConfigDict) -> None:
    """Refuse, before anything is trained, settings of the fit with which no fit is possible."""
    fit = config.fit
    low, high = fit.return_range if len(fit.return_range) == 2 else (math.nan, math.nan)
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"fit.return_range is two rising numbers, got {fit.return_range}")
    if not fit.thresholds or not all(math.isfinite(level) for level in fit.thresholds):
        raise ConfigError(f"fit.thresholds is one finite number or more, got {fit.thresholds}")
    for name, least in (("bootstrap", 1), ("holdout", 0)):
        if fit[name] < least:
            raise ConfigError(f"fit.{name} is a whole number >= {least}, got {fit[name]}")
    if fit.delta is not None and not 0.0 <= fit.delta < math.inf:
        raise ConfigError(f"fit.delta is a number >= 0 or none, got {fit.delta}")


def fit(config: ConfigDict, root: Path) -> int:
    """Join the tables of the finished runs under `root`, fit and draw them in `root/fit/`."""
    results = [path for path in sorted(root.glob("utd_*/result.json")) if finished(path)]
    out = root / "fit"
    if not results:
        raise ConfigError(f"nothing to fit: no finished run under {root}")
    if out.exists() and not (out / "runs.csv").exists():
        raise ConfigError(f"{out} is there but not a fit of rlx: move it, or use another --workdir")
    joined: list[dict[str, Any]] = []
    for path in results:
        with (path.parent / "runs.csv").open(encoding="utf-8") as file:
            joined += csv.DictReader(file)
    scaling_table.write(out / "runs.csv", joined)
    options = {name: config.fit[name] for name in ("bootstrap", "interpolate", "delta", "holdout")}
    learner = config.learner
    if learner.name == "bro" and not learner.reset_at:
        options["reset_grad_steps"] = float(learner.reset_every)
    try:
        found = laws.report(out / "runs.csv", thresholds=tuple(config.fit.thresholds), **options)
        written = laws.write(found, out, overwrite=True)
    except ScalingError as error:
        raise ConfigError(f"no fit: {error} (the runs stay; --fit_only fits again)") from error
    print((out / "report.txt").read_text(encoding="utf-8"))
    print("\n".join(f"written: {path}" for path in (out / "runs.csv", *written)))
    return 0


def finished(path: Path) -> bool:
    """Say whether a `result.json` is that of a finished run."""
    return json.loads(path.read_text(encoding="utf-8")).get("status") == "done"
