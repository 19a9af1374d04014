"""What an offline run says before it starts and when it is finished: tables and a figure."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from experiments import offline_plot
from rlx.data.trajectories import Dataset
from rlx.infra import files
from rlx.train.campaign import Entry

MEASURED = ("success", "return_", "score", "q")


def describe(entry: Entry, dataset: Dataset) -> dict[str, Any]:
    """What will run: for `--dry_run`."""
    plan, rows = cast(Any, entry.plan), dataset.train  # an OfflinePlan
    return {
        "task": dataset.name,
        "agent": entry.config.learner.name,
        "workdir": str(entry.workdir),
        "runs": [run.id for run in entry.runs],
        "transitions": len(rows.index),
        "data_mb": round(sum(np.asarray(x).nbytes for x in vars(rows).values()) / 1e6, 1),
        "shapes": [list(rows.obs.shape[1:]), list(rows.action.shape[1:])],
        "offline_steps": plan.offline_steps,
        "online_steps": plan.online_steps,
        "updates": plan.grad_steps(plan.total),
        "settings": entry.hp,
    }


def introduction(entry: Entry, dataset: Dataset) -> str:
    """One or two lines on what is learned from what: where online batches come from, too."""
    plan, train = cast(Any, entry.plan), entry.config.train
    text = (
        f"{entry.config.learner.name} on {dataset.name}: {len(dataset.train.index):,} transitions, "
        f"{len(entry.runs)} runs, {plan.offline_steps:,} offline steps"
    )
    if not plan.online_steps:
        return text
    parts = "half from the data, half from what was collected"
    if not train.balanced_sampling:
        parts = "uniform over the data and what was collected, as one set"
    return f"{text}, {plan.online_steps:,} online steps\nonline batches: {parts}"


def report(entry: Entry, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the curve and its figure, print a summary; return what `result.json` holds."""
    runs, evals, plan = entry.runs, facts["evals"], cast(Any, entry.plan)
    kept = [i for i, run in enumerate(runs) if run.id not in facts["dead"]]
    rows = [
        {
            "agent": entry.config.learner.name,
            "tag": entry.config.tag,
            "task": entry.config.env.name,
            "run": runs[i].id,
            "seed": runs[i].seed,
            **dict(runs[i].hp),
            "step": point["step"],
            **{name: values[i] for name, values in point.items() if isinstance(values, list)},
        }
        for point in evals
        for i in kept
    ]
    files.write_csv(entry.workdir / "curve.csv", rows)
    found = {key: value for key, value in facts.items() if key not in ("evals", "dead")}
    found |= {"agent": entry.config.learner.name, "task": entry.config.env.name}
    found |= {"nan_runs": facts["dead"], "runs": {}}
    last = evals[-1] if evals else {}
    for i in kept:
        own = {name: values[i] for name, values in last.items() if isinstance(values, list)}
        found["runs"][runs[i].id] = {"seed": runs[i].seed, **dict(runs[i].hp), **own}
    print(summary(found))
    offline_plot.draw(rows, entry.workdir / "curve.png", plan.offline_steps)
    print(f"written: {entry.workdir / 'result.json'}, curve.csv, curve.png")
    return found


def summary(found: dict[str, Any]) -> str:
    """One line per setting, mean over its seeds, and one on speed."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in found["runs"].values():
        named = {k: v for k, v in run.items() if k not in ("seed", *MEASURED)}
        groups.setdefault("  ".join(f"{k} {v:g}" for k, v in named.items()), []).append(run)
    lines = []
    for name, own in groups.items():
        means = "  ".join(
            f"{key.rstrip('_')} {np.mean([run[key] for run in own]):.3g}"
            f" [{min(run[key] for run in own):.3g}, {max(run[key] for run in own):.3g}]"
            for key in MEASURED
            if key in own[0]
        )
        lines.append(f"{found['agent']}  {name}  {means}  ({len(own)} seeds)".replace("    ", "  "))
    speed = (
        f"{found['grad_steps']:,} updates, {found['updates_per_s']:,.0f} updates/s over all runs"
    )
    return "\n".join([*lines, f"{speed}, compile {found['compile_s']:.0f} s"])
