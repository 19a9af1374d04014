"""notebooks/pareto.ipynb runs from top to bottom on shipped curves and on own runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "pareto.ipynb"


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


def test_the_committed_notebook_has_no_outputs_and_trains_nothing():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    source = "\n".join("".join(c["source"]) for c in code)
    for room in ("agents", "train", "envs", "infra"):
        assert f"rlx.{room}" not in source
    assert "jax" not in source


def test_the_notebook_runs_on_shipped_curves_and_on_own_runs(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    _write_runs(tmp_path / "runs")
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
    start = time.monotonic()
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert time.monotonic() - start < 60
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    images = [o for o in outputs if "image/png" in o.get("data", {})]
    assert "published dmc: UTD* = 3.02e+11 * F**-0.738" in printed
    assert "walker-run, UTD 2, J = 700" in printed
    assert printed.count("run UTD") == 2 and "toy: batch size" in printed
    assert len(images) >= 10
