"""Redis Cluster, and replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from simdist.errors import StoreError, UsageError
from simdist.index.collection import Collection
from simdist.index.partition import Partition
from simdist.search.searcher import Searcher
from simdist.store import (
    Store,
    connect,
    connection,
    layout,
)
from tests.collections import create, ref, vectors
from tests.command_line import CommandLine
from tests.histories import Step, check
from tests.index_contents import contents
from tests.servers import (
    Server,
    eventually,
    free_port,
    on_every_server,
    redis7,
    redis8,
    running,
    running_cluster,
    running_replica,
    unrestricted,
    valkey,
    wait_until_caught_up,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(cluster_url: str) -> Iterator[Store]:
    """An empty cluster."""
    with closing(connect(cluster_url)) as store:
        store.call("FLUSHALL")
        yield store


def home(nodes: list[Server], partition: Partition) -> Server:
    """The node that holds a partition."""
    [node] = [node for node in nodes if partition.keys.meta.encode() in node.ask("KEYS", "*")]
    return node


def create_on_all_nodes(store: Store) -> Collection:
    """A collection of three partitions, of a name that puts each on a node of its own."""
    assert isinstance(store.client, RedisCluster)
    node_of: Any = store.client.get_node_from_key
    for number in range(1000):
        name = f"test-{number}"
        if len({node_of(layout.Keys(name, partition).meta).port for partition in range(3)}) == 3:
            return create(store, name, partitions=3)
    raise AssertionError("there is no such name")


def test_partitions_lie_on_different_nodes(cluster_nodes: list[Server], cluster: Store) -> None:
    collection = create_on_all_nodes(cluster)
    refs = [ref(i) for i in range(300)]
    collection.add(vectors(300), refs)
    homes = [home(cluster_nodes, partition) for partition in collection.partitions]
    assert sorted(node.port for node in homes) == sorted(node.port for node in cluster_nodes)
    for node, partition in zip(homes, collection.partitions, strict=True):
        shared = {layout.COLLECTIONS.encode(), layout.NAMES.encode()}
        mine = [key for key in node.ask("KEYS", "*") if key not in shared]
        assert len(mine) > 10
        assert all(
            key.startswith(partition.keys.meta.removesuffix("meta").encode()) for key in mine
        )
    # From whichever node one comes.
    for node in cluster_nodes:
        with closing(connect(node.url)) as store:
            opened = Collection.open(store, collection.name)
            assert contents(opened) == sorted(item.uri for item in refs)
            assert len(Searcher(opened).search(vectors(1)[0], n=500, probes=1000)) == 300


def test_memory_is_that_of_all_nodes(
    cluster_nodes: list[Server], cluster: Store, cli: CommandLine
) -> None:
    used = sum(int(node.ask("INFO")["used_memory"]) for node in cluster_nodes)
    assert cluster.used_memory() == pytest.approx(used, rel=0.3)
    create(cluster, partitions=3).add(vectors(50), [ref(i) for i in range(50)])
    out = cli.run("status", "--redis", cluster_nodes[1].url).out
    assert "test" in out
    assert f"Server: {cluster_nodes[1].url}, " in out


@on_every_server
def test_scripts_that_a_server_has_forgotten_are_sent_again(store: Store) -> None:
    collection = create(store, partitions=2)
    refs = [ref(i) for i in range(50)]
    collection.add(vectors(50), refs)
    unrestricted(store).call("SCRIPT FLUSH")
    assert collection.add(vectors(50), refs).unchanged == 50
    assert collection.known(refs).all()


def test_a_partition_that_moves_to_another_node(
    cluster_nodes: list[Server], cluster: Store
) -> None:
    """Meanwhile its keys are on two nodes: nothing is written or read, rather than half of it."""
    collection = create(cluster)
    searcher = Searcher(collection, max_staleness=0)
    first, then = Step("add", range(40)), Step("add", range(20, 60), state=1)
    first.do(collection)
    model = first.after({})
    check(collection, model, searcher)
    partition = collection.partitions[0]
    source = home(cluster_nodes, partition)
    target = next(node for node in cluster_nodes if node is not source)
    slot = int(source.ask("CLUSTER", "KEYSLOT", partition.keys.meta))
    names = [node.ask("CLUSTER", "MYID").decode() for node in (source, target)]
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    keys = [
        key.decode() for key in source.ask("KEYS", partition.keys.pattern()) if b":meta" not in key
    ]
    # Each is the moment at which these keys go: none yet, the first, some, the rest.
    for moved in ([], [partition.keys.meta], keys[: len(keys) // 2]):
        for key in moved:
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        with pytest.raises(StoreError, match="is moving a part of the collection"):
            then.do(collection)
        with pytest.raises(StoreError, match="is moving a part of the collection"):
            collection.delete([ref(3).uri])
        with pytest.raises(StoreError, match="is moving a part of the collection"):
            Searcher(collection).search(vectors(1)[0])
    for key in keys[len(keys) // 2 :]:
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[1])
    check(collection, model, searcher)
    then.do(collection)
    check(collection, then.after(model), searcher)
    assert home(cluster_nodes, partition) is target


def test_a_cluster_that_loses_a_node(tmp_path: Path) -> None:
    """While a replica takes over there are errors; then the same again succeeds."""
    with running_cluster(tmp_path, replicas=1) as nodes, closing(connect(nodes[1].url)) as store:
        collection = create_on_all_nodes(store)
        first, then = Step("add", range(60)), Step("add", range(40, 100), state=1)
        first.do(collection)
        wait_until_caught_up(nodes[3], nodes[0])
        nodes[0].kill()
        errors = []

        def succeeds() -> bool:
            try:
                then.do(collection)
            except StoreError as error:
                errors.append(str(error))
                return False
            return True

        eventually(succeeds)
        assert all("is not whole: CLUSTER NODES says which nodes are missing" in e for e in errors)
        check(collection, then.after(first.after({})))
        for node in nodes[1:]:
            node.kill()
        with pytest.raises(StoreError, match="is not whole"):
            collection.known([ref(0)])
        with pytest.raises(StoreError, match="cannot reach Redis"):
            connect(nodes[1].url)


def test_a_cluster_that_is_not_set_up(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running(valkey(), tmp_path / "data", *options, "--unixsocket", path) as node:
        with pytest.raises(StoreError, match="is not whole"):
            connect(node.url)
        with pytest.raises(UsageError, match="is a node of a Redis Cluster: use redis://"):
            connect(f"unix://{path}")


@pytest.mark.parametrize("binary", [valkey, redis7, redis8])
def test_replicas_have_what_was_waited_for(
    binary: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running(binary(), tmp_path / "primary") as primary,
        running_replica(primary, tmp_path / "replica") as replica,
    ):
        add_with_a_replica(primary, replica, monkeypatch)
        primary.kill()
        replica.ask("REPLICAOF", "NO", "ONE")
        check_all_are_there(replica)
        with closing(connect(replica.url)) as store:
            collection = Collection.open(store, "test")
            with pytest.raises(StoreError, match="but 0 of 1 replicas confirmed them"):
                collection.add(vectors(1), [ref(0)], replicas=1)


def test_replicas_in_a_cluster_have_what_was_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_cluster(tmp_path, primaries=1, replicas=1) as (primary, replica):
        add_with_a_replica(primary, replica, monkeypatch)
        primary.kill()
        replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        check_all_are_there(replica)


REFS = [ref(i) for i in range(600)]


def add_with_a_replica(primary: Server, replica: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Index `REFS`, of which the last hundred come while the replica stands still."""
    with closing(connect(primary.url)) as store:
        collection = create(store)
        assert collection.add(vectors(500), REFS[:500], replicas=1).added == 500
    monkeypatch.setattr(connection, "REPLICA_SECONDS", 0.2)
    with replica.frozen():
        # The second time there is nothing to write, and still the replica does not have them.
        for _ in range(2):
            with closing(connect(primary.url)) as store:
                collection = Collection.open(store, "test")
                with pytest.raises(StoreError, match="0 of 1 replicas confirmed them within"):
                    collection.add(vectors(600)[500:], REFS[500:], replicas=1)
        with closing(connect(primary.url)) as store:
            Collection.open(store, "test").add(vectors(600)[500:], REFS[500:])
    monkeypatch.setattr(connection, "REPLICA_SECONDS", 20)
    with closing(connect(primary.url)) as store:
        collection = Collection.open(store, "test")
        assert collection.add(vectors(600), REFS, replicas=1).unchanged == 600
    monkeypatch.setattr(connection, "REPLICA_SECONDS", 0.2)


def check_all_are_there(server: Server) -> None:
    with closing(connect(server.url)) as store:
        collection = Collection.open(store, "test")
        assert contents(collection) == sorted(item.uri for item in REFS)
