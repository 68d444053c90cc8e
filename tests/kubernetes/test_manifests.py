"""deploy/kubernetes, taken by an API server that knows KubeRay's resources: `make test-kubernetes`.

The commands of deploy/kubernetes.md are run as they stand there, but for the charts of operators.
The tests go on from each other, in this order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.server import Cluster, cluster, scripts
from tests.unit.test_deploy import DEPLOY
from tests.unit.test_deploy_kubernetes import (
    OVERLAYS,
    PAGE,
    Manifest,
    built,
    groups,
    of_ray,
    written,
)

NAMESPACE = ("--namespace", "simdist")


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubernetes")) as started:
        print(f"Kubernetes {started.version()}")
        yield started


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's commands run."""
    ignored = shutil.ignore_patterns("secrets", "data", ".env")
    return shutil.copytree(DEPLOY, tmp_path_factory.mktemp("copy") / "deploy", ignore=ignored)


def test_the_secrets_are_made_as_the_page_says(kubernetes: Cluster, deploy: Path) -> None:
    [script] = scripts(PAGE)
    kubernetes.shell(script, where=deploy)
    listed = json.loads(kubernetes.kubectl("get", "secrets", *NAMESPACE, "--output", "json"))
    made = {secret["metadata"]["name"]: set(secret["data"]) for secret in listed["items"]}
    assert made == {
        "simdist": {"redis-password", "redis-ca.crt", "tokens"},
        "simdist-ray": {"auth_token"},
        "redis-operator": {"password"},
        "redis-acl": {"user.acl"},
        "redis-tls": {"ca.crt", "tls.crt", "tls.key"},
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_applied_as_the_page_says(
    kubernetes: Cluster, deploy: Path, overlay: str
) -> None:
    """And the same again changes nothing."""
    command = f"kubectl apply -k kubernetes/{overlay}"
    if overlay.endswith("gpu"):
        assert command in PAGE
    kubernetes.shell(command, where=deploy)
    before = versions(kubernetes, overlay)
    kubernetes.shell(command, where=deploy)
    assert versions(kubernetes, overlay) == before


def versions(kubernetes: Cluster, overlay: str) -> list[str]:
    """What the server counts up with each change of a resource."""
    resource = ("--output", "jsonpath={.metadata.resourceVersion}", "--filename", "-")
    return [kubernetes.kubectl("get", *resource, given=one) for one in built(overlay)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_keeps_all_that_is_written(kubernetes: Cluster, overlay: str) -> None:
    """Server-side apply refuses a field that it does not know, and drops none."""
    for manifest in built(overlay):
        said = kubernetes.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--output", "json", "--filename", "-"),
            given=manifest,
        )
        kept = json.loads(said)
        assert_within(manifest, kept, manifest["kind"])


def assert_within(written: object, kept: object, place: str) -> None:
    """Check that what is kept has all that was written; the server adds its defaults."""
    if isinstance(written, dict):
        assert isinstance(kept, dict)
        for name, value in written.items():
            assert name in kept, f"{place}.{name} is dropped"
            assert_within(value, kept[name], f"{place}.{name}")
    elif isinstance(written, list):
        assert isinstance(kept, list)
        assert len(written) == len(kept), place
        for number, (one, other) in enumerate(zip(written, kept, strict=True)):
            assert_within(one, other, f"{place}[{number}]")
    else:
        assert written == kept, place


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_the_pods(kubernetes: Cluster, overlay: str) -> None:
    """As they stand in the groups: KubeRay adds to them when it makes pods of them."""
    for number, group in enumerate(groups(of_ray(built(overlay)))):
        name = f"{overlay.replace('/', '-')}-{number}"
        kubernetes.kubectl("create", *NAMESPACE, "--filename", "-", given=pod(name, group))


def pod(name: str, group: Manifest) -> Manifest:
    template = group["template"]
    metadata = template.get("metadata", {}) | {"name": name}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}


def test_what_is_wrong_is_refused(kubernetes: Cluster) -> None:
    """By the server itself: these tests would not notice much otherwise."""
    [job] = written("ingest/base")
    [policy, *_] = [one for one in written("base") if one["kind"] == "NetworkPolicy"]
    block = {"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}
    outside = {"podSelector": {}, "egress": [{"to": [{"ipBlock": block}]}]}
    head = next(groups(job))
    [container] = head["template"]["spec"]["containers"]
    astray = [*container["volumeMounts"], {"name": "nowhere", "mountPath": "/nowhere"}]
    head["template"]["spec"]["containers"] = [container | {"volumeMounts": astray}]
    for wrong, complaint in (
        (job | {"spec": job["spec"] | {"backofLimit": 3}}, "backofLimit"),
        (job | {"spec": job["spec"] | {"backoffLimit": "three"}}, "backoffLimit"),
        (policy | {"spec": outside}, "192.168.0.0/16"),
        (pod("wrong", head), "nowhere"),
    ):
        done = kubernetes.attempt(
            "apply", "--server-side", *NAMESPACE, "--filename", "-", given=wrong
        )
        assert done.returncode != 0
        assert complaint in done.stderr
