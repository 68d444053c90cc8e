"""The manifests in deploy/kubernetes, as kustomize builds them, are right to their readers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tests import kuberay
from tests.command_line import tool
from tests.unit.test_deploy import DEPLOY, VERSION, assert_ray_starts, read

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ["cpu", "gpu", "ingest/cpu", "ingest/gpu"]
PAGE = (DEPLOY / "kubernetes.md").read_text()
Manifest = dict[str, Any]


def built(overlay: str) -> list[Manifest]:
    done = subprocess.run(
        [tool("kubectl"), "kustomize", KUBERNETES / overlay], check=True, capture_output=True
    )
    return list(yaml.safe_load_all(done.stdout))


def written(folder: str) -> list[Manifest]:
    """The manifests of a base, without kustomize."""
    base = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    return [
        manifest
        for name in base["resources"]
        for manifest in yaml.safe_load_all((KUBERNETES / folder / name).read_text())
    ]


def cluster(manifest: Manifest) -> Manifest:
    """The Ray cluster of a RayService or RayJob."""
    spec = manifest["spec"]
    found: Manifest = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
    return found


def groups(manifest: Manifest) -> Iterator[Manifest]:
    yield cluster(manifest)["headGroupSpec"]
    yield from cluster(manifest)["workerGroupSpecs"]


def of_ray(manifests: list[Manifest]) -> Manifest:
    [found] = [manifest for manifest in manifests if manifest["apiVersion"] == "ray.io/v1"]
    return found


def assert_valid(manifest: Manifest) -> None:
    if manifest["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(manifest, "1.32", strict=True)
        return
    jsonschema.validate(manifest, kuberay.schema(manifest["kind"]))
    for group in groups(manifest):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **group["template"]}
        kubernetes_validate.validate(pod, "1.32", strict=True)
        words = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
        assert_ray_starts(" ".join(["ray start", *words]))


@pytest.mark.parametrize("base", ["base", "ingest/base"])
def test_the_bases_are_valid(base: str) -> None:
    for manifest in written(base):
        assert_valid(manifest)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlays_are_valid(overlay: str) -> None:
    manifests = built(overlay)
    for manifest in manifests:
        assert_valid(manifest)
    for group in groups(of_ray(manifests)):
        kind = overlay.rpartition("/")[2]
        [container] = group["template"]["spec"]["containers"]
        assert container["image"] == f"simdist:{VERSION}-{kind}"


def test_a_misspelled_key_is_found() -> None:
    [job] = written("ingest/base")
    for change in (
        {"backofLimit": 3},
        {"submissionMode": "Sidecar"},
        {"rayClusterSpec": {**job["spec"]["rayClusterSpec"], "authOption": {}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            assert_valid(job | {"spec": job["spec"] | change})
    workers = cluster(job)["workerGroupSpecs"][0]
    workers["template"]["spec"]["containers"][0]["securitycontext"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        assert_valid(job)


def test_the_service_is_that_of_serve_yaml() -> None:
    expected = read("serve.yaml")
    # Its nodes are its own.
    expected["applications"][0]["args"]["cpus"] = 1
    on_cpu = yaml.safe_load(of_ray(written("base"))["spec"]["serveConfigV2"])
    assert on_cpu == expected
    on_gpu = yaml.safe_load(of_ray(built("gpu"))["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(on_gpu)
    assert on_gpu["applications"][0]["args"].pop("gpu") is True
    assert on_gpu == expected


@pytest.mark.parametrize("overlay", ["gpu", "ingest/gpu"])
def test_gpus_are_requested_and_their_taint_tolerated(overlay: str) -> None:
    asked = [
        group["template"]["spec"]
        for group in groups(of_ray(built(overlay)))
        if "nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]
    ]
    [spec] = asked
    assert "nvidia.com/gpu" in [toleration["key"] for toleration in spec["tolerations"]]


@pytest.mark.parametrize("base", ["base", "ingest/base"])
def test_pods_are_as_restricted_wants_them(base: str) -> None:
    for group in groups(of_ray(written(base))):
        spec = group["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounted = {place["mountPath"] for place in container["volumeMounts"]}
            assert {"/tmp", "/home/simdist"} < mounted  # noqa: S108
        # What the autoscaler's second version asks for.
        assert spec["restartPolicy"] == "Never"
    head, *workers = groups(of_ray(written(base)))
    assert "automountServiceAccountToken" not in head["template"]["spec"]
    for group in workers:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_secrets_are_named_as_the_page_makes_them() -> None:
    made: dict[str, set[str]] = {}
    for line in re.findall(r"create secret generic (.*)", PAGE):
        name, *files = line.split()
        keys = [file.removeprefix("--from-file=") for file in files]
        made[name] = {key.partition("=")[0] if "=" in key else Path(key).name for key in keys}
    for base in ("base", "ingest/base"):
        manifest = of_ray(written(base))
        assert cluster(manifest)["authOptions"] == {"mode": "token", "secretName": "simdist-ray"}
        for group in groups(manifest):
            spec = group["template"]["spec"]
            secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
            assert [secret["secretName"] for secret in secrets] == ["simdist"]
            for variable in spec["containers"][0]["env"]:
                if variable["name"].endswith("_FILE"):
                    assert Path(variable["value"]).name in made["simdist"]
    assert made["simdist-ray"] == {"auth_token"}
    values = yaml.safe_load((KUBERNETES / "redis-values.yaml").read_text())
    assert {values["TLS"]["secret"]["secretName"], values["acl"]["secret"]["secretName"]} < set(
        made
    )
    password = values["redisCluster"]["redisSecret"]
    assert password["secretKey"] in made[password["secretName"]]
    # `ssl_ca_certs` in the URL.
    assert "redis-ca.crt" in made["simdist"]


def test_nobody_comes_in_who_is_not_named() -> None:
    policies = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in written("base")
        if manifest["kind"] == "NetworkPolicy"
    }
    everything = policies["nothing-by-default"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for spec in policies.values():
        assert all(rule.get("from") for rule in spec.get("ingress", ()))
    # Beyond Ray's own pods, nobody reaches more than these ports.
    ports = [port["port"] for rule in policies["ray"]["ingress"][1:] for port in rule["ports"]]
    assert set(ports) == {8000, 8080, 8265}


def test_pods_reach_public_addresses_only() -> None:
    """But for their own kind, Redis and names; and the head's autoscaler the Kubernetes API."""
    policies = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in written("base")
        if manifest["kind"] == "NetworkPolicy"
    }
    blocks: dict[str, list[tuple[Any, list[Any]]]] = {}
    for name, spec in policies.items():
        for rule in spec.get("egress", ()):
            ports = {port["port"] for port in rule["ports"]} if "ports" in rule else set()
            for peer in rule.get("to", [{"everyone": ports}]):
                assert "everyone" not in peer or name == "names", (name, rule)
                if block := peer.get("ipBlock"):
                    network = ip_network(block["cidr"])
                    without = [ip_network(one) for one in block["except"]]
                    assert {one.version for one in without} == {network.version}
                    for one in without:
                        # Mapped, it is IPv4 to Kubernetes, which refuses it within IPv6. Nothing is
                        # sent to such an address but as IPv4, to which the other block applies.
                        assert one.version == 4 or one.network_address.ipv4_mapped is None
                    blocks.setdefault(name, []).append((network, without))
                    assert ports == ({80, 443} if name == "ray" else {443, 6443})

    def reached(name: str, address: str) -> bool:
        ip = ip_address(address)
        return any(
            ip in network and not any(ip in one for one in without)
            for network, without in blocks[name]
        )

    assert blocks.keys() == {"ray", "autoscaler"}
    assert policies["autoscaler"]["podSelector"] == {"matchLabels": {"ray.io/node-type": "head"}}
    for address in ("93.184.216.34", "2606:2800:220:1::1"):
        assert reached("ray", address)
    for address in ("169.254.169.254", "fe80::1", "fd00:ec2::254"):
        assert not reached("ray", address)
        assert not reached("autoscaler", address)
    for address in ("10.96.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "fd12::1"):
        assert not reached("ray", address)


def test_versions_of_charts_are_told_alike() -> None:
    text = "\n".join(
        path.read_text() for path in [DEPLOY / "kubernetes.md", *KUBERNETES.rglob("*.yaml")]
    )
    for name in ("kuberay-operator", "redis-operator", "redis-cluster"):
        assert len(set(re.findall(rf"`?{name}`? (\d+\.\d+\.\d+)", text))) == 1, name
