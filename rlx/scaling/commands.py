"""Command lines that reproduce the fitted setting: what `recommend` and `suggest` tell to run."""

from __future__ import annotations

import math

import numpy as np

from rlx.scaling import flops, published, rules
from rlx.scaling.cells import Cell
from rlx.scaling.errors import ScalingError
from rlx.scaling.forecast import Forecast

PROGRAM = "python -m experiments.scaling_laws"
RESULTS = "results/scaling_laws"  # its default workdirs, one per environment


def command(
    result: dict,
    run: dict,
    run_config: str | None = None,
    workdir: str | None = None,
    seeds: str = "",
) -> str:
    """A ready command line; settings that the fit does not know are left to the config. A comment
    for a published task that this house does not have.

    Args:
      run: task, utd, env_steps and, where known, batch_size, learning_rate, width.
      run_config: the sweep's own config, such as configs/scaling_laws.py:study.
    """
    config, task = result["config"], run["task"]
    env = published.ENVIRONMENTS.get(task, task)
    if env is None:
        return f"# {task}: published, but no environment of this house"
    parts = [PROGRAM, f"--config={run_config}" if run_config else ""]
    if config["algo"] in flops.LEARNERS:
        parts.append(f"--algo={config['algo']}")
    if config.get("num_envs"):
        parts.append(f"--config.env.num_envs={config['num_envs']}")
    parts.append(f"--utd={run['utd']:g}")
    for flag, name in (("batch_size", "batch_size"), ("lr", "learning_rate"), ("width", "width")):
        if run.get(name):
            parts.append(f"--{flag}={_exact(run[name])}")
    parts += [f"--env={env}", f"--steps={run['env_steps']}"]
    parts += [f"--workdir={workdir}" if workdir else "", seeds]
    return " ".join(part for part in parts if part)


def _exact(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def cell_settings(cells: dict[tuple, Cell]) -> list[dict]:
    """What the measured cells ran with, for fit.json; `cells` by (task, sigma[, N])."""
    return [
        {
            "task": c.task, "utd": c.utd, "size": c.model_size, "batch_size": c.batch_size,
            "learning_rate": c.learning_rate, "env_steps": c.end,
        }
        for c in cells.values()
    ]  # fmt: skip


def measured(result: dict, f: Forecast, at: dict[str, float], task: str) -> dict:
    """The run whose random seeds join the measured cell of a task at a point: the same batch size,
    learning rate (both are part of what makes a cell) and length."""
    cells = (result if f.axis == "utd" else result["size_axis"]).get("cells")
    if cells is None:
        raise ScalingError("this fit is of an older rlx, without the runs' settings: fit it again")
    (own,) = (c for c in cells if c["task"] == task and all(c[n] == v for n, v in at.items()))
    run = {name: own[name] for name in ("task", "utd", "batch_size", "learning_rate")}
    run |= {"width": width_at(result, at), "size": at.get("size")}
    return run | {"env_steps": math.ceil(own["env_steps"])}


def fresh(result: dict, f: Forecast, at: dict[str, float], task: str, data: float) -> dict:
    """A run at a point by the fitted rules, as long as `data` pooled env steps are for the task."""
    batch, rate = settings(result, f, at)
    return {
        "task": task, "utd": float(f"{at['utd']:.3g}"), "width": width_at(result, at),
        "size": at.get("size"), "batch_size": batch.get(task), "learning_rate": rate.get(task),
        "env_steps": math.ceil(data * task_scale(result, f)[task]),
    }  # fmt: skip


def workdir(result: dict, run: dict, first: int, seeds: int) -> str:
    """A folder of its own for suggested seeds: that of the sweep is claimed by its own seeds."""
    algo = result["config"]["algo"]
    name = run["task"].replace("/", "_") + ("" if algo in ("sac", "", None) else f"_{algo}")
    point = f"utd_{run['utd']:g}" + (f"_w{run['width']}" if run["width"] else "")
    point += f"_n{run['size']:.3g}" if run.get("size") and not run["width"] else ""
    return f"{RESULTS}/{name}_more/{point}_s{first}" + (f"-{first + seeds - 1}" * (seeds > 1))


def task_scale(result: dict, f: Forecast) -> dict[str, float]:
    """Per task what a pooled D is of its own."""
    return result["task_scale"] if f.axis == "utd" else result["size_axis"]["task_scale"]


def settings(result: dict, f: Forecast, at: dict[str, float]) -> tuple[dict, dict]:
    """Batch size and learning rate by task, rounded as published; empty where unknown."""
    if f.axis == "utd":
        return (
            _by_task(result["rules"]["batch_size"], at["utd"], rules.tabulated_batch),
            _by_task(result["rules"]["learning_rate"], at["utd"], rules.tabulated_rate),
        )
    part = result["size_axis"]
    rate = _by_task(part["learning_rate"], at["utd"], rules.tabulated_rate)
    rule = part["batch_rule"]
    if rule is None:
        return {}, rate
    x, z = np.log(at["utd"]), np.log(at["size"])
    b = -np.inf if rule["log_b"] is None else rule["log_b"]
    pooled = float(
        np.exp(rule["log_a"] - rule["alpha"] * x - np.logaddexp(0, b - rule["beta"] * z))
    )
    return {t: rules.tabulated_batch(pooled * v) for t, v in rule["task_factor"].items()}, rate


def _by_task(rule: dict | None, utd: float, rounded) -> dict:
    if rule is None:
        return {}
    return {task: rounded(value * utd ** rule["slope"]) for task, value in rule["at_utd_1"].items()}


def width_at(result: dict, at: dict[str, float]) -> int | None:
    """Network width at a point; a fit in the UTD alone has one where its table has several."""
    if "size" in at:
        return width_of(result, at["size"])
    size = result["config"]["model_size"]
    return next((round(w) for n, w in result["widths"] if n == size and len(result["widths"]) > 1),
                None)  # fmt: skip


def width_of(result: dict, size: float) -> int | None:
    """Network width for a model size: of the table where it has that size, by the nets given at the
    fit (`net`), else between the widths of the table; None when neither says."""
    net, pairs = result["config"].get("net"), result["widths"]
    exact = [w for n, w in pairs if n == size]
    if len(exact) == 1 and len(pairs) > 1:
        return round(exact[0])
    if net is not None:
        obs, action, critic_hidden, _ = net
        return flops.width_for(size, obs + action, len(critic_hidden))
    if len(pairs) < 2:
        return None
    sizes, widths = np.log(np.array(pairs)).T
    return round(math.exp(np.interp(math.log(size), sizes, widths)))
