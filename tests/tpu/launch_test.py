"""The launcher's command line: every refusal, the dry run, states, and what is run again."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
from launches import sweep_file

from tpu import launch
from tpu.errors import LaunchError

BASE = ("--experiment=scaling_laws", "--config=configs/scaling_laws.py:smoke")
LOCAL = (*BASE, "--backend=local")
CLOUD = (*BASE, "--accelerator=v5litepod-16", "--workdir=gs://our-runs/x")


def refusal(tmp_path: Path, *argv: str) -> str:
    """Return the one line of a refused launch that must not have written anything."""
    out = tmp_path / "out"
    with pytest.raises(LaunchError) as caught:
        launch.main([*argv, f"--out={out}"])
    text = str(caught.value)
    assert not out.exists() and "\n" not in text
    return text


REFUSED = [
    (("--backend=local",), "--experiment is needed: program in experiments/, by name"),
    (
        ("--experiment=scaling_law", "--backend=local"),
        "unknown experiment 'scaling_law'; nearest: scaling_laws, scaling_compare, "
        "offline_film; `ls experiments/*.py` lists all",
    ),
    ((*BASE,), "--backend is needed: local, slurm, queued_resources, xpk, jobset, skypilot"),
    (
        (*BASE, "--backend=slrum"),
        "unknown backend 'slrum'; nearest: slurm, skypilot, local; "
        "`python -m tpu.launch --help` lists all",
    ),
    (
        ("--experiment=scaling_laws", "--config=configs/scaling_law.py", "--backend=local"),
        "unknown config file 'configs/scaling_law.py'; nearest: configs/scaling_laws.py, "
        "configs/vla.py, configs/offline.py; `ls configs/*.py` lists all",
    ),
    (
        ("--experiment=scaling_laws", "--config=configs/scaling_laws.py:smok", "--backend=local"),
        "configs/scaling_laws.py: unknown config option 'smok'; options: smoke, demo, wide, study, "
        "grid, sizes, published, algo=sac, net=mlp, env=",
    ),
    (
        (
            "--experiment=offline",
            "--backend=jobset",
            "--accelerator=v5litepod-16",
            "--workdir=gs://our-runs/x",
            "--image=gcr.io/lab/rlx:1",
        ),
        "configs/offline.py trains in at most 1 process per run, v5litepod-16 x 1 slices would "
        "start 4: choose an accelerator of one host",
    ),
    (
        ("--experiment=offline", "--backend=local", "--processes=2"),
        "configs/offline.py trains in at most 1 process per run, the flags would start 2: ",
    ),
    ((*LOCAL, "--accelarator=cpu"), "unknown flag '--accelarator'; nearest: --accelerator, "),
    ((*LOCAL, "--processes=two"), "argument --processes: invalid int value: 'two'"),
    ((*LOCAL, "--processes=0"), "--processes is an integer of 1 or more, got 0"),
    ((*LOCAL, "--slices=2"), "--slices=2: backend local is one machine"),
    ((*LOCAL, "--name=My_sweep"), "--name is a-z, 0-9 and inner dashes, begins with a letter, "),
    (
        (*LOCAL, "--accelerator=H100:8", "--processes=2"),
        "--processes and --devices_per_process split a CPU; leave them out with "
        "--accelerator=H100:8",
    ),
    (
        (*LOCAL, "--spot"),
        "--spot: backend local has no spot machines; use queued_resources, xpk, jobset, skypilot",
    ),
    (
        (*LOCAL, "--workdir=gs://our-runs/x"),
        "--workdir=gs://our-runs/x: backend local writes local paths; mount the bucket and pass "
        "the mount point",
    ),
    ((*BASE, "--backend=xpk"), "--accelerator is needed: TPU slice such as v5litepod-16, GPUs "),
    (
        (*BASE, "--backend=xpk", "--accelerator=v5litepod-17"),
        "--workdir is needed by backend xpk: gs://bucket/path",
    ),
    ((*CLOUD, "--backend=xpk", "--accelerator=v5litepod-17"), "unknown accelerator 'v5litepod-17"),
    ((*CLOUD, "--backend=jobset", "--slices=0"), "--slices is an integer of 1 or more, got 0"),
    (
        (*CLOUD, "--backend=jobset", "--workdir=/data/runs"),
        "--workdir of backend jobset is gs://bucket/path, got '/data/runs'",
    ),
    (
        (*CLOUD, "--backend=jobset", "--processes=2"),
        "--processes is for backend local; jobset starts one process per host",
    ),
    (
        (*CLOUD, "--backend=jobset", "--accelerator=H100:8"),
        "accelerator 'H100:8' (gpu) is not for backend jobset, which runs tpu; use local, slurm, "
        "skypilot",
    ),
    (
        (*CLOUD, "--backend=queued_resources", "--accelerator=tpu7x-8"),
        "accelerator 'tpu7x-8' has no TPU VMs, only GKE; use backend xpk or jobset",
    ),
    (
        (*CLOUD, "--backend=skypilot", "--slices=2"),
        "--slices=2: skypilot starts one TPU slice per job; use xpk or jobset",
    ),
    (
        (*CLOUD, "--backend=xpk", "--submit", "--cluster=pods"),
        "--submit on xpk needs --image by hand",
    ),
]


@pytest.mark.parametrize("argv, says", REFUSED)
def test_refusals(tmp_path, argv, says):
    assert refusal(tmp_path, *argv).startswith(says)


SWEEPS = [
    (
        [{"learner.rl": 1e-3}],
        "unknown config field 'learner.rl'; nearest: learner.lr, ",
    ),
    ([{"learner": 1}], "learner is a section, set one of its fields: learner."),
    ([{"train.utd": "eight"}], "train.utd is a number or a fraction such as 1/16, got 'eight'"),
    ([{"train.env_steps": 1.5}], "train.env_steps is an integer, got '1.5'"),
    ([{"learner.layer_norm": 1}], "learner.layer_norm is true or false, got '1'"),
    ([{"learner.critic_hidden": 64}], "learner.critic_hidden is a list such as (64, 64), got '64'"),
    ([{"workdir": "x"}], "the sweep sets workdir, which the launcher sets: leave it out"),
    (
        [{"seed": 0, "train.utd": 1}, {"seed": 1}, {"train.utd": 1.0, "seed": 0}],
        "sweep entries 1 and 3 are the same: seed=0, train.utd=1.0",
    ),
]


@pytest.mark.parametrize("entries, says", SWEEPS)
def test_a_sweep_is_checked_against_its_config(tmp_path, entries, says):
    flags = (
        "--experiment=scaling_laws",
        f"--config={sweep_file(tmp_path, entries)}",
        "--backend=local",
    )
    assert refusal(tmp_path, *flags).startswith(says)


def test_an_empty_sweep_is_refused(tmp_path):
    file = sweep_file(tmp_path, [])
    text = refusal(tmp_path, "--experiment=scaling_laws", f"--config={file}", "--backend=local")
    assert text == f"{file}: get_sweep yields no entry"


def test_a_config_without_a_sweep_is_one_job(tmp_path, capsys):
    file = tmp_path / "plain.py"
    file.write_text("from configs.scaling_laws import get_config\n")
    argv = ["--experiment=scaling_laws", f"--config={file}", "--backend=local", "--name=plain"]
    assert launch.main([*argv, f"--workdir={tmp_path}/w", f"--out={tmp_path}/out"]) == 0
    assert "1 runs in 1 jobs; 1 to run" in capsys.readouterr().out
    [job] = json.loads((tmp_path / "out" / "jobs.json").read_text())["jobs"]
    assert re.fullmatch("plain-[0-9a-f]{6}", job["name"])
    assert job["argv"][3:] == [f"--config={file}", f"--workdir={tmp_path}/w/{job['name']}"]


def test_a_dry_run_says_what_would_run_and_touches_no_workdir(tmp_path, capsys):
    argv = [*BASE, "--backend=skypilot", "--accelerator=v6e-8", "--workdir=gs://our-runs/x"]
    assert launch.main([*argv, f"--out={tmp_path}/out", "--name=first"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [file] = (tmp_path / "out").iterdir()
    name = file.stem
    assert re.fullmatch("first-utd-0-5-[0-9a-f]{6}", name)
    assert lines[1].split() == [
        name, "1", "1", "x", "v6e-8", "(2", "hosts)", "train.utd=0.5", "seed=0", "?"
    ]  # fmt: skip
    assert lines[2] == (
        "1 runs in 1 jobs; 1 to run; states of a bucket are read with --status and --submit"
    )
    assert lines[3:] == [
        f"written: {tmp_path}/out/{name}.yaml",
        "--submit would run:",
        f"  sky jobs launch --yes --async {tmp_path}/out/{name}.yaml",
    ]


def test_the_process_prints_one_line_and_exits_with_2(run_python):
    done = run_python(["-m", "tpu.launch", *LOCAL, "--slices=0"], check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: --slices is an integer of 1 or more, got 0\n"


def test_the_launcher_keeps_jax_off_the_chips_and_starts_no_backend(run_python):
    code = """
import sys
from tpu import launch
launch.main(sys.argv[1:])
import os
from jax._src import xla_bridge
print(os.environ["JAX_PLATFORMS"], list(xla_bridge._backends))
"""
    done = run_python(["-c", code, *LOCAL, "--status"], env={"JAX_PLATFORMS": "tpu"})
    assert done.stdout.splitlines()[-1] == "cpu []"


# Before anything is submitted.


def tool(folder: Path, name: str, script: str) -> None:
    """Put an executable on a PATH folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


def test_submit_without_the_tool_or_into_what_cannot_be_written(tmp_path, monkeypatch):
    bin_ = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}/bin")
    submit = (*CLOUD, "--backend=skypilot", "--submit")
    missing = "gs:// workdirs need the tool gcloud, which is not on the PATH"
    if not any(os.access(f"{folder}/gcloud", os.X_OK) for folder in ("/bin", "/usr/bin")):
        assert refusal(tmp_path, *submit) == missing
    tool(bin_, "gcloud", 'echo "gcloud storage: no objects: $*" >&2; echo "not found" >&2; exit 1')
    assert refusal(tmp_path, *submit) == "--submit needs the tool sky, which is not on the PATH"
    ran = tmp_path / "ran"
    tool(bin_, "sky", f"echo sky >> {ran}")
    denied = "ERROR: (gcloud.storage.cp) 403 denied"
    tool(
        bin_,
        "gcloud",
        f'case "$2" in cat) echo "not found" >&2;; *) echo "{denied}" >&2;; esac; exit 1',
    )
    assert refusal(tmp_path, *submit) == f"workdir 'gs://our-runs/x' cannot be written: {denied}"
    assert not ran.exists()
    file = tmp_path / "file"
    file.write_text("")
    text = refusal(tmp_path, *LOCAL, "--submit", f"--workdir={file}/w")
    assert text == f"workdir '{file}/w' cannot be written: Not a directory"
