"""GKE: one JobSet per job, queued by Kueue, with the bucket mounted by the gcsfuse CSI driver."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu import storage
from tpu.plan import Job, Options
from tpu.render import yaml

KINDS = ("tpu",)
SPOT = True
BUCKET = True
TOOL = "kubectl"
NEEDS = {"image": "rlx:latest", "queue": "multislice-queue"}  # xpk's name for its queue
QUEUES = True

RESTARTABLE = (42, *range(127, 256))  # saved and stopped, or ended by a signal or the node
GRACE_SECONDS = 180  # a chunk of training, then a save
WORKER = "worker"
VOLUME = "workdirs"


def check(options: Options) -> None:
    """GKE has every TPU of the table."""
    del options


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return one manifest per job."""
    return {f"{job.name}.yaml": yaml.dump(manifest(job, options)) for job in jobs}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return one `kubectl create` per job: it refuses a JobSet that is still there."""
    del options
    return [["kubectl", "create", "-f", str(folder / f"{job.name}.yaml")] for job in jobs]


def manifest(job: Job, options: Options) -> dict[str, Any]:
    """Return the JobSet of one job: a replicated Job per slice, a pod per host."""
    bug = {
        "name": "bugs-are-not-retried",
        "action": "FailJobSet",
        "onJobFailureReasons": ["PodFailurePolicy"],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "labels": {"kueue.x-k8s.io/queue-name": options.queue},
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {"maxRestarts": job.max_restarts, "rules": [bug]},
            "replicatedJobs": [
                {
                    "name": "slice",
                    "replicas": job.slices,
                    "template": {"spec": _slice_job(job, options)},
                }
            ],
        },
    }


def _slice_job(job: Job, options: Options) -> dict[str, Any]:
    codes = {"containerName": WORKER, "operator": "NotIn", "values": list(RESTARTABLE)}
    return {
        "parallelism": job.accelerator.hosts,
        "completions": job.accelerator.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]},
        "template": {
            "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}},
            "spec": _pod(job, options),
        },
    }


def _pod(job: Job, options: Options) -> dict[str, Any]:
    selector = {
        "cloud.google.com/gke-tpu-accelerator": job.accelerator.selector,
        "cloud.google.com/gke-tpu-topology": job.accelerator.topology,
    }
    tolerations = [{"key": "google.com/tpu", "operator": "Exists"}]
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        tolerations.append({"key": "cloud.google.com/gke-spot", "operator": "Exists"})
    container = {
        "name": WORKER,
        "image": options.image,
        "command": ["bash", "-c", f"exec {shlex.join(job.argv)}"],  # python gets the SIGTERM
        "env": [{"name": name, "value": value} for name, value in job.env.items()],
        "resources": {"limits": {"google.com/tpu": job.accelerator.chips_per_host}},
        "volumeMounts": [{"name": VOLUME, "mountPath": storage.MOUNT}],
    }
    attributes = {
        "bucketName": storage.bucket_of(options.workdir),
        "mountOptions": storage.MOUNT_OPTIONS,
        "hostNetworkPodKSA": "true",  # the mount uses the pod's account, hostNetwork or not
    }
    return {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [container],
        "volumes": [
            {
                "name": VOLUME,
                "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes},
            }
        ],
    }
