"""Hash tables that are rebuilt as a collection grows, whatever happens meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from simdist.errors import StoreError
from simdist.hashing import dump_family
from simdist.index import growth as rehash
from simdist.index.collection import Collection
from simdist.index.growth import GROWTH, grow
from simdist.index.rehash import rehash as rebuild
from simdist.search.searcher import Searcher
from simdist.store import Store, connect
from tests.collections import (
    REBUILDING,
    START,
    Killed,
    add_range,
    check,
    family_key,
    filled,
    meta,
    name_of,
    ref,
    tables_made,
    vectors,
)
from tests.index_contents import contents
from tests.servers import keys


def test_tables_grow_with_the_collection(store: Store) -> None:
    collection = filled(store)
    before = collection.partitions[0].families.now().family.size
    add_range(collection, START, GROWTH * START - 1)
    assert tables_made(collection) == 1
    add_range(collection, GROWTH * START - 1, GROWTH * START)
    check(collection, GROWTH * START, generation=2)
    assert collection.partitions[0].families.now().family.size == GROWTH * before
    assert not grow(collection.partitions[0])


@pytest.mark.parametrize("kind", ["kmeans", "hyperplanes"])
def test_tables_most_of_whose_rows_are_dead_are_filled_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the same family, which need not be fitted again."""
    monkeypatch.setattr(rehash, "DEAD_ROWS", START)
    collection = filled(store)
    if kind == "hyperplanes":
        rebuild(collection, kind=kind, tables=2)
    [partition] = collection.partitions
    before = partition.families.now()
    for version in (1, 2):
        assert partition.families.now().generation == before.generation
        refs = [ref(i, version) for i in range(START)]
        collection.add(vectors(START, seed=version), refs)
    after = partition.families.now()
    assert after.generation != before.generation
    assert dump_family(after.family) == dump_family(before.family)
    assert (partition.state().rows, partition.state().dead) == (3 * START, 0)
    assert contents(collection) == sorted(ref(i).uri for i in range(START))
    names = keys(store, partition.keys.pattern("bucket"))
    sizes = [store.call("STRLEN", name) for name in names]
    assert sum(sizes) == 4 * START * after.family.tables
    # As many again may die.
    collection.delete([ref(i).uri for i in range(START)])
    collection.add(vectors(1), [ref(0)])
    assert partition.families.now().generation == after.generation
    assert not grow(partition)


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_rebuild_that_dies_at_any_write_is_finished_by_the_next_process(
    store: Store, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th write of the rebuild is the last that the process makes; another one goes on."""
    collection = filled(store)
    monkeypatch.setattr(rehash, "GROWTH", 1)
    monkeypatch.setattr(rehash, "FILL_BATCH", 100)
    writes = 0
    run, call = Store.run, Store.call

    def counted(send: Any) -> Any:
        def wrapper(self: Store, *arguments: Any, **options: Any) -> Any:
            nonlocal writes
            if name_of(arguments[0]) in REBUILDING:
                writes += 1
                if writes > calls:
                    raise Killed
            return send(self, *arguments, **options)

        return wrapper

    monkeypatch.setattr(Store, "run", counted(run))
    monkeypatch.setattr(Store, "call", counted(call))
    try:
        grow(collection.partitions[0])
    except Killed:
        died = True
    else:
        died = False
    monkeypatch.undo()
    assert died == (calls < 8), "start, 4 fills, finish, 2 drops: 8 writes in all"

    # What was there is found at every moment, and so is what comes in meanwhile.
    assert contents(collection) == sorted(ref(i).uri for i in range(START))
    monkeypatch.setattr(rehash, "GROWTH", 1000)
    other = Collection.open(store, "test")
    add_range(other, START, START + 50)
    other.delete([ref(START + 50).uri])
    check(other, START + 50, generation=2)


def test_writers_during_a_rebuild_lose_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(store)
    monkeypatch.setattr(rehash, "FILL_BATCH", 20)

    def write(first: int, last: int) -> None:
        mine = connect(store.url)
        opened = Collection.open(mine, "test")
        for start in range(first, last, 40):
            add_range(opened, start, min(start + 40, last))
        mine.close()

    total = 6 * START
    middle = (START + total) // 2
    writers = [
        threading.Thread(target=write, args=bounds) for bounds in ((START, middle), (middle, total))
    ]
    for writer in writers:
        writer.start()
    searcher = Searcher(collection)
    found = []
    while any(writer.is_alive() for writer in writers):
        found += [
            searcher.search(vectors(START)[i], n=1)[0].uri == ref(i).uri
            for i in range(0, START, 29)
        ]
    for writer in writers:
        writer.join()
    # Nearly all: a search probes some of the buckets, not all.
    assert np.mean(found) > 0.95
    grow(collection.partitions[0])
    check(collection, total, generation=int(meta(collection)[b"generation"]) >> 32)
    assert tables_made(collection) >= 2


def test_a_lost_family_is_reported(store: Store) -> None:
    collection = filled(store)
    store.call("DEL", family_key(collection))
    with pytest.raises(StoreError, match="lost its hash family"):
        Searcher(Collection.open(store, "test")).search(vectors(1)[0])
