"""An API server of Kubernetes with its etcd, and nothing else of a cluster: no pod ever runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.command_line import tool
from tests.servers import eventually, free_port

APISERVER, ETCD, CRDS = "SIMDIST_KUBE_APISERVER", "SIMDIST_ETCD", "SIMDIST_KUBERAY_CRDS"


@dataclass(frozen=True)
class Cluster:
    """What answers `kubectl`.

    Attributes:
        folder: where commands run, with what `kubectl` needs to reach the server.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        path = f"{tool('kubectl').parent}:{os.environ['PATH']}"
        configuration = {"KUBECONFIG": str(self.folder / "config"), "HOME": str(self.folder)}
        return os.environ | configuration | {"PATH": path}

    def shell(self, script: str, *, where: Path) -> str:
        """Run commands in a folder, as they stand on a page; returns what they say."""
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=where,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout)
        return done.stdout

    def kubectl(self, *arguments: str, given: object = None) -> str:
        """Run it, with a manifest on stdin; returns what it says."""
        done = self.attempt(*arguments, given=given)
        assert done.returncode == 0, (arguments, done.stderr)
        # The server warns of what it takes, but not as it is meant.
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def attempt(self, *arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        return subprocess.run(
            [tool("kubectl"), *arguments],
            input=json.dumps(given),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def version(self) -> str:
        """Of the server."""
        return str(json.loads(self.kubectl("get", "--raw", "/version"))["gitVersion"])

    def knows_ray(self) -> bool:
        """Whether the server tells of KubeRay's resources."""
        fields = ("rayservice.spec.rayClusterConfig", "rayjob.spec.rayClusterSpec")
        explain = ("explain", "--api-version", "ray.io/v1")
        return all(self.attempt(*explain, field).returncode == 0 for field in fields)

    def minor(self) -> int:
        """25, of version v1.25.3."""
        return int(self.version().split(".")[1])


def needed(name: str) -> str:
    """A setting that the tests cannot do without."""
    assert name in os.environ, f"{name} must be set: see deploy/kubernetes.md"
    return os.environ[name]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the two; ends when both answer, with KubeRay's resources known."""
    server, store, peers = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    (folder / "tokens").write_text(f'{token},tester,tester,"system:masters"\n')
    key = folder / "key"
    make = ["openssl", "genrsa", "-out", str(key), "2048"]
    subprocess.run(make, check=True, capture_output=True)
    url = f"http://127.0.0.1:{store}"
    etcd = [os.environ.get(ETCD, "etcd"), "--data-dir", str(folder / "etcd")]
    etcd += ["--listen-client-urls", url, "--advertise-client-urls", url]
    etcd += ["--listen-peer-urls", f"http://127.0.0.1:{peers}"]
    apiserver = [needed(APISERVER), "--etcd-servers", url, "--cert-dir", str(folder)]
    apiserver += ["--bind-address", "127.0.0.1", "--secure-port", str(server)]
    apiserver += ["--token-auth-file", str(folder / "tokens"), "--authorization-mode", "RBAC"]
    apiserver += ["--service-account-issuer", "https://kubernetes.default.svc"]
    apiserver += ["--service-account-key-file", str(key)]
    apiserver += ["--service-account-signing-key-file", str(key)]
    # Nobody makes the accounts that pods have.
    apiserver += ["--disable-admission-plugins", "ServiceAccount"]
    with ExitStack() as stack:
        stack.enter_context(started(etcd, folder / "etcd.log"))
        stack.enter_context(started(apiserver, folder / "apiserver.log"))
        built = Cluster(folder)
        _configure(folder, f"https://127.0.0.1:{server}", token)
        eventually(lambda: built.attempt("get", "--raw", "/readyz").returncode == 0)
        # Rules are known from 1.25 on. `apply` would keep what was written in an annotation that is
        # too small for it.
        known = () if built.minor() >= 25 else ("--validate=false",)
        built.kubectl("create", *known, "--filename", needed(CRDS))
        eventually(built.knows_ray)
        yield built


@contextmanager
def started(command: list[str], log: Path) -> Iterator[None]:
    """A process, for as long as the block."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _configure(folder: Path, url: str, token: str) -> None:
    """Tell `kubectl` where the server is; its certificate is its own."""
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": url, "certificate-authority": str(folder / "apiserver.crt")},
            }
        ],
        "users": [{"name": "tester", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester"}}],
    }
    (folder / "config").write_text(json.dumps(configuration))


def scripts(page: str) -> list[str]:
    """The commands of a page, one string for each of its blocks for the shell."""
    return [str(script) for script in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)]
