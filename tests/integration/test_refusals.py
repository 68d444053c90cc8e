"""What a server says that cannot take writes, and what its users are told."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path

import pytest

from simdist.errors import StoreError
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.store import connect, connection
from tests.collections import create, ref, vectors
from tests.servers import Server, redis7, redis8, running, running_replica, valkey

pytestmark = pytest.mark.slow
BINARIES = pytest.mark.parametrize("binary", [valkey, redis7, redis8])


def filled(server: Server) -> None:
    """Give a server a collection of twenty images."""
    with closing(connect(server.url)) as store:
        create(store).add(vectors(20), [ref(i) for i in range(20)])


def can_be_searched(url: str) -> None:
    """The images are found."""
    with closing(connect(url)) as store:
        collection = Collection.open(store, "test")
        assert Searcher(collection).search(vectors(20)[3], n=1)[0].uri == ref(3).uri


@BINARIES
def test_a_replica_is_searched_but_not_written_to(
    binary: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PRIMARY_SECONDS", 0.5)
    assert callable(binary)
    with running(binary(), tmp_path / "primary") as primary:
        filled(primary)
        with running_replica(primary, tmp_path / "replica") as replica:
            can_be_searched(replica.url)
            with closing(connect(replica.url)) as store:
                collection = Collection.open(store, "test")
                for write in (
                    lambda: collection.add(vectors(1), [ref(30)]),
                    lambda: collection.delete([ref(1).uri]),
                    lambda: create(store, "another"),
                ):
                    with pytest.raises(StoreError, match="replica, which takes no writes"):
                        write()


@BINARIES
def test_a_write_waits_for_a_failover_to_end(binary: object, tmp_path: Path) -> None:
    assert callable(binary)
    with running(binary(), tmp_path / "primary") as primary:
        filled(primary)
        with (
            running_replica(primary, tmp_path / "replica") as replica,
            closing(connect(replica.url)) as store,
        ):
            collection = Collection.open(store, "test")
            timer = threading.Timer(1.0, replica.ask, ("REPLICAOF", "NO", "ONE"))
            timer.start()
            assert collection.add(vectors(1), [ref(30)]).added == 1
            timer.join()


@BINARIES
def test_a_server_that_cannot_write_to_its_disk(binary: object, tmp_path: Path) -> None:
    assert callable(binary)
    with running(binary(), tmp_path / "server") as server:
        filled(server)
        (tmp_path / "server" / "dump.rdb").mkdir()
        (tmp_path / "server" / "dump.rdb" / "x").touch()
        server.ask("CONFIG", "SET", "save", "1 1")
        server.ask("SET", "a", "b")
        with closing(connect(server.url)) as store:
            collection = Collection.open(store, "test")
            with pytest.raises(StoreError, match="it cannot write to its disk: make room"):
                for number in range(10_000):
                    collection.add(vectors(1, seed=number), [ref(100 + number)])
        can_be_searched(server.url)


@pytest.mark.parametrize("kept", ["yes", "no"])
def test_one_is_warned_of_a_server_that_keeps_no_file(
    tmp_path: Path, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running(valkey(), tmp_path, "--appendonly", kept) as server,
        closing(connect(server.url)) as store,
        caplog.at_level(logging.WARNING),
    ):
        collection = create(store)
        assert ("appendonly no" in caplog.text) == (kept == "no")
        caplog.clear()
        Searcher(Collection.open(store, "test"))
        collection.add(vectors(1), [ref(0)])
        assert caplog.text == ""
