"""What scaling runs measured: a table of curves, and the transitions that each level took."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.scaling_cost import cost
from rlx.infra import files
from rlx.infra.logging import Run
from rlx.scaling.curves import crossings
from rlx.scaling.flops import Flops
from rlx.types import Env

COLUMNS = (
    "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return,grad_step,flops,wall_s,"
    "num_envs,width,critic_loss_replay,critic_loss_recent,critic_param_norm"
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
    spent = cost(config, env)
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
                config.learner.critic_hidden[0],
                *(point[name][index] for name in COLUMNS[-3:]),
            )
            table.append(dict(zip(COLUMNS, values, strict=True)))
    return table


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """Write a table as CSV, in one step."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    files.write_text(path, text.getvalue())


def thresholds(config: ConfigDict, spent: Flops, facts: dict[str, Any], own: list[int]) -> dict:
    """Return {J: D_J in transitions, FLOPs until then, interval over seeds} for the runs `own`.

    `censored`: the interval's upper end lies beyond the run.
    """
    steps = np.array([point["env_steps"] for point in facts["evals"]])
    returns = np.array([[point["return_"][i] for i in own] for point in facts["evals"]])
    found = crossings(
        steps,
        normalized(config, returns),
        np.array(config.fit.thresholds),
        config.fit.bootstrap,
        interpolate=config.fit.interpolate,
    )
    table = {}
    for J, D, ends in zip(config.fit.thresholds, found.point, found.interval(), strict=True):
        updates = max(0.0, D - facts["prefill"]) * facts["utd_achieved"]
        table[f"{J:g}"] = {
            "env_steps": D,
            "flops": spent.per_update * updates + spent.per_env_step * D,
            "interval": ends,
            "censored": bool(np.isinf(ends[1])),
        }
    return table
