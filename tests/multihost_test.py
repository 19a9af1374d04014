"""Two processes are one program: the same numbers, one set of files, one end.

Real processes with fake CPU devices, joined by gloo. Tolerances are those of the specification:
parameters 1e-5 after 20 updates, 1e-3 after 50, losses 1e-2 to 200. No timing claims: 8 fake
devices share two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from rlx.infra import checkpoint
from rlx.infra.files import read_csv

# Prefill, then updates on a 1 x 8 mesh; process 0 saves parameters, loss sums and a checkpoint.
TRAIN = """
import sys
sys.path.insert(0, "tests")
from rlx.infra import checkpoint, distributed, runtime
runtime.start()
import jax, numpy as np
from toys import tiny

algo, updates, out, store, restored = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
assert len(jax.devices()) == 8
program = tiny(16, mesh=(1, 8), algo=algo)
saved, losses, last = {}, [], 0.0
if restored:
    state, host = checkpoint.Checkpoints(restored).restore(program.compiled.template)
    assert host == {"note": 1}, host
else:
    state = program.run(program.start([0]), 4, 1, 0, random=True)
while int(state.grad_steps) < updates:
    lengths = (np.int32(1), np.int32(1), np.int32(10), np.bool_(False))
    state, report = program.compiled.chunk(state, *lengths)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(report))
    report = jax.device_get(report)
    assert bool(report.alive.all())
    total = report.metrics.learner["critic_loss"]
    losses.append(total - last)
    last, count = total, int(state.grad_steps)
    if count in (20, 50):
        flat = jax.tree.leaves(jax.device_get((state.learner.params, state.learner.target_params)))
        saved[f"params_{count}"] = np.concatenate([leaf.ravel() for leaf in flat])
    if count == 20 and store:
        checkpoints = checkpoint.Checkpoints(store)
        checkpoints.save(int(state.step), state, {"note": 1}, {"params": state.learner.params})
        checkpoints.close()
returns, _ = jax.device_get(program.compiled.evaluate(state))
if distributed.is_main():
    np.savez(out, losses=np.array(losses), returns=returns, **saved)
"""

# Agreements and what becomes of an error that only process 0 meets.
AGREE = """
import sys
from rlx.infra import distributed, errors, runtime

def main():
    runtime.start()
    me = distributed.process_index()
    assert distributed.process_count() == 2 and distributed.is_main() == (me == 0)
    for turn in range(3):
        assert distributed.exchange({"me": me, "turn": turn}, "turn") == [
            {"me": 0, "turn": turn}, {"me": 1, "turn": turn}]
    assert distributed.broadcast(f"from {me}", "who") == "from 0"
    assert distributed.any_process(me == 1, "any") and not distributed.any_process(False, "none")
    assert distributed.on_main(lambda: {"index": me}, "index") == {"index": 0}
    distributed.barrier("before")
    print("agreed", file=sys.stderr)
    return {"end": lambda: 0, "refuse": refuse, "bug": bug, "astray": astray}[sys.argv[1]]()

def refuse():
    distributed.on_main(refused, "claim")

def refused():
    raise errors.ConfigError("the workdir is taken")

def bug():
    if not distributed.is_main():
        raise KeyError("only process 1 knows")
    distributed.barrier("never")

def astray():
    distributed.barrier("here" if distributed.is_main() else "there")

sys.exit(errors.one_line(main))
"""

FLAGS = [
    "--config=configs/scaling_laws.py:smoke",
    "--config.env.num_envs=8",
    "--config.learner.critic_hidden=16,16",
    "--config.learner.actor_hidden=16,16",
    "--config.eval.episodes=8",
]
SHORT = [*FLAGS, "--batch_size=64", "--steps=1200"]
# Long enough to be stopped in the middle; with one device in each process.
LONG = [
    *FLAGS,
    "--batch_size=16",
    "--steps=3000",
    "--config.train.log_every=100",
    "--config.train.eval_every=1000",
    "--config.train.chunk_seconds=0.05",
    "--config.checkpoint.every_steps=1000",
]


def environment(index: int, count: int, devices: int, port: int, **more: str) -> dict[str, str]:
    """The variables of process `index`; with `count` 1 those of a program of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    if count > 1:
        env |= {"RLX_COORDINATOR": f"127.0.0.1:{port}", "RLX_NUM_PROCESSES": str(count)}
        env |= {"RLX_PROCESS_ID": str(index)}
    return env | more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(args: list[str], count: int = 2, devices: int = 4) -> list[subprocess.Popen]:
    """Start `python args` as `count` processes; files of process 1 are marked by their mode."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *args], cwd=ROOT, env=environment(index, count, devices, port),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            umask=0o077 if index else 0o022,
        )
        for index in range(count)
    ]  # fmt: skip


def end(processes: list[subprocess.Popen], timeout: float = 240) -> list[tuple[int, str, str]]:
    """Wait for all; return (exit code, stdout, stderr) of each. None outlives the test."""
    until = time.monotonic() + timeout
    try:
        texts = [p.communicate(timeout=max(1, until - time.monotonic())) for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, out, err) for p, (out, err) in zip(processes, texts, strict=True)]


def train(folder: Path, count: int, updates: int, algo="sac", store="", restored="", timeout=300):
    """Numbers of TRAIN on 8 devices of `count` processes."""
    out = str(folder / f"{algo}_{count}_{updates}_{bool(restored)}")
    args = ["-c", TRAIN, algo, str(updates), out, str(store), str(restored)]
    done = end(start(args, count, 8 // count), timeout)
    assert [code for code, *_ in done] == [0] * count, done
    return dict(np.load(out + ".npz"))


def command(workdir: Path, flags: list[str]) -> list[str]:
    return ["-m", "experiments.scaling_laws", *flags, f"--workdir={workdir}"]


def rows_of(workdir: Path) -> list[dict]:
    """Whole rows of a solo run, which another process may be writing."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines[1:] if line.endswith("\n")]


def lasting(workdir: Path) -> list[dict]:
    """Rows without what the clock decides."""
    return [
        {k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time/")}
        for row in rows_of(workdir)
    ]


def steps_of(workdir: Path) -> list[int]:
    names = [child.name for child in (workdir / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


# Fast.


@pytest.mark.parametrize(
    "algo", ["sac", *(pytest.param(algo, marks=pytest.mark.slow) for algo in ("bro", "pql"))]
)
def test_two_processes_learn_the_parameters_of_one(tmp_path, algo):
    two, one = train(tmp_path, 2, 20, algo), train(tmp_path, 1, 20, algo)
    np.testing.assert_allclose(two["params_20"], one["params_20"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-2)
    np.testing.assert_allclose(two["returns"], one["returns"], rtol=1e-3)


@pytest.mark.parametrize("index", [0, 1])
def test_a_group_that_does_not_come_together_ends_in_its_time(index):
    port, began = free_port(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "experiments.scaling_laws"], cwd=ROOT, timeout=100,
        env=environment(index, 2, 1, port, RLX_COORDINATOR_TIMEOUT="4"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - began < 60
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr and "within 4 s" in done.stderr


def test_processes_agree_and_end(tmp_path):
    done = end(start(["-c", AGREE, "end"], devices=1), 100)
    assert [code for code, *_ in done] == [0, 0], done
    assert done[1][2].startswith("[process 1] agreed\n")


@pytest.mark.parametrize(
    "case, code, who, text",
    [
        ("refuse", 2, 0, "error: the workdir is taken"),
        ("bug", 1, 1, "KeyError: 'only process 1 knows'"),
        ("astray", 1, 0, "the processes are at different places: here, there"),
    ],
)
def test_an_error_in_one_process_ends_both_with_its_exit_code(case, code, who, text):
    done = end(start(["-c", AGREE, case], devices=1), 100)
    assert [c for c, *_ in done] == [code, code], done
    own = [line.removeprefix("[process 1] ") for line in done[who][2].splitlines()]
    assert any(line.endswith(text) for line in own), done
    assert f"ended with process {who}: " in done[1 - who][2] or case == "astray"


def test_a_workdir_that_process_0_refuses_ends_both_with_one_message(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    done = end(start(command(tmp_path, SHORT), devices=1), 100)
    assert [code for code, *_ in done] == [2, 2], done
    errors = [line for _, _, err in done for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"workdir '{tmp_path}' holds metrics.jsonl" in errors[0]
    assert "[process 1] ended with process 0: error: workdir" in done[1][2]
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.jsonl"]


# Slow.


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "bro", "pql"])
def test_parameters_and_losses_stay_together_and_checkpoints_move(tmp_path, algo):
    stores = {count: tmp_path / f"store_{count}" for count in (1, 2)}
    found = {n: train(tmp_path, n, 200, algo, stores[n], timeout=600) for n in (1, 2)}
    np.testing.assert_allclose(found[2]["params_20"], found[1]["params_20"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[2]["params_50"], found[1]["params_50"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[2]["losses"], found[1]["losses"], rtol=1e-2)
    for writer, reader in ((2, 1), (1, 2)):
        moved = train(tmp_path, reader, 50, algo, restored=stores[writer])
        expected = found[writer]["params_50"]
        np.testing.assert_allclose(moved["params_50"], expected, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_the_command_in_two_processes_writes_what_one_writes(tmp_path):
    """Four devices each; who wrote a file shows in its mode. Checkpoints are of both."""
    done = end(start(command(tmp_path, SHORT)), 400)
    assert [code for code, *_ in done] == [0, 0], done
    assert "utd 0.5 (achieved 0.5000)" in done[0][1]
    assert "utd" not in done[1][1] and "env_steps" not in done[1][2]
    files = [f for f in tmp_path.rglob("*") if f.is_file() and "checkpoints" not in f.parts]
    assert {"metrics.jsonl", "metrics.csv", "config.json", "result.json", "runs.csv"} == {
        file.name for file in files
    }
    assert [f.name for f in files if not f.stat().st_mode & 0o044] == []
    steps = [row["step"] for row in rows_of(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] == 150
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["launches"]) == 1 and len(config["launches"][0]["devices"]) == 8


@pytest.mark.slow
@pytest.mark.parametrize("resident", ["true", "false"])
def test_sequences_in_two_processes_are_those_of_one(tmp_path, resident):
    """Parameters lie in both; each hands over its part of a batch, or all of the rows. Without a
    warm-up, 6 steps move parameters by far more than the tolerance.
    """
    flags = ["--smoke", "--steps=6", "--config.mesh.data=2", "--config.mesh.fsdp=4"]
    flags += [f"--config.data.resident={resident}", "--config.mesh.min_bytes=1"]
    flags += ["--config.learner.warmup_steps=0"]
    command = lambda n: ["-m", "experiments.vla", *flags, f"--workdir={tmp_path / n}"]  # noqa: E731
    two, one = end(start(command("two")), 400), end(start(command("one"), 1, 8), 400)
    assert [code for code, *_ in two + one] == [0, 0, 0], two + one
    runs = [next((tmp_path / n).glob("5hz_*")) for n in ("two", "one")]
    params = [checkpoint.read_params(run) for run in runs]
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)  # noqa: E731
    jax.tree.map(close, *params)
    numbers = [
        [{k: v for k, v in row.items() if k != "run_id" and k != "hp"} for row in lasting(run)]
        for run in runs
    ]
    assert [row["step"] for row in numbers[0]] == [3, 6]
    assert all(row["train/update_norm"] > 1e-2 for row in numbers[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), *numbers)
    evals = [read_csv(run / "curve.csv") for run in runs]
    loss = [[float(row["loss"]) for row in rows] for rows in evals]
    np.testing.assert_allclose(*loss, rtol=1e-3)
    files = [f for f in tmp_path.rglob("*") if f.is_file() and "checkpoints" not in f.parts]
    assert {"metrics.jsonl", "curve.csv", "compare.csv", "compare.png"} <= {f.name for f in files}
    assert [f.name for f in files if not f.stat().st_mode & 0o044] == []
    assert "success" in two[0][1] and "success" not in two[1][1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The undisturbed run of two processes."""
    workdir = tmp_path_factory.mktemp("hosts") / "reference"
    done = end(start(command(workdir, LONG), devices=1), 400)
    assert [code for code, *_ in done] == [0, 0], done
    return workdir


@pytest.fixture(scope="module")
def preempted(reference, tmp_path_factory):
    """A run of which process 1, and only that, got SIGTERM after its first half."""
    workdir = tmp_path_factory.mktemp("hosts") / "preempted"
    processes = start(command(workdir, LONG), devices=1)
    until = time.monotonic() + 300
    while not any(row["env_steps"] > 1500 for row in rows_of(workdir)):
        assert all(p.poll() is None for p in processes), end(processes)
        assert time.monotonic() < until
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    done = end(processes, 120)
    assert [code for code, *_ in done] == [42, 42], done
    assert all("preempted: saved" in err for _, _, err in done)
    assert not (workdir / "result.json").exists()
    return workdir


def assert_same(workdir: Path, reference: Path):
    assert lasting(workdir) == lasting(reference)
    params = [checkpoint.read_params(folder) for folder in (workdir, reference)]
    jax.tree.map(np.testing.assert_array_equal, *params)


@pytest.mark.slow
def test_sigterm_to_one_process_saves_one_step_and_goes_on_bit_for_bit(
    reference, preempted, tmp_path
):
    workdir = tmp_path / "copy"
    shutil.copytree(preempted, workdir)
    assert rows_of(workdir)[-1]["step"] <= steps_of(workdir)[-1] < 375  # saved where it stopped
    done = end(start(command(workdir, LONG), devices=1), 400)
    assert [code for code, *_ in done] == [0, 0], done
    assert_same(workdir, reference)


@pytest.mark.slow
def test_a_torn_newest_checkpoint_falls_back_in_both(reference, preempted, tmp_path):
    workdir = tmp_path / "torn"
    shutil.copytree(preempted, workdir)
    newest = workdir / "checkpoints" / str(steps_of(workdir)[-1])
    data = (newest / "state" / "ocdbt.process_1" / "d").iterdir()  # process 1's part of the arrays
    victim = max(data, key=lambda f: f.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    done = end(start(command(workdir, LONG), devices=1), 400)
    assert [code for code, *_ in done] == [0, 0], done
    assert all(f"warning: checkpoint {newest} is damaged" in err for _, _, err in done)
    assert_same(workdir, reference)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_vanishes_ends_the_other_in_bounded_time(tmp_path, killed):
    """Exit 134 is what launchers start again; no run is called failed for it."""
    processes = start(command(tmp_path, LONG), devices=1)
    until = time.monotonic() + 300
    while not rows_of(tmp_path):
        assert all(p.poll() is None for p in processes), end(processes)
        assert time.monotonic() < until
        time.sleep(0.02)
    processes[killed].kill()
    code, _, err = end(processes, 150)[1 - killed]
    assert code in (134, -signal.SIGABRT), err
    assert "lost" in err or "another task died" in err
    assert not (tmp_path / "result.json").exists()
