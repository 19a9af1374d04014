"""Tables of scaling runs: one row per run and evaluation, and the fit over all of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import scaling_plan
from rlx.infra import files
from rlx.infra.errors import ConfigError
from rlx.infra.logging import Run
from rlx.scaling import report as laws
from rlx.types import Env

COLUMNS = (
    "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return,grad_step,flops,wall_s,num_envs"
).split(",")


def normalized(config: ConfigDict, returns: np.ndarray) -> np.ndarray:
    """Map raw returns to the scale of J, on which `fit.return_range` is 0 and 1000."""
    low, high = config.fit.return_range
    return 1000.0 * (np.asarray(returns, float) - low) / (high - low)


def living(runs: list[Run], facts: dict[str, Any]) -> list[int]:
    """Indices of the runs that stayed finite."""
    return [index for index, run in enumerate(runs) if run.id not in facts["dead"]]


def rows(
    config: ConfigDict, env: Env, runs: list[Run], facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return one row per run and evaluation; `utd` is the achieved one."""
    spent = scaling_plan.cost(config, env)
    table = []
    for index in living(runs, facts):
        for point in facts["evals"]:
            work = spent.per_update * point["grad_steps"] + spent.per_env_step * point["env_steps"]
            values = (
                config.learner.name,
                config.env.name,
                facts["utd_achieved"],
                config.learner.batch_size,
                runs[index].hp.get("lr", config.learner.lr),
                spent.critic_params,
                runs[index].seed,
                point["env_steps"],
                round(float(normalized(config, point["return_"][index])), 3),
                point["grad_steps"],
                work,
                round(point["wall_s"], 3),
                config.env.num_envs,
            )
            table.append(dict(zip(COLUMNS, values, strict=True)))
    return table


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """Write a table as CSV, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    files.write_text(path, text.getvalue())


def fit(config: ConfigDict, root: Path) -> int:
    """Join every `utd_*/runs.csv` into `root/runs.csv`, fit it, write `root/fit/`; print report and
    paths.
    """
    tables = sorted(root.glob("utd_*/runs.csv"))
    if not tables:
        raise ConfigError(f"nothing to fit: no finished run under {root}")
    joined: list[dict[str, Any]] = []
    for path in tables:
        with path.open(encoding="utf-8") as file:
            joined += csv.DictReader(file)
    write(root / "runs.csv", joined)
    options = {name: config.fit[name] for name in ("bootstrap", "interpolate", "delta", "holdout")}
    thresholds = tuple(config.fit.thresholds)
    found = laws.report(root / "runs.csv", thresholds=thresholds, **options)
    written = laws.write(found, root / "fit", overwrite=True)
    print((root / "fit" / "report.txt").read_text(encoding="utf-8"))
    print(f"table: {root / 'runs.csv'}")
    for path in written:
        print(f"written: {path}")
    return 0
