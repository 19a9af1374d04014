"""What `experiments.scaling_laws` writes: a table of runs, `result.json`, the fit over tables."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rlx import agents
from rlx.data.buffer import buffer_bytes
from rlx.infra import files
from rlx.infra.errors import ConfigError
from rlx.infra.logging import Run
from rlx.scaling import flops
from rlx.scaling import report as laws
from rlx.scaling.curves import crossings
from rlx.train.campaign import Entry
from rlx.types import Env

COLUMNS = (
    "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return,grad_step,flops,wall_s,num_envs"
).split(",")


def net(config: ConfigDict, env: Env) -> tuple:
    """Return (obs size, action size, critic widths, actor widths)."""
    obs, action = (math.prod(spec.shape) for spec in (env.spec.obs, env.spec.action))
    return obs, action, tuple(config.learner.critic_hidden), tuple(config.learner.actor_hidden)


def cost(config: ConfigDict, env: Env) -> flops.Flops:
    """FLOPs of the learner per update and per transition."""
    learner = config.learner
    return flops.sac(*net(config, env), learner.batch_size, learner.ensemble, learner.layer_norm)


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


def result(config: ConfigDict, env: Env, runs: list[Run], facts: dict[str, Any]) -> dict[str, Any]:
    """Return `result.json`: what was asked, achieved and measured, with D_J and FLOPs per
    threshold.
    """
    spent, kept = cost(config, env), living(runs, facts)
    steps = np.array([point["env_steps"] for point in facts["evals"]])
    returns = np.array([[point["return_"][i] for i in kept] for point in facts["evals"]])
    levels = np.array(config.fit.thresholds)
    found = crossings(
        steps,
        normalized(config, returns),
        levels,
        config.fit.bootstrap,
        interpolate=config.fit.interpolate,
    )
    thresholds = {}
    for level, point, interval in zip(levels, found.point, found.interval(), strict=True):
        updates = max(0.0, point - facts["prefill"]) * facts["utd_achieved"]
        work = spent.per_update * updates + spent.per_env_step * point
        thresholds[f"{level:g}"] = {"env_steps": point, "flops": work, "interval": interval}
    return {
        **{key: value for key, value in facts.items() if key not in ("evals", "dead")},
        "algo": config.learner.name,
        "env": config.env.name,
        "batch_size": config.learner.batch_size,
        "learning_rate": config.learner.lr,
        "seeds": [run.seed for run in runs],
        "nan_runs": facts["dead"],
        "eval_return": returns[-1],
        "eval_steps": steps,
        "thresholds": thresholds,
        "model_size": spent.critic_params,
        "flops_per_update": spent.per_update,
        "flops_paper_per_update": spent.flops_paper,
    }


def summary(result: dict[str, Any]) -> str:
    """Return the two lines a user wants to see after a run."""
    returns = np.asarray(result["eval_return"])
    reached = [
        level for level, found in result["thresholds"].items() if np.isfinite(found["env_steps"])
    ]
    best = (
        f"J {reached[-1]} at {result['thresholds'][reached[-1]]['env_steps']:,.0f}"
        if reached
        else "none"
    )
    return (
        f"utd {result['utd']:g} (achieved {result['utd_achieved']:.4f})  "
        f"batch {result['batch_size']}  lr {result['learning_rate']:g}  "
        f"{result['env_steps']:,} env steps  {result['grad_steps']:,} updates\n"
        f"return {returns.mean():.1f} (seeds {returns.min():.1f} to {returns.max():.1f})  "
        f"highest threshold reached: {best}  "
        f"{result['updates_per_s']:,.0f} updates/s over all seeds  "
        f"compile {result['compile_s']['wall']:.0f} s"
    )


def report(entry: Entry, env: Env, facts: dict[str, Any]) -> dict[str, Any]:
    """Write `runs.csv` of a finished entry, print a summary; return what `result.json` holds."""
    write(entry.workdir / "runs.csv", rows(entry.config, env, entry.runs, facts))
    found = result(entry.config, env, entry.runs, facts)
    print(summary(found))
    print(f"written: {entry.workdir / 'result.json'}")
    return found


def describe(entry: Entry, env: Env) -> dict[str, Any]:
    """Return what an entry would run and hold, without compiling anything."""
    config, plan = entry.config, entry.plan
    learner = agents.make(config.learner, env.spec)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    obs, action, *_ = net(config, env)
    return {
        "workdir": str(entry.workdir),
        "runs": [run.id for run in entry.runs],
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        "buffer_gb": len(entry.runs) * buffer_bytes(entry.sizes.capacity, obs, action) / 1e9,
        "flops_per_update": cost(config, env).per_update,
        "batch_size": config.learner.batch_size,
        "lr": config.learner.lr,
        "utd": config.train.utd,
        "vector_steps_per_iteration": plan.H,
        "updates_per_iteration": plan.G,
        "prefill_env_steps": plan.prefill * plan.num_envs,
        "env_steps": plan.total,
    }


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
