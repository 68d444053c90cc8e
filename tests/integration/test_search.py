"""What a query worker keeps changes no answer, and goes no further than it may."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simdist.errors import CollectionError, UsageError
from simdist.index import partition as partition_module
from simdist.index.collection import Collection
from simdist.index.partition import Partition
from simdist.search import records as search_module
from simdist.search.question import Hit
from simdist.search.searcher import Searcher
from simdist.store import Store, connect
from tests.collections import DIM, create, ref, tables_made, vectors
from tests.servers import empty, on_every_server

pytestmark = on_every_server

# What a row takes in a cache.
ROW_BYTES = DIM + 9
COLD = 64 * ROW_BYTES
AMPLE = 1 << 22


def answers(searcher: Searcher, *, probes: int, n: int = 10) -> list[list[Hit]]:
    return [searcher.search(query, n=n, probes=probes) for query in vectors(12, seed=5)]


@pytest.mark.parametrize("partitions", [1, 3])
def test_answers_are_the_same_whatever_is_cached(
    store: Store, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = create(store, partitions=partitions)
    collection.add(vectors(3000), [ref(i) for i in range(3000)])
    collection.delete(ref(i).uri for i in range(0, 3000, 7))
    for probes in (1, 6, 1000):
        warm = Searcher(collection, cache_memory=AMPLE)
        expected = answers(warm, probes=probes)
        assert answers(warm, probes=probes) == expected
        together = warm.search_many(vectors(12, seed=5), n=10, probes=probes)
        assert together == expected
        # Room for a few buckets, for less than one, for nothing: all is read again and again.
        for memory in (40 * COLD, COLD, 1):
            tight = Searcher(collection, cache_memory=memory)
            assert answers(tight, probes=probes) == expected
            assert tight.search_many(vectors(12, seed=5), n=10, probes=probes) == expected
        with monkeypatch.context() as patch:
            patch.setattr(partition_module, "READ_ROWS", 7)
            assert answers(Searcher(collection), probes=probes) == expected


def test_partitions_find_what_one_finds(store: Store) -> None:
    data, refs = vectors(2000), [ref(i) for i in range(2000)]
    found = []
    for partitions in (1, 4):
        collection = create(store, f"of-{partitions}", partitions=partitions)
        collection.add(data, refs)
        found.append(answers(Searcher(collection), probes=1000, n=50))
    assert len(found[0][0]) == 50
    for one, four in zip(*found, strict=True):
        assert [hit.uri for hit in one] == [hit.uri for hit in four]


def test_a_new_searcher_sees_all_and_an_old_one_what_came_in_time(store: Store) -> None:
    collection = create(store)
    collection.add(vectors(500), [ref(i) for i in range(500)])
    now = Searcher(collection, max_staleness=0)
    later = Searcher(collection, max_staleness=3600)
    new = vectors(501)[500]
    for searcher in (now, later):
        assert searcher.search(new, n=1)[0].uri != ref(500).uri

    collection.add(new[None], [ref(500)])
    assert now.search(new, n=1)[0].uri == ref(500).uri
    assert later.search(new, n=1)[0].uri != ref(500).uri
    assert Searcher(collection).search(new, n=1)[0].uri == ref(500).uri

    # Replaced: the old content is not found any more.
    collection.add(-new[None], [ref(500, version=1)])
    assert ref(500).uri not in {hit.uri for hit in now.search(new, n=20)}
    assert now.search(-new, n=1)[0].uri == ref(500).uri
    collection.delete([ref(500).uri])
    assert ref(500).uri not in {hit.uri for hit in now.search(-new, n=1000)}


def test_a_cached_image_is_not_found_once_it_is_deleted(
    store: Store,
) -> None:
    collection = create(store)
    collection.add(vectors(300), [ref(i) for i in range(300)])
    searcher = Searcher(collection, max_staleness=3600)
    query = vectors(300)[7]
    searcher.search(query, n=1, probes=1000)
    second = Searcher(collection).search(query, n=3)[1].uri
    collection.delete([second])
    # Never shown before, so its record must be read: there is none, and the next one moves up.
    hits = searcher.search(query, n=3)
    assert len(hits) == 3
    assert second not in {hit.uri for hit in hits}


@pytest.mark.parametrize("partitions", [1, 3])
def test_while_nothing_is_written_a_warm_searcher_asks_for_nothing(
    store: Store, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = create(store, partitions=partitions)
    collection.add(vectors(2000), [ref(i) for i in range(2000)])
    searcher = Searcher(collection, max_staleness=3600)
    expected = answers(searcher, probes=8)

    def refuse(*_: object) -> None:
        raise AssertionError("a round trip")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "call", refuse)
        patch.setattr(Store, "run", refuse)
        assert answers(searcher, probes=8) == expected


def test_a_recreated_collection_is_not_mistaken_for_the_old_one(store: Store) -> None:
    old = create(store)
    old.add(vectors(320), [ref(i) for i in range(320)])
    searcher = Searcher(old, max_staleness=0)
    assert searcher.search(vectors(320)[7], n=1)[0].uri == ref(7).uri
    empty(store)
    with pytest.raises(CollectionError, match="is gone"):
        searcher.search(vectors(320)[7])
    # The same images in another order: rows, hash families and generations agree.
    new = create(store)
    new.add(vectors(320)[::-1], [ref(i) for i in reversed(range(320))])
    for use in (
        lambda: searcher.search(vectors(320)[7]),
        lambda: old.add(vectors(1), [ref(1000)]),
    ):
        with pytest.raises(CollectionError, match="made anew meanwhile"):
            use()
    again = Searcher(Collection.open(store, "test"))
    assert again.search(vectors(320)[7], n=1)[0].uri == ref(7).uri


def test_searches_go_on_while_tables_are_rebuilt(store: Store) -> None:
    collection = create(store)
    collection.add(vectors(320), [ref(i) for i in range(320)])
    searcher = Searcher(collection, max_staleness=0)

    def write() -> None:
        mine = connect(store.url)
        opened = Collection.open(mine, "test")
        for first, last in pairwise(range(320, 6000, 200)):
            opened.add(vectors(6000)[first:last], [ref(i) for i in range(first, last)])
        mine.close()

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        for number in (3, 77, 300):
            [hit] = searcher.search(vectors(320)[number], n=1, probes=10_000)
            assert hit.uri == ref(number).uri
    writer.join()
    assert tables_made(collection) > 1


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    history=st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=30),
        ),
        max_size=8,
    ),
    memory=st.sampled_from([1, COLD, AMPLE]),
    partitions=st.sampled_from([1, 2]),
)
def test_an_exhaustive_search_after_any_history_equals_a_dictionary(
    store: Store,
    history: list[tuple[bool, list[tuple[int, int]]]],
    memory: int,
    partitions: int,
) -> None:
    empty(store)
    collection = create(store, partitions=partitions)
    searcher = Searcher(collection, cache_memory=memory, max_staleness=0)
    model: dict[str, int] = {}
    for added, items in history:
        if added:
            data = np.stack([vectors(1, seed=100 * number + state)[0] for number, state in items])
            collection.add(data, [ref(number, state) for number, state in items])
            model.update((ref(number).uri, 100 * number + state) for number, state in items)
        else:
            collection.delete(ref(number).uri for number, _ in items)
            for number, _ in items:
                model.pop(ref(number).uri, None)
        if not collection.is_fitted():
            continue
        query = vectors(1, seed=9)[0]
        found = searcher.search(query, n=100, probes=1000)
        scores = {uri: float(vectors(1, seed=seed)[0] @ query) for uri, seed in model.items()}
        assert {hit.uri for hit in found} == set(model)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        for hit in found:
            assert hit.score == pytest.approx(scores[hit.uri], abs=0.02)


def test_several_partitions_of_which_none_has_anything(store: Store) -> None:
    collection = create(store, partitions=3)
    with pytest.raises(CollectionError, match="is empty"):
        Searcher(collection).search(vectors(1)[0])
    collection.add(vectors(1), [ref(0)])
    assert [hit.uri for hit in Searcher(collection).search(vectors(1)[0])] == [ref(0).uri]


def test_probes_and_partitions_are_bounded(store: Store) -> None:
    collection = create(store)
    collection.add(vectors(3), [ref(i) for i in range(3)])
    with pytest.raises(UsageError, match="at least one bucket"):
        Searcher(collection).search(vectors(1)[0], probes=0)
    with pytest.raises(UsageError, match="1 to 1024 partitions"):
        create(store, "many", partitions=1025)


def test_records_are_kept_in_bounded_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MAX_RESULTS", 5)
    collection = create(store)
    collection.add(vectors(300), [ref(i) for i in range(300)])
    searcher = Searcher(collection, cache_memory=1)
    first = answers(searcher, probes=50, n=5)
    assert answers(searcher, probes=50, n=5) == first


def test_the_oldest_records_are_evicted_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "MAX_RESULTS", 64)
    read: list[int] = []
    rows = Partition.rows

    def counted(tables: Partition, some: NDArray[np.uint32], **options: Any) -> Any:
        read.extend(some.tolist())
        return rows(tables, some, **options)

    monkeypatch.setattr(Partition, "rows", counted)
    collection = create(store)
    data = vectors(66)
    collection.add(data, [ref(i) for i in range(66)])
    searcher = Searcher(collection, cache_memory=1)

    def ask(images: Iterable[int]) -> list[int]:
        """Which of these images' records are read, each being the answer to a query."""
        read.clear()
        for i in images:
            [hit] = searcher.search(data[i], n=1, probes=50)
            assert hit.uri == ref(i).uri
        return list(read)

    assert len(ask(range(64))) == 64
    assert ask(range(64)) == []
    assert len(ask([64])) == 1
    assert ask(range(4, 65)) == []
    assert len(ask(range(4))) == 4


def test_cache_misses_are_counted(store: Store) -> None:
    collection = create(store)
    data = vectors(300)
    collection.add(data, [ref(i) for i in range(300)])
    searcher = Searcher(collection, max_staleness=60)
    for _ in range(3):
        searcher.search(data[0])
    assert searcher.cache_misses == 1
