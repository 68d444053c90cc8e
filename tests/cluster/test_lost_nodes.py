"""Three nodes of Ray, and three of Redis as deploy/redis/ sets them up: one of each is lost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from ray._private.node import Node

import simdist
from simdist.embedding import Embedder
from simdist.errors import SimdistError
from simdist.search.searcher import Searcher
from simdist.sources import uri_path
from simdist.store import Store, connect, layout
from tests.cluster.conftest import refs_of, without_servers
from tests.cluster.nodes import WATCHFUL, ray_cluster
from tests.conftest import PHOTOS, QUERIES
from tests.deployed import DeployedServer, deployed_cluster, set_up, whole
from tests.servers import eventually, wait_until_written
from tests.service import COLLECTION, embedded_once, running_service

PARTITIONS = 6
# A head, and two nodes for the work.
NODES = ({"num_cpus": 1}, {"num_cpus": 3}, {"num_cpus": 3})


@pytest.mark.timeout(900)
def test_a_node_of_each_is_lost_and_replaced(
    folder: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc = set_up(tmp_path / "etc")
    # Before Ray starts: its nodes have it from there. Nobody else is told the password.
    password = etc / "secrets" / "simdist-password"
    monkeypatch.setenv("SIMDIST_REDIS_PASSWORD_FILE", str(password))
    with (
        deployed_cluster(tmp_path / "redis", etc) as redis,
        ray_cluster(*NODES, settings=WATCHFUL) as ray,
    ):
        url = f"rediss://simdist@localhost:{redis[0].port}?ssl_ca_certs={redis[0].ca}"
        on_them = ("--redis", url, "--ray-address", ray.address)
        index_some(url, embedder, folder)
        with (
            closing(connect(url)) as store,
            running_service(url, *on_them[2:], "--workers", "2") as service,
            simdist.Client(service.url) as client,
        ):
            expected = answer(store, embedder)
            assert [hit.uri for hit in client.search(image=FISH)] == expected

            lost = home(redis, 0)
            wait_until_written(lost)
            lost.kill()
            done = ingest(PHOTOS, *on_them)
            assert done.returncode == 1
            assert "is not whole" in done.stderr
            lost.start()
            eventually(lambda: all(whole(node) for node in redis))
            eventually(lambda: found(client) == expected)

            busy = next(node for node in ray.worker_nodes if serves(node))
            ray.remove_node(busy, allow_graceful=False)
            eventually(lambda: found(client) == expected)
            ray.add_node(num_cpus=3)
            # The same command goes on where the lost node of Redis stopped it.
            done = ingest(PHOTOS, *on_them)
            assert done.returncode == 0, done.stderr
            assert simdist.Collection.open(store, COLLECTION).known(refs_of(PHOTOS)).all()
            eventually(lambda: found(client) == answer(store, embedder))


FISH = QUERIES / "fish.jpg"


def index_some(url: str, embedder: Embedder, folder: Path) -> None:
    """Index the photographs of a folder in this process."""
    with closing(connect(url)) as store:
        collection = simdist.Collection.ensure(
            store, COLLECTION, model=embedder.model, partitions=PARTITIONS
        )
        refs = refs_of(folder)
        collection.add(embedded_once(embedder, [uri_path(ref.uri) for ref in refs]), refs)


def ingest(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What `simdist ingest` says and leaves."""
    command = [sys.executable, "-m", "simdist", "ingest", str(place), "-c", COLLECTION]
    command += ["--partitions", str(PARTITIONS), "--model", "efficientnet-lite0", "--actors", "2"]
    return subprocess.run(
        [*command, *options], env=without_servers(), capture_output=True, text=True, check=False
    )


def answer(store: Store, embedder: Embedder) -> list[str]:
    """What this process finds."""
    [vector] = embedder.embed_files([FISH])
    searcher = Searcher(simdist.Collection.open(store, COLLECTION))
    return [hit.uri for hit in searcher.search(vector)]


def serves(node: Node) -> bool:
    """Whether a part of the service runs on a node of Ray."""
    [raylet] = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children(recursive=True)
    return any("ServeReplica" in " ".join(child.cmdline()) for child in children)


def found(client: simdist.Client) -> list[str] | None:
    """What the service finds; None while it cannot."""
    try:
        return [hit.uri for hit in client.search(image=FISH)]
    except SimdistError:
        return None


def home(nodes: list[DeployedServer], partition: int) -> DeployedServer:
    """The node that holds a partition."""
    slot = int(nodes[0].ask("CLUSTER", "KEYSLOT", layout.Keys(COLLECTION, partition).meta))
    for first, last, primary, *_ in nodes[0].ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in nodes if node.port == primary[1])
    raise AssertionError("nobody has it")
