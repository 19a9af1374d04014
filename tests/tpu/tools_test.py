"""What the backends write, read by the tools themselves: `make validate-launch` installs those.

No network and no login: SkyPilot's own schema and task, Kubernetes' schemas, xpk's dry run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launches import first_job, jobs, options, rendered

from tpu import accelerators
from tpu.render import jobset, skypilot, xpk

pytestmark = pytest.mark.launch_tools

GKE = [{"accelerator": name} for name in ("v4-16", "v5litepod-16", "v5p-64", "v6e-1", "v6e-256")]
VMS = [{"accelerator": name} for name in ("v4-8", "v5litepod-16", "v5p-32", "v6e-8")]


@pytest.fixture(scope="session")
def sky():
    return pytest.importorskip("sky", reason="skypilot is not installed: make validate-launch")


@pytest.fixture(scope="session")
def characteristics():
    module = pytest.importorskip("xpk.core.system_characteristics", reason="xpk is not installed")
    return module.UserFacingNameToSystemCharacteristics


@pytest.mark.parametrize("changes", VMS)
@pytest.mark.parametrize("spot", [True, False])
def test_skypilot_reads_a_tpu_task_as_it_is_meant(sky, changes, spot):
    chosen = options("skypilot", spot=spot, **changes)
    for job, text in zip(jobs(chosen), rendered("skypilot", spot=spot, **changes).values()):
        task = sky.Task.from_yaml_config(yaml.safe_load(text))
        [resources] = task.resources
        assert (task.name, task.num_nodes) == (job.name, 1)
        assert str(resources.cloud) == "GCP" and resources.use_spot == spot
        assert resources.accelerators == {f"tpu-{changes['accelerator']}": 1}
        assert resources.accelerator_args["runtime_version"] == chosen.accelerator.runtime
        assert resources.job_recovery == skypilot.task(job, chosen)["resources"]["job_recovery"]
        [(place, bucket)] = task.storage_mounts.items()
        assert (place, bucket.source, bucket.mode.value) == ("/mnt/rlx", "gs://our-runs", "MOUNT")
        assert task.run.endswith(" ".join(job.argv) + "\n")


def test_skypilot_reads_gpu_nodes(sky):
    [text, _] = rendered("skypilot", accelerator="H100:8", slices=2, zone="us-east5-a").values()
    task = sky.Task.from_yaml_config(yaml.safe_load(text))
    [resources] = task.resources
    assert task.num_nodes == 2 and resources.accelerators == {"H100": 8}
    assert resources.zone == "us-east5-a"


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("use_spot:", "use_spots:"),
        ("file_mounts:", "file_mount:"),
        ("max_restarts_on_errors: 0", "max_restarts_on_errors: none"),
        ("recover_on_exit_codes: [42,", "recover_on_exit_codes: [4200,"),
    ],
)
def test_skypilot_would_refuse_other_keys_and_values(sky, right, wrong):
    """So the tests above do read ours. (Of `job_recovery` a client checks the values only.)"""
    [text, _] = rendered("skypilot").values()
    assert text.count(right) == 1
    with pytest.raises(ValueError, match=r"Invalid|not valid"):
        sky.Task.from_yaml_config(yaml.safe_load(text.replace(right, wrong)))


@pytest.mark.parametrize("changes", GKE)
@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_the_inner_job_is_a_job_of_kubernetes(changes, version):
    kubernetes = pytest.importorskip("kubernetes_validate", reason="make validate-launch has it")
    tree = jobset.manifest(*first_job("jobset", **changes))
    [slices] = tree["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}}
    job |= slices["template"]
    assert kubernetes.validate(job, version, strict=True) == version
    broken = {**job, "spec": {**job["spec"], "backofLimit": 0}}
    with pytest.raises(kubernetes.ValidationError, match="backofLimit"):
        kubernetes.validate(broken, version, strict=True)


def test_our_table_of_tpus_is_that_of_xpk(characteristics):
    ours = {
        tpu.name: (tpu.topology, tpu.hosts, tpu.selector, tpu.machine, tpu.chips_per_host)
        for tpu in accelerators.TPUS.values()
    }
    theirs = {
        name: (
            tpu.topology,
            tpu.vms_per_slice,
            tpu.gke_accelerator,
            tpu.gce_machine_type,
            tpu.chips_per_vm,
        )
        for name, tpu in characteristics.items()
        if name in ours
    }
    assert ours == theirs and len(ours) == 26


def xpk_prints(argv: list[str]) -> str:
    tool = shutil.which("xpk", path=os.pathsep.join([str(Path(sys.executable).parent), "/bin"]))
    if tool is None:
        pytest.skip("xpk is not installed: make validate-launch")
    done = subprocess.run(
        [tool, *argv[1:], "--dry-run", "--skip-validation"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("changes", [*GKE, {"accelerator": "v6e-8", "slices": 2}])
def test_xpk_makes_the_jobset_that_we_would(changes):
    job, chosen = first_job("xpk", **changes)
    out = xpk_prints(xpk.create(job, chosen))
    text = re.search(r"^apiVersion: jobset.*?(?=^\[XPK\])", out, re.MULTILINE | re.DOTALL)[0]
    theirs, ours = yaml.safe_load(text), jobset.manifest(job, chosen)
    assert theirs["metadata"]["name"] == job.name
    assert theirs["metadata"]["annotations"] == ours["metadata"]["annotations"]
    policy = theirs["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 50
    for key in ("action", "onJobFailureReasons"):
        assert policy["rules"][0][key] == ours["spec"]["failurePolicy"]["rules"][0][key]
    slices = [tree["spec"]["replicatedJobs"][0] for tree in (theirs, ours)]
    assert slices[0]["replicas"] == slices[1]["replicas"] == changes.get("slices", 1)
    inner = [part["template"]["spec"] for part in slices]
    for key in ("parallelism", "completions", "backoffLimit"):
        assert inner[0][key] == inner[1][key]
    codes = [part["podFailurePolicy"]["rules"][0] for part in inner]
    assert codes[0]["action"] == codes[1]["action"] == "FailJob"
    for key in ("operator", "values"):
        assert codes[0]["onExitCodes"][key] == codes[1]["onExitCodes"][key]
    pods = [part["template"]["spec"] for part in inner]
    for key in ("hostNetwork", "dnsPolicy", "restartPolicy", "terminationGracePeriodSeconds"):
        assert pods[0][key] == pods[1][key]
    accelerator = {k: v for k, v in pods[1]["nodeSelector"].items() if "tpu" in k}
    assert accelerator.items() <= pods[0]["nodeSelector"].items()
    [container] = pods[0]["containers"]
    assert container["resources"] == pods[1]["containers"][0]["resources"]
    assert {"name": "JAX_PLATFORMS", "value": "tpu,cpu"} in container["env"]
    assert container["image"] == "gcr.io/lab/rlx:1"
    assert f"(exec {' '.join(job.argv)}) &" in container["command"][-1]


def test_xpk_takes_the_bucket_as_a_storage():
    """Its `storage attach` asks a cluster even in a dry run: its parser and its volume are ours."""
    parser = pytest.importorskip("xpk.parser.core", reason="xpk is not installed")
    from argparse import ArgumentParser

    from xpk.core import gcsfuse

    top = ArgumentParser()
    parser.set_parser(top)
    _, chosen = first_job("xpk")
    args = top.parse_args(xpk.attach(chosen)[1:])
    assert (args.name, args.mount_point, args.readonly) == ("rlx-our-runs", "/mnt/rlx", False)
    assert (args.auto_mount, args.cluster, args.type) == (False, "pods", "gcsfuse")
    volume, claim = gcsfuse.manifest(
        args.name, args.bucket, args.size, args.mount_options, args.prefetch_metadata
    )
    assert volume["spec"]["csi"]["volumeHandle"] == "our-runs"
    options_ = volume["spec"]["mountOptions"]
    assert "rename-dir-limit=10000" in options_ and "implicit-dirs" in options_
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
