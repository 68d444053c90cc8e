"""The fields of KubeRay 1.7.0's resources, as far as they are not Kubernetes' own.

No package has its schemas. These are the names and types in its custom resource definitions of
`RayService` and `RayJob` (ray.io/v1); what is a pod's, `template`, is left to Kubernetes' schema.
"""

from __future__ import annotations

from typing import Any

_STRING = {"type": "string"}
_NUMBER = {"type": "integer"}
_BOOLEAN = {"type": "boolean"}
_OBJECT = {"type": "object"}
_STRINGS = {"type": "object", "additionalProperties": _STRING}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_GROUP = {
    "labels": _STRINGS,
    "rayStartParams": _STRINGS,
    "resources": _STRINGS,
    "template": _OBJECT,
}
_HEAD_GROUP = _object(
    "template",
    **_GROUP,
    enableIngress=_BOOLEAN,
    headService=_OBJECT,
    ingressOptions=_OBJECT,
    serviceType=_STRING,
)
_WORKER_GROUP = _object(
    "groupName",
    "maxReplicas",
    "minReplicas",
    "template",
    **_GROUP,
    groupName=_STRING,
    idleTimeoutSeconds=_NUMBER,
    maxReplicas=_NUMBER,
    minReplicas=_NUMBER,
    numOfHosts=_NUMBER,
    priority=_NUMBER,
    replicas=_NUMBER,
    scaleStrategy=_OBJECT,
    suspend=_BOOLEAN,
)
_AUTOSCALER = _object(
    args={"type": "array"},
    command={"type": "array"},
    env={"type": "array"},
    envFrom={"type": "array"},
    idleTimeoutSeconds=_NUMBER,
    image=_STRING,
    imagePullPolicy=_STRING,
    resources=_OBJECT,
    securityContext=_OBJECT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    volumeMounts={"type": "array"},
)
_AUTHENTICATION = _object(
    enableK8sTokenAuth=_BOOLEAN, mode={"enum": ["disabled", "token"]}, secretName=_STRING
)
_CLUSTER = _object(
    "headGroupSpec",
    authOptions=_AUTHENTICATION,
    autoscalerOptions=_AUTOSCALER,
    enableInTreeAutoscaling=_BOOLEAN,
    gcsFaultToleranceOptions=_OBJECT,
    headGroupSpec=_HEAD_GROUP,
    headServiceAnnotations=_STRINGS,
    historyServerOptions=_OBJECT,
    managedBy=_STRING,
    networkPolicy=_OBJECT,
    rayVersion=_STRING,
    suspend=_BOOLEAN,
    tlsOptions=_OBJECT,
    upgradeStrategy=_OBJECT,
    workerGroupSpecs={"type": "array", "items": _WORKER_GROUP},
)
_SERVICE = _object(
    "rayClusterConfig",
    deploymentUnhealthySecondThreshold=_NUMBER,
    excludeHeadPodFromServeSvc=_BOOLEAN,
    managedBy=_STRING,
    rayClusterConfig=_CLUSTER,
    rayClusterDeletionDelaySeconds=_NUMBER,
    serveConfigV2=_STRING,
    serveService=_OBJECT,
    serviceUnhealthySecondThreshold=_NUMBER,
    suspend=_BOOLEAN,
    upgradeStrategy=_OBJECT,
)
_JOB = _object(
    activeDeadlineSeconds=_NUMBER,
    backoffLimit=_NUMBER,
    clusterSelector=_STRINGS,
    deletionStrategy=_OBJECT,
    entrypoint=_STRING,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=_STRING,
    jobId=_STRING,
    managedBy=_STRING,
    metadata=_STRINGS,
    preRunningDeadlineSeconds=_NUMBER,
    rayClusterSpec=_CLUSTER,
    runtimeEnvYAML=_STRING,
    shutdownAfterJobFinishes=_BOOLEAN,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=_OBJECT,
    submitterPodTemplate=_OBJECT,
    suspend=_BOOLEAN,
    ttlSecondsAfterFinished=_NUMBER,
)


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a `RayService` or `RayJob`."""
    return _object(
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_OBJECT,
        spec={"RayService": _SERVICE, "RayJob": _JOB}[kind],
    )
