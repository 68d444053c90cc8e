"""The pool of query workers on a Ray cluster: asked by HTTP, by handle, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

import simdist
from simdist.embedding import Embedder
from simdist.search.searcher import Searcher
from simdist.sources import file_uri
from simdist.store import connect
from tests.cluster.conftest import without_servers
from tests.cluster.nodes import ray_cluster
from tests.conftest import PHOTOS, QUERIES
from tests.servers import running, valkey
from tests.service import COLLECTION, Service, index_photos, running_service

FISH = QUERIES / "fish.jpg"
HORSES = file_uri(PHOTOS / "animals" / "horses.jpg")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster of two nodes, on this machine."""
    with ray_cluster({"num_cpus": 4}, {"num_cpus": 4}) as cluster:
        yield cluster.address


@pytest.fixture(scope="module")
def served(
    address: str, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> Iterator[Service]:
    with running(valkey(), tmp_path_factory.mktemp("pool")) as redis:
        index_photos(redis.url, embedder)
        arguments = ("--ray-address", address, "--workers", "2")
        with running_service(redis.url, *arguments) as service:
            yield service


def test_every_way_finds_the_same(served: Service, address: str, embedder: Embedder) -> None:
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

    # By the handle, in a process of its own; it knows nothing but the cluster: no Redis is named.
    assert by_handle(address, str(FISH)) == uris
    assert by_handle(address, HORSES) == [hit.uri for hit in by_uri]
    store.close()


def by_handle(address: str, image: str) -> list[str]:
    """The URIs that `simdist search` finds through the query workers of a cluster."""
    command = [sys.executable, "-m", "simdist", "search", image, "--json", "-c", COLLECTION]
    done = subprocess.run(
        [*command, "--ray-address", address],
        env=without_servers(),
        stdout=subprocess.PIPE,
        check=True,
    )
    [found] = json.loads(done.stdout)
    return [hit["uri"] for hit in found["hits"]]
