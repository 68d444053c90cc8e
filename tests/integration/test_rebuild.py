"""Hash tables that are rebuilt because somebody asks for it, whatever happens meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from simdist.errors import CollectionError, UsageError
from simdist.hashing import fit_family, sample_size
from simdist.hashing.kmeans import centroids_for
from simdist.index import growth as rehash
from simdist.index.collection import Collection
from simdist.index.growth import GROWTH, grow
from simdist.index.rehash import rehash as rebuild
from simdist.index.tuning import tune
from simdist.search.searcher import Searcher
from simdist.store import Store
from tests.collections import (
    REBUILDING,
    START,
    UNFINISHED,
    Killed,
    add_range,
    check,
    create,
    filled,
    meta,
    name_of,
    ref,
    tables_made,
    vectors,
)
from tests.index_contents import contents


def buckets_of(collection: Collection) -> set[tuple[str, int, int]]:
    families = [partition.families.now().family for partition in collection.partitions]
    return {(family.kind, family.tables, family.size) for family in families}


@pytest.mark.parametrize("partitions", [1, 3])
def test_from_each_family_to_each_other_while_searches_go_on(store: Store, partitions: int) -> None:
    collection = create(store, partitions=partitions)
    collection.add(vectors(600), [ref(i) for i in range(600)])
    searcher = Searcher(Collection.open(store, "test"), max_staleness=0)
    tune(collection.partitions)
    query = vectors(600)[7]

    def search(*_: object) -> None:
        # At every moment: measured, and whole.
        assert searcher.search(query, n=1, recall=0.9)[0].uri == ref(7).uri

    for kind, size, buckets in (
        ("hyperplanes", 5, (8, 32)),
        ("gaussian", 4, (3, 16)),
        ("kmeans", 12, (1, 12)),
        ("gaussian", None, None),
        ("hyperplanes", None, None),
        ("kmeans", None, None),
    ):
        tables = buckets[0] if buckets and kind == "gaussian" else None
        tuning = rebuild(collection, kind=kind, size=size, tables=tables, on_progress=search)
        search()
        assert tuning.images == 600
        assert {family[0] for family in buckets_of(collection)} == {kind}
        if buckets:
            assert buckets_of(collection) == {(kind, *buckets)}
        assert contents(collection) == sorted(ref(i).uri for i in range(600))
    assert tables_made(collection) == 7
    assert b"asked" not in meta(collection)


def test_vectors_stored_as_they_came_do_not_grow_but_can_be_rebuilt(store: Store) -> None:
    collection = Collection.create(
        store, "test", model="m", model_id="m-1", dim=vectors(1).shape[1], dtype="float32"
    )
    data = vectors(3000)
    collection.partitions[0].fit(fit_family(data, kind="gaussian", images=10, size=6), images=10)
    collection.add(data, [ref(i) for i in range(3000)])
    assert buckets_of(collection) == {("gaussian", 8, 64)}
    rebuild(collection, kind="hyperplanes")
    assert contents(collection) == sorted(ref(i).uri for i in range(3000))
    assert Searcher(collection).search(data[5], n=1, recall=0.9)[0].uri == ref(5).uri


# In one partition start, 2 fills, finish, 2 drops and a mark: 7 writes; in two 11.
@pytest.mark.parametrize(
    ("partitions", "calls"),
    [*((1, calls) for calls in range(7)), *((2, calls) for calls in (1, 2, 3, 5, 7, 9, 10))],
)
def test_a_rebuild_that_was_asked_for_goes_on_where_it_was_killed(
    store: Store, partitions: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = create(store, partitions=partitions)
    collection.add(vectors(START), [ref(i) for i in range(START)])
    monkeypatch.setattr(rehash, "FILL_BATCH", 400)
    sent: list[str] = []
    run, call = Store.run, Store.call

    def counted(send: Any, limit: int) -> Any:
        def wrapper(self: Store, *arguments: Any, **options: Any) -> Any:
            name = name_of(arguments[0])
            if name in REBUILDING:
                if len(sent) == limit:
                    raise Killed
                sent.append(name)
            return send(self, *arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(Store, "run", counted(run, calls))
        patch.setattr(Store, "call", counted(call, calls))
        with pytest.raises(Killed):
            rebuild(collection, kind="hyperplanes", size=4, tables=2)
    # What was there is found all the time, and what comes in meanwhile.
    assert contents(collection) == sorted(ref(i).uri for i in range(START))
    collection.add(vectors(START + 9)[START:], [ref(i) for i in range(START, START + 9)])

    other = Collection.open(store, "test")
    before = len(sent)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "run", counted(run, -1))
        rebuild(other, kind="hyperplanes", size=4, tables=2)
    assert buckets_of(other) == {("hyperplanes", 2, 16)}
    assert contents(other) == sorted(ref(i).uri for i in range(START + 9))
    # Started once in each partition, and not once more.
    assert sent.count("rehash_start") == partitions
    assert sent[before:].count("rehash_start") < partitions or calls == 0
    assert {partition.families.now().generation >> 32 for partition in other.partitions} == {2}
    assert (UNFINISHED | {b"asked"}).isdisjoint(meta(other))


def test_an_unfinished_rebuild_is_finished_before_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(store)

    def die(*arguments: object) -> None:
        if arguments[0] == "measuring recall":
            raise Killed

    with pytest.raises(Killed):
        rebuild(collection, kind="hyperplanes", size=4, on_progress=die)
    assert collection.partitions[0].families.now().following is not None
    said: list[str] = []
    rebuild(collection, kind="kmeans", on_progress=lambda doing, *_: said.append(doing))
    assert said[0] == "finishing the rebuild as hyperplanes of size 4 that was begun before"
    assert "fitting kmeans" in said
    check(collection, START, generation=3)

    # One that began because the collection has grown.
    monkeypatch.setattr(rehash, "GROWTH", 1)
    with monkeypatch.context() as patch:
        patch.setattr(rehash, "fill", lambda _: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            grow(collection.partitions[0])
    monkeypatch.setattr(rehash, "GROWTH", 1000)
    said.clear()
    rebuild(collection, kind="kmeans", on_progress=lambda doing, *_: said.append(doing))
    assert said[0] == "finishing the rebuild that was begun before"
    check(collection, START, generation=5)


def test_impossible_tables(store: Store) -> None:
    collection = filled(store)
    for wish, message in (
        ({"kind": "nonsense"}, "there is no hash family 'nonsense': choose one of"),
        ({"kind": "kmeans", "tables": 2}, "kmeans has one table"),
        ({"kind": "kmeans", "size": 10_000}, "choose a size from 1 to 320"),
        ({"kind": "hyperplanes", "size": 20}, "too many for 320 images: choose a smaller size"),
        ({"kind": "gaussian", "size": 99}, "1 to 32 hyperplanes"),
    ):
        with pytest.raises(UsageError, match=message):
            rebuild(collection, **wish)
        check(collection, START, generation=1)
        assert b"asked" not in meta(collection)
    # They fit none of the following wishes either.
    rebuild(collection)
    check(collection, START, generation=2)


def test_the_tables_of_an_lshash_are_left_alone(store: Store) -> None:
    collection = Collection.create(store, "test", model="lshash", model_id="lshash", dim=4)
    with pytest.raises(CollectionError, match="belong to LSHash"):
        rebuild(collection)


def test_the_expected_size_counts_once_there_are_enough_images(store: Store) -> None:
    """For 2,000 images: as many centroids as they need, as soon as there are enough to fit on."""
    expect = 2000
    collection = Collection.create(
        store, "test", model="m", model_id="m-1", dim=vectors(1).shape[1], expect=expect
    )
    enough = sample_size("kmeans", expect)
    add_range(collection, 0, 256)
    assert buckets_of(collection) == {("kmeans", 1, centroids_for(256))}
    assert enough > GROWTH * 256
    for last in (1023, 1024, 4095, 4096, 4500):
        add_range(collection, 256, last)
    assert meta(collection)[b"fitted"] == b"4096"
    # All at once: fitted for what is expected from the start, and not again before that is left.
    other = Collection.create(
        store, "all", model="m", model_id="m-1", dim=vectors(1).shape[1], expect=expect
    )
    other.add(vectors(enough), [ref(i) for i in range(enough)])
    assert buckets_of(other) == {("kmeans", 1, centroids_for(expect))}
    assert other.partitions[0].state().fitted == expect


def test_what_a_process_that_died_was_to_rebuild_is_rebuilt_in_the_end(store: Store) -> None:
    collection = create(store)
    collection.add(vectors(START), [ref(i) for i in range(START)])
    before = buckets_of(collection)
    [partition] = collection.partitions
    # As one that was killed leaves it, though not for as long.
    store.call("SET", partition.keys.lease, "of the dead", "EX", 2)
    more = 5 * START
    collection.add(vectors(more)[START:], [ref(i) for i in range(START, more)])
    assert buckets_of(collection) == before
    collection.settle()
    assert buckets_of(collection) != before
    assert partition.state().fitted == more
