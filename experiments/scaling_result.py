"""What a finished scaling run says: `result.json`, a summary of two lines"""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import scaling_table
from experiments.scaling_cost import cost
from rlx.infra.logging import Run
from rlx.train.campaign import Entry
from rlx.types import Env


def result(config: ConfigDict, env: Env, runs: list[Run], facts: dict[str, Any]) -> dict[str, Any]:
    """Return `result.json`: what was asked, achieved and measured, with D_J and FLOPs per level.

    With several learning rates, `settings` has one part for each; the top level is the best one's.
    """
    spent, kept = cost(config, env), scaling_table.living(runs, facts)
    groups: dict[float, list[int]] = {}
    for index in kept:
        groups.setdefault(runs[index].hp.get("lr", config.learner.lr), []).append(index)
    parts = [
        {
            "learning_rate": lr,
            "seeds": [runs[i].seed for i in own],
            "eval_return": [facts["evals"][-1]["return_"][i] for i in own],
            "thresholds": scaling_table.thresholds(config, spent, facts, own),
        }
        for lr, own in groups.items()
    ]
    best = max(parts, key=lambda part: np.mean(part["eval_return"]))
    return {
        **{key: value for key, value in facts.items() if key not in ("evals", "dead")},
        "algo": config.learner.name,
        "env": config.env.name,
        "batch_size": config.learner.batch_size,
        **best,
        **({"settings": parts} if len(parts) > 1 else {}),
        "nan_runs": facts["dead"],
        "eval_steps": [point["env_steps"] for point in facts["evals"]],
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
    table = scaling_table.rows(entry.config, env, entry.runs, facts)
    scaling_table.write(entry.workdir / "runs.csv", table)
    found = result(entry.config, env, entry.runs, facts)
    print(summary(found))
    print(f"written: {entry.workdir / 'result.json'}")
    return found
