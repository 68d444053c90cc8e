"""A cluster as deploy/ has it: Ray's head with a token, `serve deploy`, ingest as a Ray job.

All on this machine, with the commands and files of deploy/; only addresses and ports are replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import promql_parser
import psutil
import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import simdist
from cluster.service.haproxy import PROGRAM_VARIABLE
from simdist.errors import ServiceError
from simdist.settings import REDIS_URL_VARIABLE
from tests.cluster.conftest import without_servers
from tests.conftest import PHOTOS, QUERIES, ROOT
from tests.servers import eventually, free_port, running, valkey
from tests.service import stop_all
from tests.unit.test_deploy import DEPLOY, queries, read

READ = "read-read-read-read"
BIN = Path(sys.executable).parent
SECONDS = 120


@dataclass(frozen=True)
class Head:
    """A Ray cluster of one node, started as deploy/compose.yaml starts its head.

    Attributes:
        dashboard: where jobs and Serve configs are sent to.
        metrics: where Ray's figures of the node are.
        folder: a working folder, with the Serve config `serve.yaml` and some photographs.
        service: where a service will listen.
        environment: what processes of the cluster find.
    """

    dashboard: str
    metrics: str
    folder: Path
    service: str
    environment: dict[str, str]

    def run(self, command: str, *, tries: int = 1) -> str:
        """Run a command of deploy/ here, against this cluster."""
        words = shlex.split(command)
        for _ in range(tries):
            done = subprocess.run(
                [BIN / words[0], *words[1:]],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "ray_token").write_text("a-token-for-ray-itself")
    (folder / "tokens").write_text(f"read {READ}\n")
    (folder / "redis_password").touch()
    with running(valkey(), folder / "redis") as redis:
        compose = read("compose.yaml")["services"]["head"]
        environment = {
            name: value.replace("/run/secrets", str(folder))
            for name, value in compose["environment"].items()
        } | {REDIS_URL_VARIABLE: redis.url}
        # A short name: sockets lie in it, Ray's and HAProxy's.
        with TemporaryDirectory(prefix="sd-", dir="/tmp", ignore_cleanup_errors=True) as ray:
            environment |= _haproxy(Path(ray) / "haproxy")
            environment = without_servers(**environment, PYTHONPATH=str(ROOT))
            environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
            ports = [free_port() for _ in range(5)]
            service = _serve_config(folder)
            (folder / "fish").symlink_to(PHOTOS / "fish")
            # The last of two equal options counts.
            here = (
                f"--temp-dir={ray} --num-cpus=3 --node-ip-address=127.0.0.1 "
                f"--dashboard-host=127.0.0.1 --port={ports[0]} --dashboard-port={ports[1]} "
                f"--dashboard-agent-listen-port={ports[2]} --metrics-export-port={ports[3]} "
                f"--ray-client-server-port={ports[4]} --disable-usage-stats"
            )
            process = subprocess.Popen(
                [*shlex.split(compose["command"]), *here.split()],
                executable=BIN / "ray",
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                # As the health check of the compose file.
                [path] = set(re.findall(r"52365(/[\w/]+)", compose["healthcheck"]["test"][-1]))
                agent, dashboard, metrics = (
                    f"http://127.0.0.1:{port}" for port in (ports[2], ports[1], ports[3])
                )
                eventually(lambda: _answers(agent + path), seconds=SECONDS)
                eventually(lambda: _answers(dashboard + "/api/version", code=401), seconds=SECONDS)
                yield Head(dashboard, metrics, folder, service, environment)
            finally:
                stop_all(psutil.Process(process.pid))
                process.wait()


def _haproxy(folder: Path) -> dict[str, str]:
    """What the image says of HAProxy, with another place for the program and for its files."""
    text = (DEPLOY / "Dockerfile").read_text()
    said = re.findall(r'(RAY_SERVE_HAPROXY_\w+)=(?:"(.*?)"|(\S+))', text)
    variables = {name: quoted or plain for name, quoted, plain in said}
    assert PROGRAM_VARIABLE in variables
    return variables | {
        PROGRAM_VARIABLE: str(DEPLOY / "haproxy.sh"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
    }


def _serve_config(folder: Path) -> str:
    """Write deploy/serve.yaml with another address; returns where it says to listen."""
    config = read("serve.yaml")
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    return f"http://127.0.0.1:{config['http_options']['port']}"


def _answers(url: str, code: int = 200) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == code
    except (requests.ConnectionError, requests.Timeout):
        return False


def command_of(page: str, start: str) -> str:
    """The command of a page of deploy/ that begins like that."""
    [command] = re.findall(rf"^ *({start} .*)$", (DEPLOY / page).read_text(), re.MULTILINE)
    return str(command)


@pytest.mark.timeout(600)
def test_serve_ingest_search_and_watch(head: Head) -> None:
    # Serve, as compose.yaml has it, before there is anything to serve.
    script = read("compose.yaml")["services"]["service"]["command"]
    [(status, deploy)] = re.findall(r"; (simdist status) >/dev/null && (serve deploy .*?);", script)
    head.run(status)
    deploy = deploy.replace("http://head:8265", head.dashboard).replace("/etc/simdist/", "")
    # As Compose does: on a machine that is too busy, Serve gives its proxy up, and starts another.
    head.run(deploy, tries=5)
    eventually(lambda: _answers(head.service + "/readyz"), seconds=SECONDS)
    assert requests.get(head.service + "/v1/collections", timeout=10).status_code == 401
    # HAProxy is amended as `simdist serve` amends it: it shows nobody its figures.
    for name in ("METRICS", "STATS"):
        port = int(head.environment[f"RAY_SERVE_HAPROXY_{name}_PORT"])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)
    haproxy = Path(head.environment["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
    assert [path.stat().st_mode & 0o077 for path in haproxy.rglob("admin.sock")] == [0]
    missing = pytest.raises(ServiceError, match="there is no collection 'images'")
    with simdist.Client(head.service, token=READ) as client, missing:
        client.search(image=QUERIES / "fish.jpg")

    # Ingest, as vms.md has it, without GPUs.
    command = command_of("vms.md", "ray job submit")
    command = command.replace("http://127.0.0.1:8265", head.dashboard)
    command = command.replace("s3://BUCKET/PREFIX", str(head.folder / "fish"))
    command = command.replace("--gpus 8", "--actors 1").replace("--no-wait ", "")
    assert "27 listed: 27 added" in head.run(command)
    ingested = ingest_samples(head)

    with simdist.Client(head.service, token=READ) as client:
        eventually(lambda: _finds_fish(client), seconds=SECONDS)
        # A minute later the same again changes nothing: the same worker answers.
        head.run(deploy, tries=5)
        eventually(lambda: _finds_fish(client), seconds=SECONDS)
    served = samples(head.service + "/metrics", token=READ)
    [count] = [
        sample.value
        for sample in served
        if sample.name == "simdist_requests_total"
        and (sample.labels["route"], sample.labels["status"]) == ("/v1/search", "200")
    ]
    assert count == 2

    # What dashboard and alerts ask for is really there; `up` is Prometheus's own, and GPUs are not.
    exported: dict[str, set[str]] = {}
    for sample in [*ingested, *served]:
        exported.setdefault(sample.name, set()).update(sample.labels)
    exported["up"], exported["ray_node_gpus_utilization"] = {"job"}, {"GpuIndex"}
    for query in queries():
        for name, labels in asked(promql_parser.parse(query)).items():
            assert labels <= exported.get(name, set()), (query, name)
            assert name in exported, query


def _finds_fish(client: simdist.Client) -> bool:
    try:
        return client.search(image=QUERIES / "fish.jpg", n=1)[0].label == "fish"
    except ServiceError as error:
        # The first search loads what is compiled; on a busy machine that takes longer than it may.
        assert error.status == 503, error
        return False


def ingest_samples(head: Head) -> list[Sample]:
    """Ray's figures and the ingest's; they come in turns, and a scrape takes what has come."""
    found: list[Sample] = []

    def complete() -> bool:
        found.extend(samples(head.metrics))
        names = {sample.name.removeprefix("ray_simdist_ingest_") for sample in found}
        return names >= {"images_total", "listed_total", "busy", "shards"}

    eventually(complete)
    return found


def samples(url: str, *, token: str | None = None) -> list[Sample]:
    """What Prometheus finds there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.get(url, headers=headers, timeout=10)
    answer.raise_for_status()
    families = text_string_to_metric_families(answer.text)
    return [sample for family in families for sample in family.samples]


def asked(expression: promql_parser.Expr) -> dict[str, set[str]]:
    """The metrics that a query selects, each with the labels that it names."""
    found: dict[str, set[str]] = {}

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None
            named = {matcher.name for matcher in node.matchers.matchers}
            found.setdefault(node.name, set()).update(named)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            for name in asked(node.expr):
                found.setdefault(name, set()).update(node.modifier.labels)

    promql_parser.walk(expression, visit)
    return found
