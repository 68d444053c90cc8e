"""The pool of query workers on a Ray cluster: asked by HTTP, by handle, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import simdist
from cluster.pool import Pool
from cluster.runtime import ray_session
from simdist.embedding import Embedder
from simdist.errors import UnknownImageError
from simdist.search import Searcher
from simdist.settings import Settings
from simdist.sources import file_uri
from simdist.store import connect
from tests.command_line import CommandLine
from tests.conftest import PHOTOS, QUERIES, ROOT
from tests.servers import running, valkey
from tests.service import COLLECTION, Service, index_photos, running_service

FISH = QUERIES / "fish.jpg"
HORSES = file_uri(PHOTOS / "animals" / "horses.jpg")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster of two nodes, on this machine."""
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def served(
    address: str, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> Iterator[Service]:
    with running(valkey(), tmp_path_factory.mktemp("pool")) as redis:
        index_photos(redis.url, embedder)
        arguments = ("--ray-address", address, "--workers", "2")
        with running_service(redis.url, *arguments) as service:
            yield service


def test_every_way_finds_the_same(
    served: Service, address: str, cli: CommandLine, embedder: Embedder
) -> None:
    store = connect(served.redis_url)
    searcher = Searcher(simdist.Collection.open(store, COLLECTION))
    [vector] = embedder.embed_files([FISH])
    expected = searcher.search(vector)
    uris = [hit.uri for hit in expected]
    stored = searcher.collection.get(HORSES)
    assert stored is not None

    with simdist.Client(served.url) as client:
        assert [hit.uri for hit in client.search(image=FISH)] == uris
        by_uri = client.search(uri=HORSES)
    assert by_uri == searcher.search(stored.vector)

    with ray_session(Settings.resolve(ray_address=address)):
        pool = Pool.find()
        assert pool is not None
        assert [hit.uri for hit in pool.search(image=FISH.read_bytes())] == uris
        assert pool.search(uri=HORSES) == by_uri
        with pytest.raises(UnknownImageError, match="is not indexed"):
            pool.search(uri="file:///nowhere.jpg")

    # Nothing but the cluster: no Redis is named that has the collection.
    answer = cli.run("search", str(FISH), "--ray-address", address, "-c", COLLECTION, "--json")
    assert answer.code == 0, answer.err
    [found] = json.loads(answer.out)
    assert [hit["uri"] for hit in found["hits"]] == uris
    store.close()


def test_a_serve_config_file(served: Service, address: str, tmp_path: Path) -> None:
    """As `serve deploy` takes it too, which asks for Ray's dashboard."""
    arguments = {"redis_url": served.redis_url, "collections": [COLLECTION], "loopback": True}
    config = {
        "applications": [
            {
                "name": "other",
                "import_path": "cluster.service:app",
                "route_prefix": "/other",
                "args": arguments | {"model": "efficientnet-lite0", "workers": [1, 2]},
            }
        ]
    }
    # JSON is YAML.
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    serve = [str(Path(sys.executable).parent / "serve"), "run", "--non-blocking"]
    subprocess.run(
        [*serve, "--address", address, str(tmp_path / "config.yaml")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with simdist.Client(f"{served.url}/other") as client:
        assert client.search(uri=HORSES, n=1)[0].uri == HORSES
        assert client.search(image=FISH, n=1)[0].label == "fish"
