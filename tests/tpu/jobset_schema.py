"""A JSON schema of the JobSets that rlx writes, and of no key more.

Clusters drop unknown keys in silence, and the public schemas allow them: a misspelt `maxRestart`
would pass both and never restart anything.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def exactly(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Schema:
    """Return the schema of an object with these keys; a plain value stands for itself."""
    properties = {
        key: value if isinstance(value, dict) else {"const": value}
        for key, value in (required | (optional or {})).items()
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def several(items: Schema, **more: Any) -> Schema:
    """Return the schema of a list of one or more."""
    return {"type": "array", "items": items, "minItems": 1} | more


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


TEXT = {"type": "string", "minLength": 1}
NAME = {"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": 28}
COUNT = {"type": "integer", "minimum": 1}

CONTAINER = exactly(
    {
        "name": "worker",
        "image": TEXT,
        "command": {
            "type": "array",
            "prefixItems": [
                {"const": "bash"},
                {"const": "-c"},
                {"type": "string", "pattern": "^exec python -m experiments\\."},
            ],
            "items": False,
            "minItems": 3,
        },
        "env": several(exactly({"name": TEXT, "value": TEXT})),
        "resources": exactly({"limits": exactly({"google.com/tpu": one_of(1, 4)})}),
        "volumeMounts": several(exactly({"name": "workdirs", "mountPath": "/mnt/rlx"}), maxItems=1),
    }
)
VOLUME = exactly(
    {
        "name": "workdirs",
        "csi": exactly(
            {
                "driver": "gcsfuse.csi.storage.gke.io",
                "volumeAttributes": exactly(
                    {"bucketName": TEXT, "mountOptions": TEXT, "hostNetworkPodKSA": "true"}
                ),
            }
        ),
    }
)
POD = exactly(
    {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": {"type": "integer", "minimum": 120},
        "nodeSelector": exactly(
            {
                "cloud.google.com/gke-tpu-accelerator": TEXT,
                "cloud.google.com/gke-tpu-topology": {
                    "type": "string",
                    "pattern": "^[0-9]+(x[0-9]+){1,2}$",
                },
            },
            {"cloud.google.com/gke-spot": "true"},
        ),
        "tolerations": several(exactly({"key": TEXT, "operator": "Exists"})),
        "containers": several(CONTAINER, maxItems=1),
        "volumes": several(VOLUME, maxItems=1),
    }
)
EXIT_CODES = exactly(
    {
        "containerName": "worker",
        "operator": one_of("In", "NotIn"),
        "values": several(
            {"type": "integer", "minimum": 1, "maximum": 255}, maxItems=255, uniqueItems=True
        ),
    }
)
JOB = exactly(
    {
        "parallelism": COUNT,
        "completions": COUNT,
        "completionMode": "Indexed",
        "backoffLimit": {"type": "integer", "const": 0},
        "podFailurePolicy": exactly(
            {
                "rules": several(
                    exactly(
                        {"action": one_of("FailJob", "Ignore", "Count"), "onExitCodes": EXIT_CODES}
                    )
                )
            }
        ),
        "template": exactly(
            {
                "metadata": exactly({"annotations": exactly({"gke-gcsfuse/volumes": "true"})}),
                "spec": POD,
            }
        ),
    }
)
FAILURE_POLICY = exactly(
    {
        "maxRestarts": {"type": "integer", "minimum": 0},
        "rules": several(
            exactly(
                {
                    "name": NAME,
                    "action": one_of(
                        "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"
                    ),
                    "onJobFailureReasons": several(
                        one_of(
                            "BackoffLimitExceeded",
                            "DeadlineExceeded",
                            "FailedIndexes",
                            "MaxFailedIndexesExceeded",
                            "PodFailurePolicy",
                        )
                    ),
                }
            )
        ),
    }
)
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
JOBSET = exactly(
    {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": exactly(
            {
                "name": NAME,
                "labels": exactly({"kueue.x-k8s.io/queue-name": TEXT}),
                "annotations": exactly({EXCLUSIVE: "cloud.google.com/gke-nodepool"}),
            }
        ),
        "spec": exactly(
            {
                "failurePolicy": FAILURE_POLICY,
                "replicatedJobs": several(
                    exactly({"name": NAME, "replicas": COUNT, "template": exactly({"spec": JOB})})
                ),
            }
        ),
    }
)
