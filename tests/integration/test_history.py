"""Redis goes back in time: a failover that lost writes, or an older backup that was restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simdist.errors import CollectionError, StoreError
from simdist.hashing import KMeansFamily
from simdist.index import blocks, growth
from simdist.index.collection import Collection
from simdist.index.growth import drop_retired, grow
from simdist.index.offloading import bring_back, offload, offloaded
from simdist.index.rehash import rehash
from simdist.search.searcher import Searcher
from simdist.sources.output import OutputFolder
from simdist.store import Store, connect, layout
from simdist.transfer import exporting
from simdist.transfer.embeddings import import_embeddings
from simdist.transfer.exporting import export
from tests.collections import START, Killed, add_range, create, filled, ref, tables_made, vectors
from tests.index_contents import contents
from tests.servers import (
    Server,
    eventually,
    redis7,
    redis8,
    running,
    running_cluster,
    valkey,
    wait_until_caught_up,
)

# Each test has a server of its own, or several.
pytestmark = pytest.mark.slow

OLD, LOST = 900, 200
on_each_server = pytest.mark.parametrize(
    "past",
    ["valkey", "redis7", "redis8", "cluster"],
    indirect=True,
)


@dataclass
class Past:
    """Servers that can be set back to what they had."""

    store: Store
    nodes: list[Server]
    kept: Path

    def remember(self) -> None:
        """Copy the append-only files, as a backup does."""
        for node in self.nodes:
            node.back_up(self.kept / str(node.port))

    def go_back(self) -> None:
        """All servers die, and start with what was remembered."""
        for node in self.nodes:
            node.die_and_restore(self.kept / str(node.port))
        for node in self.nodes:
            node.start()
        if len(self.nodes) > 1:
            eventually(
                lambda: all(b"cluster_state:ok" in n.ask("CLUSTER", "INFO") for n in self.nodes)
            )


@pytest.fixture
def past(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Past]:
    """A server, or a cluster, that goes back in time."""
    kind = getattr(request, "param", "valkey")
    binary = {"valkey": valkey, "redis7": redis7, "redis8": redis8}.get(kind)
    with ExitStack() as stack:
        if binary is not None:
            nodes = [stack.enter_context(running(binary(), tmp_path / "server"))]
        else:
            nodes = stack.enter_context(running_cluster(tmp_path))
        store = connect(nodes[0].url)
        stack.callback(store.close)
        yield Past(store, nodes, tmp_path / "kept")


def assert_answers_as_a_fresh_one(searcher: Searcher, images: int) -> None:
    """A searcher that has lived through it all answers what a new one does."""
    fresh = Searcher(Collection.open(searcher.collection.store, "test"))
    queries = vectors(images)
    for probes in (1, 20, 10_000):
        found = searcher.search_many(queries, n=3, probes=probes)
        assert found == fresh.search_many(queries, n=3, probes=probes)
    # All buckets were looked up.
    assert [hits[0].uri for hits in found] == [ref(i).uri for i in range(images)]


@pytest.mark.parametrize("back", [False, True])
def test_blocks_that_were_moved_after_the_backup(past: Past, tmp_path: Path, back: bool) -> None:
    """Redis has them where they were; of a return the files are there still."""
    collection = create(past.store)
    add_range(collection, 0, OLD)
    folder = str(tmp_path / "files")
    if back:
        offload(collection, folder, bits=2)
    past.remember()
    bring_back(collection) if back else offload(collection, folder, bits=2)
    searcher = Searcher(collection, max_staleness=0)
    searcher.search_many(vectors(OLD), n=3, probes=10_000)
    past.go_back()
    assert_answers_as_a_fresh_one(searcher, OLD)
    assert bool(offloaded(collection)) == back
    assert contents(collection) == sorted(ref(i).uri for i in range(OLD))


def with_lost_changes(past: Past, partitions: int = 1) -> tuple[Collection, Searcher]:
    """A collection of which Redis has lost the last images, and a searcher that knows them."""
    collection = create(past.store, partitions=partitions)
    add_range(collection, 0, OLD)
    past.remember()
    add_range(collection, OLD, OLD + LOST)
    searcher = Searcher(collection, max_staleness=0)
    for vector in vectors(OLD + LOST):
        searcher.search(vector, n=3, probes=10_000)
    past.go_back()
    return collection, searcher


@on_each_server
@pytest.mark.parametrize("partitions", [1, 3])
def test_lost_images_are_found_no_more_and_new_ones_are(past: Past, partitions: int) -> None:
    collection, searcher = with_lost_changes(past, partitions)
    assert_answers_as_a_fresh_one(searcher, OLD)
    others = [ref(10_000 + i) for i in range(LOST)]
    # By another process: rows and epochs are given out again.
    Collection.open(past.store, "test").add(vectors(LOST, seed=1), others)
    found = searcher.search_many(vectors(LOST, seed=1), n=1, probes=10_000)
    assert [hits[0].uri for hits in found] == [other.uri for other in others]
    assert len(contents(collection)) == OLD + LOST


@on_each_server
def test_the_same_images_added_again_in_another_order_have_their_own_uris(past: Past) -> None:
    _, searcher = with_lost_changes(past)
    order = [*range(OLD, OLD + LOST)][::-1]
    again = Collection.open(past.store, "test")
    for start in range(0, LOST, 50):
        some = order[start : start + 50]
        again.add(vectors(OLD + LOST)[some], [ref(i) for i in some])
    assert_answers_as_a_fresh_one(searcher, OLD + LOST)


@on_each_server
def test_whoever_wrote_what_is_lost_is_told_with_the_next_write(past: Past) -> None:
    collection, _ = with_lost_changes(past)
    with pytest.raises(StoreError, match=r"has lost changes .* run the same command again"):
        add_range(collection, OLD + LOST, OLD + LOST + 10)
    # Once: whoever runs the same again adds all that is missing.
    add_range(collection, 0, OLD + LOST + 10)
    assert contents(collection) == sorted(ref(i).uri for i in range(OLD + LOST + 10))


@pytest.mark.parametrize(
    "ask",
    [
        lambda collection: collection.known([ref(1)]),
        lambda collection: collection.delete([ref(1).uri]),
        lambda collection: collection.check_history(),
    ],
    ids=["known", "delete", "check"],
)
def test_or_with_whatever_it_asks(past: Past, ask: Callable[[Collection], object]) -> None:
    collection, _ = with_lost_changes(past)
    with pytest.raises(StoreError, match="has lost changes"):
        ask(collection)
    ask(collection)


def test_a_collection_that_is_empty_again_is_filled_anew(past: Past) -> None:
    collection = create(past.store)
    past.remember()
    add_range(collection, 0, OLD)
    past.go_back()
    with pytest.raises(StoreError, match="has lost changes"):
        add_range(collection, 0, OLD)
    add_range(collection, 0, OLD)
    assert contents(collection) == sorted(ref(i).uri for i in range(OLD))


@on_each_server
def test_tables_that_were_lost_and_made_anew_are_other_tables(past: Past) -> None:
    """A writer and a searcher know hash families by their number, which is never used again."""
    collection, writer = create(past.store), Collection.open(past.store, "test")
    add_range(collection, 0, OLD)
    past.remember()
    rehash(writer, size=40)
    searcher = Searcher(writer)
    searcher.search(vectors(1)[0], n=1)
    past.go_back()
    other = Collection.open(past.store, "test")
    rehash(other, size=25)
    assert tables_made(other) == 2
    # It has seen nothing that is lost, but for the tables.
    writer.add(vectors(50, seed=2), [ref(20_000 + i) for i in range(50)])
    fresh = Searcher(other)
    for i, vector in enumerate(vectors(50, seed=2)):
        assert fresh.search(vector, n=1, probes=1)[0].uri == ref(20_000 + i).uri
        assert searcher.search(vector, n=1, probes=1)[0].uri == ref(20_000 + i).uri


@pytest.mark.parametrize("moment", ["fitting", "filling", "measuring"])
def test_a_rebuild_goes_on_where_redis_is(
    past: Past, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "FILL_BATCH", 100)
    collection = create(past.store)
    add_range(collection, 0, OLD)
    steps: list[str] = []

    def step(doing: str, *_: int) -> None:
        if not steps:
            past.remember()
        if doing.startswith(moment) and steps[-1:] != ["back"] and "back" not in steps:
            past.go_back()
            steps.append("back")
        steps.append(doing)

    rehash(collection, kind="hyperplanes", size=5, tables=2, on_progress=step)
    assert "back" in steps
    hashing = collection.partitions[0].families.now()
    assert (hashing.family.kind, hashing.family.tables, hashing.following) == (
        "hyperplanes",
        2,
        None,
    )
    assert contents(collection) == sorted(ref(i).uri for i in range(OLD))
    assert b"asked" not in past.store.call("HGETALL", layout.Keys("test").meta)


def test_tables_that_are_in_use_again_are_not_dropped(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis goes back to before the switch, while the process that switched drops the old ones."""
    monkeypatch.setattr(growth, "GROWTH", 1)
    collection = create(past.store)
    add_range(collection, 0, OLD)
    partition = collection.partitions[0]
    state, before = type(partition).state, tables_made(collection)

    def set_back(asked: object) -> object:
        found = state(partition)
        if found.retired:
            monkeypatch.setattr(type(partition), "state", state)
            past.go_back()
        return found

    past.remember()
    monkeypatch.setattr(type(partition), "state", set_back)
    assert grow(partition)
    assert tables_made(collection) == before
    assert contents(collection) == sorted(ref(i).uri for i in range(OLD))
    drop_retired(partition)
    assert_answers_as_a_fresh_one(Searcher(collection), OLD)


def test_a_collection_made_anew_is_not_read_or_changed_by_what_is_known_of_the_old_one(
    past: Past,
) -> None:
    old = create(past.store)
    add_range(old, 0, OLD)
    # It has asked nothing yet but what the collection is like.
    other = Collection.open(past.store, "test")
    other.count()
    other.partitions[0].families.now()
    for node in past.nodes:
        node.ask("FLUSHALL")
    new = Collection.create(past.store, "test", model="m", model_id="m-1", dim=3)
    new.add(np.eye(3, dtype=np.float32), [ref(i) for i in range(3)])
    before = stored(new)
    for collection in (old, other):
        for ask in (
            lambda collection: collection.get(ref(1).uri),
            lambda collection: ref(1).uri in collection,
            lambda collection: collection.known([ref(1)]),
            lambda collection: collection.delete([ref(1).uri]),
            lambda collection: collection.add(vectors(1), [ref(1)]),
            lambda collection: Searcher(collection).search(vectors(1)[0]),
        ):
            with pytest.raises(CollectionError, match="made anew"):
                ask(collection)
        collection.partitions[0].fit(KMeansFamily.fit(vectors(40)))
    assert stored(new) == before


def stored(collection: Collection) -> dict[bytes, bytes]:
    """The state of its first partition."""
    found: dict[bytes, bytes] = collection.store.call("HGETALL", layout.Keys("test").meta)
    return found


def test_a_replica_takes_over_that_lacks_the_last_images(tmp_path: Path) -> None:
    with running_cluster(tmp_path, replicas=1) as nodes:
        first, replica = nodes[0], nodes[-1]
        store = connect(nodes[1].url)
        # Of all partitions, some are of the first node.
        collection = create(store, partitions=8)
        add_range(collection, 0, OLD)
        wait_until_caught_up(replica, first)
        searcher = Searcher(collection, max_staleness=0)
        with replica.frozen():
            # Or the system would keep for it what it has not read.
            first.ask("CLIENT", "KILL", "TYPE", "REPLICA")
            add_range(collection, OLD, OLD + LOST)
            queries = vectors(OLD + LOST)
            found = searcher.search_many(queries, n=1, probes=10_000)
            assert [hits[0].uri for hits in found] == [ref(i).uri for i in range(OLD + LOST)]
            first.kill()
        eventually(lambda: replica.ask("INFO", "replication")["role"] == "master")
        eventually(lambda: all(b"cluster_state:ok" in n.ask("CLUSTER", "INFO") for n in nodes[1:]))
        fresh = Searcher(Collection.open(store, "test"))
        left = fresh.search_many(queries, n=1, probes=10_000)
        lost = [i for i, hits in enumerate(left) if hits[0].uri != ref(i).uri]
        assert lost
        assert min(lost) >= OLD
        assert searcher.search_many(queries, n=1, probes=10_000) == left
        with pytest.raises(StoreError, match="has lost changes"):
            collection.check_history()
        again = Collection.open(store, "test")
        add_range(again, 0, OLD + LOST)
        found = searcher.search_many(queries, n=1, probes=10_000)
        assert [hits[0].uri for hits in found] == [ref(i).uri for i in range(OLD + LOST)]
        store.close()


@pytest.mark.slow
def test_an_export_of_what_was_lost_begins_anew(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that hold images which Redis has lost are not gone on with."""
    monkeypatch.setattr(exporting, "FILE_ROWS", 100)
    monkeypatch.setattr(blocks, "_BLOCKS", 1)
    collection = filled(past.store)
    past.remember()
    collection.add(vectors(50, seed=7), [ref(i) for i in range(500, 550)])
    files = iter(range(4))
    put = OutputFolder.put

    def dying(*rest: Any) -> None:
        if next(files, None) is None:
            raise Killed
        put(*rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(OutputFolder, "put", dying)
        export(collection, str(tmp_path / "out"))
    past.go_back()
    opened = Collection.open(past.store, "test")
    # Other images in their rows.
    opened.add(vectors(50, seed=8), [ref(i) for i in range(600, 650)])
    made = export(opened, str(tmp_path / "out"))
    assert (made.whole, made.images) == (True, START + 50)
    import_embeddings(str(tmp_path / "out"), store=past.store, name="again")
    assert contents(Collection.open(past.store, "again")) == contents(opened)
