"""What a run of `experiments.vla` says before it starts and when it is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import vla_plot
from experiments.vla_data import Problem
from experiments.vla_session import learner
from rlx.infra import files
from rlx.train.campaign import Entry

SHOWN = ("success", "expert_mse", "action_mse", "tokens", "invalid", "loss")


def describe(entry: Entry, problem: Problem) -> dict[str, Any]:
    """What will run, for `--dry_run`; a learner that cannot be is refused."""
    layout, made = problem.rows.layout, learner(entry.config, problem)
    shapes = jax.eval_shape(made.init, jax.random.key(0), made.hp)
    return {
        "workdir": str(entry.workdir),
        "samples": len(problem.source),
        "chunk": list(problem.spec.action.shape),
        "observations": {name: list(spec.shape) for name, spec in problem.spec.obs.items()},
        "tokenizer": layout.action.name,
        "vocabulary": layout.vocab_size,
        "sequence": layout.max_len,
        "prefix": problem.prefix,
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        "steps": entry.plan.total,
    }


def data_name(config: ConfigDict) -> str:
    """The task of made data, or the folders of recorded ones."""
    paths = (config.data.path or config.env.name).split(",")
    return "_".join(Path(path).name for path in paths)


def report(entry: Entry, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the curve, print the last evaluation; return what `result.json` holds."""
    config = entry.config
    named = {
        "task": data_name(config),
        "hz": config.data.hz,
        "tokenizer": config.data.tokenizer,
        "head": config.learner.head,
        "seed": config.seed,
    }
    read = config.learner.batch_size * config.data.max_len  # tokens of a step
    rows = [
        named
        | {"step": point["step"], "read": point["step"] * read}
        | {k: v[0] for k, v in point.items() if isinstance(v, list)}
        for point in facts["evals"]
    ]
    files.write_csv(entry.workdir / "curve.csv", rows)
    found = {key: value for key, value in facts.items() if key not in ("evals", "dead")}
    last = {name: rows[-1][name] for name in SHOWN if rows and name in rows[-1]}
    text = "  ".join(f"{name} {value:.3g}" for name, value in last.items())
    print(f"{entry.workdir.name}: {text}  ({found['updates_per_s']:.1f} updates/s)")
    return found | named | {"last": last}


def compare(workdirs: Sequence[Path], root: Path) -> int:
    """Write and print one table and one figure over finished runs; return the exit code."""
    rows = [row for path in workdirs for row in files.read_csv(path / "curve.csv")]
    last: dict[tuple, list[dict]] = {}
    for path in workdirs:
        own = files.read_csv(path / "curve.csv")[-1]
        last.setdefault((own["hz"], own["tokenizer"], own["head"]), []).append(own)
    table = [
        {"hz": hz, "tokenizer": name, "head": head, "runs": len(own)}
        | {k: own[0][k] for k in ("step", "read")}
        | {k: float(np.mean([float(one[k]) for one in own])) for k in SHOWN if k in own[0]}
        for (hz, name, head), own in last.items()
    ]
    files.write_csv(root / "compare.csv", table)
    print((root / "compare.csv").read_text(encoding="utf-8"))
    vla_plot.draw(rows, SHOWN, root / "compare.png")
    files.write_text(root / "compare.json", json.dumps(table, indent=2))
    print(f"written: {root / 'compare.csv'}, {root / 'compare.png'}")
    return 0
