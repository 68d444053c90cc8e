"""The commands of deploy/redis/README.md: secrets, a cluster that loses a node, backups."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from simdist.errors import StoreError
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.store import connect
from tests.collections import create, ref, vectors
from tests.deployed import (
    DeployedServer,
    Page,
    addresses,
    allow_tester,
    deployed_cluster,
    set_up,
    whole,
)
from tests.index_contents import contents, stored_vectors
from tests.servers import eventually, redis7, started, valkey, wait_until_written

pytestmark = pytest.mark.slow

HOST, PLACE = "redis.example.com:6379", "-h redis.example.com -p 6379"
REFS = [ref(i) for i in range(600)]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return set_up(tmp_path / "etc")


def page(server: DeployedServer) -> Page:
    """The page, for one server, whose folder stands for /data."""
    places = {HOST: f"localhost:{server.port}", PLACE: f"-h localhost -p {server.port}"}
    return Page(server.etc, {**places, "/data": str(server.folder)})


def certificate(server: DeployedServer) -> str:
    """What a server shows at the moment."""
    return ssl.get_server_certificate(("localhost", server.port))


def test_passwords_and_certificates_are_changed_while_it_runs(etc: Path, tmp_path: Path) -> None:
    with started(DeployedServer(redis7(), tmp_path / "data", etc=etc)) as server:
        with closing(connect(server.url)) as store:
            create(store)
        assert "test" in page(server).run("Start one", 2)
        before, old, kept = certificate(server), server.url, server.url_of("search")
        (etc / "secrets" / "simdist-password").unlink()
        Page(etc, {"ca redis.example.com": "ca localhost 127.0.0.1"}).run("Start one", 0)
        page(server).run("Start one", 3)
        assert certificate(server) != before
        assert server.url != old
        assert server.url_of("search") == kept
        connect(server.url).close()
        with pytest.raises(StoreError, match="refuses this user"):
            connect(old)


@pytest.mark.parametrize("restored_by", [redis7, valkey])
def test_a_backup_is_restored(etc: Path, tmp_path: Path, restored_by: Callable[[], str]) -> None:
    with started(DeployedServer(redis7(), tmp_path / "data", etc=etc)) as server:
        allow_tester(server)
        with closing(connect(server.url)) as store:
            collection = create(store, partitions=2)
            collection.add(vectors(600)[:500], REFS[:500])
            collection.delete([REFS[3].uri])
            expected = stored_vectors(collection)
            page(server).run("Backup and restore", 0)
            collection.add(vectors(600), REFS)
            assert len(contents(collection)) == 600
    tls = restored_by is redis7
    new = DeployedServer(restored_by(), tmp_path / "new", etc=etc, tls=tls)
    new.folder.mkdir()
    page(new).run("Backup and restore", 1)
    with started(new):
        check(new, expected)
        # Also what is written from now on is there after another start: it lies in the file as
        # transactions, which Redis 7.0 reads as the user `default`, and drops if it may do nothing.
        with closing(connect(new.url)) as store:
            Collection.open(store, "test").add(vectors(600), REFS)
        wait_until_written(new)
        new.kill()
        new.start()
        allow_tester(new)
        with closing(connect(new.url)) as store:
            assert contents(Collection.open(store, "test")) == sorted(item.uri for item in REFS)


def check(server: DeployedServer, expected: dict[str, tuple[str | None, bytes]]) -> None:
    """The index is whole, and the one that was saved."""
    allow_tester(server)
    with closing(connect(server.url)) as store:
        collection = Collection.open(store, "test")
        assert contents(collection) == sorted(expected)
        assert stored_vectors(collection) == expected
        assert Searcher(collection).search(vectors(600)[7], n=1)[0].uri == ref(7).uri


def test_a_cluster_loses_a_node_and_is_backed_up_and_restored(etc: Path, tmp_path: Path) -> None:
    # Its nodes are known by names that are in the certificate, of which the first is the folder's.
    names = "redis-1.example.com redis-2.example.com redis-3.example.com"
    Page(etc, {names: "localhost redis-2.example.com 127.0.0.1"}).run("Redis Cluster", 0)
    with deployed_cluster(tmp_path / "old", etc) as nodes:
        for node in nodes:
            allow_tester(node)
        with closing(connect(nodes[0].url)) as store:
            collection = create(store, partitions=6)
            collection.add(vectors(600)[:500], REFS[:500])
            wait_until_written(nodes[2])
            nodes[2].kill()
            with pytest.raises(StoreError, match="is not whole"):
                collection.add(vectors(600), REFS)
            with pytest.raises(StoreError, match="is not whole"):
                Searcher(collection).search(vectors(600)[7])
            nodes[2].start()
            eventually(lambda: all(whole(node) for node in nodes))
            collection.add(vectors(600), REFS)
            expected = stored_vectors(collection)
        Page(etc, {"10.0.0.1:6379": addresses(nodes[:1])}).run("Backup and restore", 2)
    backup = etc / "backup"
    saved = json.loads((backup / "nodes.json").read_text())
    files = {tuple(node["slots"][0]): f"*-{node['name']}.rdb" for node in saved}
    with deployed_cluster(tmp_path / "new", etc) as nodes:
        for node in nodes:
            [file] = backup.glob(files[slots(node)])
            node.kill()
            shutil.rmtree(node.folder / "appendonlydir")
            Page(etc, {"/data": str(node.folder), "backup.rdb": str(file)}).run(
                "Backup and restore", 1
            )
        for node in nodes:
            node.start()
            allow_tester(node)
        eventually(lambda: all(whole(node) for node in nodes))
        check(nodes[1], expected)


def slots(node: DeployedServer) -> tuple[int, int]:
    """The first and the last slot that a node of a new cluster has."""
    [mine] = [entry for entry in node.ask("CLUSTER", "SLOTS") if entry[2][1] == node.port]
    first, last, *_ = mine
    return first, last
