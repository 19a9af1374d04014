"""The rendered shells, run: against small scripts in the place of Slurm's tools and of gcloud."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from launches import jobs, options, rendered

from tpu import render


def tool(folder: Path, name: str, script: str) -> None:
    """Put an executable on a PATH folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


# Stands for Slurm on one machine: every task of the step is a process here.
SRUN = r"""
shift  # --kill-on-bad-exit=1
trap 'kill -TERM ${pids[@]}' TERM
pids=()
for i in 0 1; do SLURM_PROCID=$i "$@" & pids+=($!); done
code=0
for pid in ${pids[@]}; do
  while true; do
    wait $pid; now=$?
    kill -0 $pid 2>/dev/null || break
  done
  [ $now -gt $code ] && code=$now
done
exit $code
"""
WORKER = r"""
seen="$RLX_COORDINATOR $RLX_NUM_PROCESSES $RLX_PROCESS_ID $JAX_PLATFORMS ${*: -1}"
echo "$seen" > "$OUT/$RLX_PROCESS_ID"
trap 'sleep 0.3; exit 42' TERM
if [ "$MODE" = fail ]; then exit 1; fi
if [ "$MODE" = peer ]; then exit 134; fi
if [ "$MODE" = usage ]; then exit 126; fi
if [ "$MODE" = wait ]; then while true; do sleep 0.05; done; fi
"""


@pytest.mark.parametrize(
    "mode, restarts, code, queue",
    [
        ("end", "0", 0, ""),
        ("fail", "0", 1, ""),
        ("wait", "0", 42, "requeue 70007\n"),
        ("wait", "50", 42, ""),
        ("peer", "0", 134, "requeue 70007\n"),
        ("peer", "50", 134, ""),
        ("usage", "0", 126, ""),
    ],
)
def test_the_slurm_script_passes_sigterm_on_and_queues_again_on_42_and_lost_processes(
    tmp_path, mode, restarts, code, queue
):
    tool(tmp_path / "bin", "srun", SRUN)
    tool(tmp_path / "bin", "python", WORKER)
    tool(
        tmp_path / "bin",
        "scontrol",
        f'[ "$1" = show ] && printf "n1\\nn2\\n" || echo "$@" >> {tmp_path}/queue',
    )
    [text] = rendered("slurm").values()
    (tmp_path / "run.sbatch").write_text(text)
    env = os.environ | {
        "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_JOB_ID": "70007",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_NTASKS": "2",
        "SLURM_RESTART_COUNT": restarts,
        "OUT": str(tmp_path),
        "MODE": mode,
    }
    with subprocess.Popen(["bash", str(tmp_path / "run.sbatch")], env=env) as process:
        if mode == "wait":
            limit = time.monotonic() + 20
            while not all((tmp_path / i).exists() for i in "01"):
                assert time.monotonic() < limit
                time.sleep(0.02)
            time.sleep(0.2)  # the workers' traps come after their files
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == code
    workdir = jobs(options("slurm"))[1].argv[-1]
    for i in "01":
        assert (tmp_path / i).read_text() == f"n1:30007 2 {i} cuda,cpu {workdir}\n"
    requeued = tmp_path / "queue"
    assert (requeued.read_text() if requeued.exists() else "") == queue


# Stands for gcloud and one spot slice per job: each call is noted, states come from a list.
GCLOUD = r"""
args="$*"
case "$args" in
  *"queued-resources describe"*)
    queue="$OUT/$5.states"
    if [ ! -s "$queue" ]; then exit 1; fi
    head -n 1 "$queue"; sed -i 1d "$queue"; exit 0 ;;
  *"queued-resources create"*)
    echo "create $5 $7 $9" >> "$OUT/calls"
    if [ -f "$OUT/refuse" ]; then exit 1; fi ;;
  *"queued-resources delete"*) echo "delete $5" >> "$OUT/calls" ;;
  *"tpu-vm scp"*) echo "copy" >> "$OUT/calls" ;;
  *gcsfuse*) echo "prepare" >> "$OUT/calls" ;;
  *"tpu-vm ssh"*)
    echo "run" >> "$OUT/calls"
    if [ -f "$OUT/stay" ]; then exec sleep 5; fi
    code=$(head -n 1 "$OUT/codes"); sed -i 1d "$OUT/codes"; exit "$code" ;;
esac
"""


def queued(tmp_path: Path, states: list[str], codes: list[int]) -> tuple[int, list[str], str]:
    """Run the script of one job against a slice of these states; (exit code, calls, job name).

    With a file `stay` the worker does not end, and the script gets a SIGTERM.
    """
    tool(tmp_path / "bin", "gcloud", GCLOUD)
    chosen = options("queued_resources")
    [job, _] = jobs(chosen)
    module = render.backend("queued_resources")
    [text] = module.render([job], chosen).values()
    (tmp_path / "run.sh").write_text(text)
    (tmp_path / f"{job.name}.states").write_text("".join(f"{state}\n" for state in states))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    env = os.environ | {
        "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}",
        "POLL_SECONDS": "0",
        "OUT": str(tmp_path),
    }
    calls = tmp_path / "calls"
    argv = ["bash", str(tmp_path / "run.sh")]
    with subprocess.Popen(argv, cwd=tmp_path / "bin", env=env) as process:
        if (tmp_path / "stay").exists():
            limit = time.monotonic() + 20
            while not calls.exists() or "run" not in calls.read_text().splitlines():
                assert time.monotonic() < limit
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
    return code, calls.read_text().splitlines(), job.name


def test_a_spot_slice_that_is_taken_away_is_asked_for_again(tmp_path):
    """Created, waited for, preempted during the run; deleted, created again, run to its end."""
    states = ["ABSENT", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    states += ["SUSPENDING", "SUSPENDED", "ABSENT", "ACTIVE"]
    code, calls, name = queued(tmp_path, states, [255, 0])
    assert code == 0
    attempt = [f"create {name} --accelerator-type=v5litepod-16 --spot", "copy", "prepare", "run"]
    assert calls == [*attempt, f"delete {name}", *attempt, f"delete {name}"]


@pytest.mark.parametrize(
    "codes, runs, code", [([42, 42, 0], 3, 0), ([137, 0], 2, 0), ([1], 1, 1), ([2], 1, 1)]
)
def test_exit_codes_decide_about_another_attempt(tmp_path, codes, runs, code):
    found, calls, name = queued(tmp_path, ["ACTIVE"] * len(codes), codes)
    assert (found, calls.count("run")) == (code, runs)
    assert calls[-1] == f"delete {name}"


def test_a_slice_taken_away_before_gcloud_could_connect_is_asked_for_again(tmp_path):
    """`ssh` ends with 1 then, as a worker with a bug does: the state of the slice tells."""
    states = ["ACTIVE", "SUSPENDED", "SUSPENDED", "ABSENT", "ACTIVE"]
    code, calls, name = queued(tmp_path, states, [1, 0])
    again = [f"delete {name}", f"create {name} --accelerator-type=v5litepod-16 --spot"]
    attempt = ["copy", "prepare", "run"]
    assert code == 0 and calls == [*attempt, *again, *attempt, f"delete {name}"]
    (tmp_path / "calls").unlink()
    code, calls, name = queued(tmp_path, ["ACTIVE", "ACTIVE"], [1])
    assert code == 1 and calls == [*attempt, f"delete {name}"]


def test_the_xpk_script_tries_every_job_and_names_those_that_failed(tmp_path):
    tool(
        tmp_path / "bin",
        "xpk",
        'echo "$2 $7" >> "$OUT/calls"; case "$*" in *workload=sac-utd-1-*) exit 3;; esac',
    )
    [text] = rendered("xpk").values()
    env = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "OUT": str(tmp_path)}
    done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True)
    first = jobs(options("xpk"))[0].name
    assert (done.returncode, done.stderr) == (1, f"error: not submitted: {first}\n")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["attach", "create", "create"]
    tool(tmp_path / "bin", "xpk", "exit 0")
    assert subprocess.run(["bash", "-c", text], env=env).returncode == 0


def test_a_slice_that_cannot_be_created_ends_the_job(tmp_path):
    (tmp_path / "refuse").touch()
    code, calls, name = queued(tmp_path, [], [])
    assert code == 1
    assert calls == [f"create {name} --accelerator-type=v5litepod-16 --spot"] * 10


def test_a_stopped_script_leaves_no_slice_behind(tmp_path):
    (tmp_path / "stay").touch()
    code, calls, name = queued(tmp_path, ["ACTIVE"], [])
    assert code == 143
    assert calls == ["copy", "prepare", "run", f"delete {name}"]
