"""What the backends write: golden files, our own strict schema of a JobSet, and shells that run.

After a wanted change: `python tests/tpu/launches.py`, and read the difference.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from jobset_schema import JOBSET
from launches import GOLDEN, LAUNCHES, first_job, jobs, options, rendered

from tpu import render, storage
from tpu.render import jobset, skypilot, xpk
from tpu.render import yaml as writer


@pytest.mark.parametrize("backend", LAUNCHES)
def test_golden_files(backend):
    golden = {file.name: file.read_text() for file in (GOLDEN / backend).iterdir()}
    assert rendered(backend) == golden


@pytest.mark.parametrize("backend", ["slurm", "queued_resources", "xpk"])
def test_shells_parse(backend, tmp_path):
    for name, text in rendered(backend).items():
        (tmp_path / name).write_text(text)
        done = subprocess.run(["bash", "-n", name], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_commands_name_the_written_files():
    found = {}
    for backend in LAUNCHES:
        chosen = options(backend)
        module = render.backend(backend)
        found[backend] = module.commands(jobs(chosen), chosen, Path("out"))
    name = jobs(options("jobset"))[0].name
    assert found["xpk"][0] == xpk.attach(options("xpk"))
    assert [argv[1:3] for argv in found.pop("xpk")[1:]] == [["workload", "create"]] * 2
    assert {backend: argv[0] for backend, argv in found.items()} == {
        "local": ["python", "-m", "tpu.local", "out/jobs.json"],
        "slurm": ["sbatch", "out/sac.sbatch"],
        "queued_resources": ["bash", "out/sac.sh"],
        "jobset": ["kubectl", "create", "-f", f"out/{name}.yaml"],
        "skypilot": ["sky", "jobs", "launch", "--yes", "--async", f"out/{name}.yaml"],
    }
    assert {backend: len(argv) for backend, argv in found.items()} == {
        "local": 1, "slurm": 1, "queued_resources": 1, "jobset": 2, "skypilot": 2
    }  # fmt: skip


def test_our_yaml_is_read_back_by_a_yaml_parser():
    tree = {
        "plain": "us-central1-a",
        "like numbers": ["1e3", "2x2", "0777", "12:30", "1_000", ".5", "-"],
        "like words": ["no", "On", "null", "~", "y", "true", ""],
        "text": "a: b # c\n  indented 'x' \"y\"\n\nlast\n",
        "numbers": [1, 2],
        "nothing": [],
        "empty": {},
        "none": None,
        "nested": [{"a": [{"b": True}], "c": "é"}, {"d": 1.5}],
    }
    assert yaml.safe_load(writer.dump(tree)) == tree


# JobSet.


@pytest.mark.parametrize(
    "changes, replicas, hosts, chips, topology",
    [
        ({"slices": 1}, 1, 4, 4, "4x4"),
        ({"slices": 3, "accelerator": "v5p-64"}, 3, 8, 4, "2x4x4"),
        ({"slices": 1, "accelerator": "v6e-1"}, 1, 1, 1, "1x1"),
        ({"slices": 1, "accelerator": "tpu7x-4x4x4"}, 1, 16, 4, "4x4x4"),
    ],
)
def test_a_jobset_fits_the_schema_and_the_accelerator(changes, replicas, hosts, chips, topology):
    job, chosen = first_job("jobset", **changes)
    [text, _] = rendered("jobset", **changes).values()
    tree = yaml.safe_load(text)
    assert tree == jobset.manifest(job, chosen)
    jsonschema.Draft202012Validator(JOBSET).validate(tree)
    [slices] = tree["spec"]["replicatedJobs"]
    inner = slices["template"]["spec"]
    assert (slices["replicas"], inner["parallelism"], inner["completions"]) == (
        replicas,
        hosts,
        hosts,
    )
    pod = inner["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    [rule] = inner["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [42, *range(127, 256)]


@pytest.mark.parametrize("spot", [True, False])
def test_spot_is_a_node_label(spot):
    job, chosen = first_job("jobset", spot=spot)
    pod = jobset.manifest(job, chosen)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert ("cloud.google.com/gke-spot" in pod["spec"]["nodeSelector"]) == spot
    assert ("--spot" in xpk.create(job, chosen)) == spot


def test_the_bucket_is_mounted_where_the_worker_writes():
    """And renames of folders, which commit a checkpoint, are allowed there."""
    job, chosen = first_job("jobset")
    pod = jobset.manifest(job, chosen)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    [mount] = pod["spec"]["containers"][0]["volumeMounts"]
    assert job.argv[-1] == f"--workdir={mount['mountPath']}/sweeps/first/{job.name}"
    [volume] = pod["spec"]["volumes"]
    assert volume["csi"]["volumeAttributes"] == {
        "bucketName": "our-runs",
        "mountOptions": "implicit-dirs,rename-dir-limit=10000",
        "hostNetworkPodKSA": "true",
    }
    assert pod["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    task = skypilot.task(*first_job("skypilot"))
    assert task["file_mounts"] == {"/mnt/rlx": {"source": "gs://our-runs", "mode": "MOUNT"}}
    assert f"--bucket=our-runs --mount-point={storage.MOUNT}" in " ".join(xpk.attach(chosen))
    [script] = rendered("queued_resources").values()
    assert "gcsfuse --implicit-dirs --rename-dir-limit=10000 our-runs /mnt/rlx" in script


@pytest.mark.parametrize("place, path", [("gs://b", "/mnt/rlx"), ("gs://b/a/c/", "/mnt/rlx/a/c")])
def test_paths_under_the_mount(place, path):
    assert storage.seen_by_workers(place) == path


BROKEN = [
    (("spec", "failurePolicy", "maxRestart"), 3, "maxRestart"),
    (("spec", "failurePolicy", "maxRestarts"), "50", "is not of type 'integer'"),
    (("metadata", "name"), "Sac", "does not match"),
    (("spec", "failurePolicy", "rules", 0, "action"), "Fail", "is not one of"),
    (("spec", "replicatedJobs", 0, "template", "spec", "backoffLimit"), 3, "0 was expected"),
]


@pytest.mark.parametrize("path, value, says", BROKEN)
def test_the_schema_refuses_what_a_cluster_would_prune_or_misread(path, value, says):
    tree = jobset.manifest(*first_job("jobset"))
    here = tree
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=says):
        jsonschema.Draft202012Validator(JOBSET).validate(tree)


# Slurm and SkyPilot on other machines.


@pytest.mark.parametrize(
    "changes, nodes, gres",
    [
        ({"accelerator": "H100:8", "slices": 2}, 2, ["#SBATCH --gres=gpu:h100:8"]),
        ({"accelerator": "L4", "slices": 1}, 1, ["#SBATCH --gres=gpu:l4:1"]),
        ({"accelerator": "v5litepod-16", "slices": 2}, 8, []),
        ({"accelerator": "cpu", "slices": 3}, 3, []),
    ],
)
def test_slurm_asks_for_a_node_per_host(changes, nodes, gres):
    lines = rendered("slurm", **changes)["sac.sbatch"].splitlines()
    assert f"#SBATCH --nodes={nodes}" in lines
    assert [line for line in lines if "gres" in line] == gres


@pytest.mark.parametrize(
    "accelerator, codes",
    [("v6e-1", [42, 134, 137, 143]), ("H100:8", [42, 134, 137, 143]), ("v6e-8", [42, 134, 143])],
)
def test_skypilot_restarts_a_killed_worker_where_it_is_the_only_one(accelerator, codes):
    """Of several, 137 is what SkyPilot calls those that it ends after a bug in another."""
    task = skypilot.task(*first_job("skypilot", accelerator=accelerator))
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == codes


def test_slurm_gives_a_task_its_node_and_says_what_an_sbatch_by_hand_needs():
    lines = rendered("slurm", workdir="/data/our runs")["sac.sbatch"].splitlines()
    assert "#SBATCH --exclusive" in lines and "#   mkdir -p '/data/our runs'" in lines


def test_skypilot_on_gpu_nodes_tells_the_nodes_of_each_other():
    task = skypilot.task(*first_job("skypilot", accelerator="H100:8", slices=2, spot=False))
    assert task["resources"] == {
        "accelerators": "H100:8",
        "use_spot": False,
        "job_recovery": {
            "strategy": "EAGER_NEXT_REGION",
            "max_restarts_on_errors": 0,
            "recover_on_exit_codes": list(skypilot.RESTARTABLE),
        },
    }
    code = task["run"].split(". .venv")[0] + 'echo "$RLX_COORDINATOR" "$RLX_PROCESS_ID"'
    env = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
    env |= {"SKYPILOT_NUM_NODES": "2", "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "10.0.0.1:8476 1\n"
    assert "RLX_" not in skypilot.task(*first_job("skypilot"))["run"]
