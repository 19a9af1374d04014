"""notebooks/pareto.ipynb runs from top to bottom on shipped curves and on own runs."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import synthetic

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "pareto.ipynb"
COLUMNS = (
    "algo,task,utd,batch_size,learning_rate,model_size,seed,env_step,return,grad_step,flops,wall_s,num_envs"
).split(",")


def _write_runs(folder: Path) -> None:
    """Synthetic run directories, one per UTD, in the row format of the driver."""
    truth = synthetic.Truth()
    for utd in (0.5, 1.0, 2.0, 4.0):
        table = synthetic.sweep(truth, [utd], 4, np.random.default_rng(int(2 * utd)), points=60)
        hp = {"algo": "sac", "task": "toy", "utd": utd, "model_size": 1e5}
        hp |= {name: float(table[name][0]) for name in ("batch_size", "learning_rate")}
        rows = [{"schema": 1, "hp": hp}]
        for step, seed, value in zip(table["env_step"], table["seed"], table["return"]):
            rows.append({"env_steps": step, "seed": int(seed), "eval/return": value})
        run = folder / f"utd_{utd}"
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_table(path: Path) -> None:
    """A synthetic sweep as the experiment writes its own: the same columns, one row per point."""
    table = synthetic.sweep(
        synthetic.Truth(), (0.5, 1.0, 2.0, 4.0, 8.0), 4, np.random.default_rng(0), points=60
    )
    rows = len(table["return"])
    table |= {"task": np.full(rows, "CartpoleSwingup"), "num_envs": np.full(rows, 8)}
    table["grad_step"] = np.round(table["utd"] * table["env_step"])
    table["flops"] = table["grad_step"] * 1e9
    table["wall_s"] = table["grad_step"] / 1e3
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(table[name] for name in COLUMNS)))


def test_the_committed_notebook_has_no_outputs_and_trains_nothing():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    source = "\n".join("".join(c["source"]) for c in code)
    for room in ("agents", "train", "envs", "infra"):
        assert f"rlx.{room}" not in source
    assert "jax" not in source


def test_the_notebook_runs_on_shipped_curves_our_results_and_own_runs(tmp_path, monkeypatch):
    """In a folder whose experiments/results holds a table of the shipped kind."""
    _write_runs(tmp_path / "runs")
    results = tmp_path / "experiments" / "results"
    results.mkdir(parents=True)
    _write_table(results / "scaling_laws_cartpole.csv")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(c for c in notebook.cells if "MY_RUNS = None" in c.source)
    settings.source = settings.source.replace(
        "MY_RUNS = None", f"MY_RUNS = {str(tmp_path / 'runs' / '*')!r}"
    )
    settings.source = settings.source.replace(
        "MY_OPTIONS = {}", "MY_OPTIONS = {'interpolate': True}"
    )
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    shown = [_images(cell) for cell in cells]
    drawing = [len(re.findall(r"^show\(", cell.source, re.M)) for cell in cells]
    assert sum(drawing) == 8 and all(n == draws for n, draws in zip(shown, drawing) if draws)
    printed = "".join(map(_printed, cells))
    assert "published dmc: UTD* = 3.02e+11 * F**-0.738" in printed
    assert "walker-run, UTD 2, J = 700" in printed
    parity, improved = (_printed(c) for c in cells if 'joint("cos' in c.source)
    assert "Dmin 376,211" in parity and "alpha 1.004" in parity and "beta 0.904" in parity
    assert "cheapest way to the top level: UTD 4.14" in parity and "N 2,134,96" in parity
    assert "fitted without it, all levels: median |error| 8.2 %" in parity
    assert "batch 203" in improved and "median |error|" in improved
    assert "new point: UTD" in printed or "more seeds: UTD" in printed
    assert "no experiments/results" not in printed and "set MY_RUNS" not in printed
    ours = next(c for c in cells if "cartpole = nearest_file" in c.source)
    mine = next(c for c in cells if c.source.startswith("if MY_RUNS is None"))
    for cell, task in ((ours, "CartpoleSwingup"), (mine, "toy")):
        assert _images(cell) >= 4  # curves, data, frontier, budget, at times extrapolation
        text = _printed(cell)
        assert "DATA: predicted D_J" in text and "BUDGET: cheapest way to each J" in text
        assert "run UTD" in text and f"{task}: batch size" in text
    assert "run UTD" in printed.split("published dmc")[1].split("DATA:")[0]  # BRO's own advice


def _images(cell) -> int:
    """Number of PNGs of a real size that a cell showed."""
    data = [o.get("data", {}).get("image/png", "") for o in cell.outputs]
    return sum(base64.b64decode(png).startswith(b"\x89PNG") and len(png) > 5_000 for png in data)


def _printed(cell) -> str:
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")
