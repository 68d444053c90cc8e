"""Collections on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdist.errors import (
    CollectionError,
    LayoutError,
    MissingCollectionError,
    ModelMismatchError,
    UsageError,
    VectorError,
)
from simdist.hashing import KMeansFamily
from simdist.index import batch as batch_module
from simdist.index import commit as commit_module
from simdist.index import growth as rehash_module
from simdist.index.collection import Collection
from simdist.index.dropping import drop
from simdist.index.growth import Wish
from simdist.index.inventory import Unreadable, describe, describe_all
from simdist.index.rehash import rehash
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, layout, scripts
from tests.collections import create, ref, vectors
from tests.index_contents import contents
from tests.servers import empty, eventually, keys, on_every_server

pytestmark = on_every_server


def test_add_search_delete(store: Store) -> None:
    collection = create(store)
    assert not collection.is_fitted()
    data = vectors(300)
    refs = [ref(i) for i in range(300)]
    added = collection.add(data, refs)
    assert (added.added, added.replaced, added.unchanged) == (300, 0, 0)

    [first, *others] = Searcher(collection).search(data[7] * 5, n=4)
    assert first.uri == ref(7).uri
    assert first.label == "things"
    assert first.score == pytest.approx(1, abs=1e-3)
    assert [hit.score for hit in others] == sorted((hit.score for hit in others), reverse=True)

    assert collection.delete([ref(7).uri, "file:///never"]) == 1
    assert collection.get(ref(7).uri) is None
    assert ref(7).uri not in {hit.uri for hit in Searcher(collection).search(data[7], n=300)}
    assert describe(collection).images == 299


def test_what_cannot_be_stored_is_refused_before_anything_is_written(store: Store) -> None:
    collection = create(store)
    refs = [ref(i) for i in range(300)]
    refs[299] = replace(refs[299], label="caf\udce9")
    with pytest.raises(UsageError, match=r"299.* cannot be stored: its label is not UTF-8"):
        collection.add(vectors(300), refs)
    assert len(collection) == 0


def test_an_exhaustive_search_equals_exact_search(store: Store) -> None:
    collection = create(store)
    data = vectors(200)
    collection.add(data, [ref(i) for i in range(200)])
    queries = vectors(20, seed=1)
    for query in queries:
        hits = Searcher(collection).search(query, n=10)
        exact = np.sort(data @ query)[::-1][:10]
        np.testing.assert_allclose([hit.score for hit in hits], exact, atol=0.01)


def test_equal_scores_come_in_the_order_of_their_rows(store: Store) -> None:
    collection = create(store)
    collection.add(np.repeat(vectors(1), 40, axis=0), [ref(i) for i in range(40)])
    hits = Searcher(collection).search(vectors(1)[0], n=40)
    assert [hit.uri for hit in hits] == [ref(i).uri for i in range(40)]


def test_adding_again_changes_nothing_and_new_content_replaces(store: Store) -> None:
    collection = create(store)
    data, refs = vectors(600), [ref(i) for i in range(600)]
    collection.add(data, refs)
    epoch = store.call("HGET", layout.Keys("test").meta, "epoch")
    again = collection.add(data, refs)
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 600)
    assert store.call("HGET", layout.Keys("test").meta, "epoch") == epoch

    changed = collection.add(-data[:1], [ref(0, version=1)])
    assert (changed.added, changed.replaced, changed.unchanged) == (0, 1, 0)
    assert contents(collection) == sorted(r.uri for r in refs)
    record = collection.get(ref(0).uri)
    assert record is not None
    assert record.vector @ -data[0] == pytest.approx(1, abs=1e-3)


def everything(store: Store, name: str) -> dict[str, object]:
    """All keys of a collection with their values, but for what is random in them."""
    found: dict[str, object] = {}
    for key in keys(store, f"simdist:{{{name}/*"):
        short = key.decode().partition("}:")[2]
        is_hash = short == "meta" or short.startswith("uris")
        value = store.call("HGETALL" if is_hash else "GET", key)
        if short == "meta":
            for field in (b"born", b"generation", b"next"):
                value.pop(field, None)
        if short != "tips":
            parts = short.split(":")
            if parts[0] in {"bucket", "family"}:
                parts[1] = str(int(parts[1]) >> 32)
            found[":".join(parts)] = value
    return found


@pytest.mark.parametrize("sizes", [(300,), (70, 200, 1, 64, 33), (511, 700)])
@pytest.mark.parametrize("rebuilding", [False, True])
def test_inserting_writes_what_committing_writes(
    store: Store, sizes: tuple[int, ...], *, rebuilding: bool
) -> None:
    written = {}
    for name, force in (("inserted", False), ("committed", True)):
        collection = create(store, name)
        for at, size in enumerate(sizes):
            refs = [ref(1000 * at + i, label=str(i) if i % 3 else None) for i in range(size)]
            added = collection.add(vectors(size, seed=at), refs, force=force)
            assert added.added == size
            if rebuilding and at == 0:
                rehash_module.start(collection.partitions[0], Wish("hyperplanes", 4, 3), 0)
        written[name] = everything(store, name)
    assert len(written["inserted"]) > 8
    assert written["inserted"] == written["committed"]


def noted(called: list[str], name: str) -> Callable[..., Any]:
    """A script's function that notes its calls."""
    function = getattr(scripts, name)

    def call(*arguments: Any, **options: Any) -> Any:
        called.append(name)
        return function(*arguments, **options)

    return call


def test_images_are_inserted_until_one_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = create(store)
    collection.add(vectors(256), [ref(i) for i in range(256)])
    called: list[str] = []
    for name in ("insert", "commit"):
        monkeypatch.setattr(scripts, name, noted(called, name))
    monkeypatch.setattr(batch_module, "COMMIT_BATCH", 100)
    collection.add(vectors(300, seed=1), [ref(i) for i in range(256, 556)])
    assert called == ["insert"] * 3
    called.clear()
    # Somewhere among these there is one that is known, and one that replaces another.
    refs = [ref(0), ref(1, version=1), *(ref(i) for i in range(600, 798))]
    added = collection.add(vectors(200, seed=2), refs)
    assert (added.added, added.replaced, added.unchanged) == (198, 1, 1)
    assert 2 <= called.count("commit") <= called.count("insert") + 1
    assert len(contents(collection)) == 754


def test_what_is_hashed_ahead_is_hashed_again_where_that_is_outdated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While pieces are written, somebody else adds images, replaces others, and the tables."""
    monkeypatch.setattr(commit_module, "SORTED", 40)
    collection, calls, insert = create(store), iter(range(1000)), scripts.insert
    data = vectors(500)

    def insert_after(*rest: Any, **options: Any) -> Any:
        match next(calls):
            case 3:
                other = Collection.open(store, "test")
                other.add(data[490:], [ref(i) for i in range(490, 500)])
                other.add(-data[:5], [ref(i, version=1) for i in range(5)])
            case 5:
                rehash(Collection.open(store, "test"), kind="hyperplanes", size=4, tables=2)
        return insert(*rest, **options)

    monkeypatch.setattr(scripts, "insert", insert_after)
    added = collection.add(data, [ref(i) for i in range(500)])
    assert (added.added, added.replaced, added.unchanged) == (490, 0, 10)
    assert next(calls) > 12
    assert contents(collection) == sorted(ref(i).uri for i in range(500))
    assert collection.partitions[0].families.now().family.tables == 2
    searcher = Searcher(collection)
    for number in range(5, 500, 45):
        assert searcher.search(data[number], n=1, probes=10_000)[0].uri == ref(number).uri


def test_known_tells_contents_apart(store: Store) -> None:
    collection = create(store)
    collection.add(vectors(3), [ref(0), ref(1), ref(2)])
    assert collection.known([ref(0), ref(1, version=1), ref(3), ref(2)]).tolist() == [
        *(True, False, False, True)
    ]
    assert collection.known([]).tolist() == []


def test_the_same_image_twice_in_a_batch_counts_once(store: Store) -> None:
    collection = create(store)
    added = collection.add(vectors(2), [ref(0), ref(0)])
    assert (added.added, added.unchanged) == (1, 1)
    assert contents(collection) == [ref(0).uri]


def test_a_block_without_living_images_frees_its_memory(
    store: Store,
) -> None:
    collection = create(store)
    [partition] = collection.partitions
    count = 2 * layout.BLOCK + 1
    data, refs = vectors(count), [ref(i) for i in range(count)]
    # In pieces, so that blocks fill up little by little.
    for start in range(0, count, 50):
        collection.add(data[start : start + 50], refs[start : start + 50])
    assert len(keys(store, partition.keys.pattern("vectors"))) == 3
    collection.add(data[::2], [ref(i, 1) for i in range(0, count, 2)])
    collection.delete(refs[i].uri for i in range(1, count, 2))
    # Two blocks are gone, and of the third one row is dead.
    assert not store.call("EXISTS", *(partition.keys.vectors(block) for block in (0, 1)))
    assert not store.call("EXISTS", *(partition.keys.records(block) for block in (0, 1)))
    alive = sorted(refs[i].uri for i in range(0, count, 2))
    assert contents(collection) == alive
    records = partition.blocks.records(0, partition.state().rows)
    assert sorted(record.uri for _, some in records for record in some) == alive
    hits = Searcher(collection).search(data[0], n=1000, probes=1000)
    assert sorted(hit.uri for hit in hits) == alive
    rebuilt = rehash(collection, kind="hyperplanes", size=4, tables=2)
    assert rebuilt.images == len(alive)
    assert contents(collection) == alive


def test_unusable_vectors_write_nothing(store: Store) -> None:
    collection = create(store)
    data = vectors(300)
    data[290] = np.nan
    with pytest.raises(VectorError, match="by index: 290"):
        collection.add(data, [ref(i) for i in range(300)])
    assert not collection.is_fitted()
    with pytest.raises(UsageError, match="2 vectors for 1 images"):
        collection.add(vectors(2), [ref(0)])


def test_two_writers_at_once_lose_and_double_nothing(store: Store) -> None:
    create(store)
    data = vectors(2000)
    refs = [ref(i) for i in range(2000)]

    def write(order: Sequence[int]) -> None:
        mine = connect(store.url)
        collection = Collection.open(mine, "test")
        for start in range(0, len(order), 100):
            part = list(order[start : start + 100])
            collection.add(data[part], [refs[i] for i in part])
        mine.close()

    writers = [
        threading.Thread(target=write, args=(range(0, 1500),)),
        threading.Thread(target=write, args=(range(1999, 499, -1),)),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    collection = Collection.open(store, "test")
    assert contents(collection) == sorted(r.uri for r in refs)
    assert describe(collection).images == 2000


def test_the_first_hash_family_stays(store: Store) -> None:
    collection, other = create(store), Collection.open(connect(store.url), "test")
    collection.partitions[0].fit(KMeansFamily.fit(vectors(100)), images=100)
    other.partitions[0].fit(KMeansFamily.fit(vectors(100, seed=1)), images=100)
    other.add(vectors(5), [ref(i) for i in range(5)])
    ours, theirs = collection.partitions[0].families.now(), other.partitions[0].families.now()
    assert ours.generation == theirs.generation
    np.testing.assert_array_equal(
        ours.family.buckets(vectors(50)), theirs.family.buckets(vectors(50))
    )
    other.store.close()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "delete"]),
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=6),
        st.booleans(),
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=OPERATIONS)
def test_any_history_equals_a_dictionary(
    store: Store, operations: list[tuple[str, list[tuple[int, int]], bool]]
) -> None:
    """Any sequence of adds, replacements, deletions and retries, against a plain model."""
    empty(store)
    collection = create(store)
    model: dict[str, int] = {}
    for kind, items, retried in operations:
        for _ in range(1 + retried):
            if kind == "add":
                data = np.stack([vectors(1, seed=state)[0] for _, state in items])
                collection.add(data, [ref(number, state) for number, state in items])
                model.update((ref(number).uri, state) for number, state in items)
            else:
                collection.delete(ref(number).uri for number, _ in items)
                for number, _ in items:
                    model.pop(ref(number).uri, None)
    assert contents(collection) == sorted(model)
    assert describe(collection).images == len(model)
    for uri, state in model.items():
        record = collection.get(uri)
        assert record is not None
        assert record.vector @ vectors(1, seed=state)[0] == pytest.approx(1, abs=1e-3)


def test_open_and_names(store: Store) -> None:
    with pytest.raises(CollectionError, match=r"no collection 'test': ingest images"):
        Collection.open(store, "test")
    create(store, "one")
    create(store, "two")
    with pytest.raises(MissingCollectionError) as caught:
        Collection.open(store, "test")
    assert caught.value.others == ("one", "two")
    assert [item.name for item in describe_all(store)[0]] == ["one", "two"]
    for name in ("", "a/b", "{x}", "ä", "a" * 65, "-a"):
        with pytest.raises(UsageError, match="cannot name a collection"):
            Collection.open(store, name)


def test_another_model_is_refused_by_name(store: Store) -> None:
    collection = create(store)
    with pytest.raises(ModelMismatchError, match=r"m-1.*m-2"):
        collection.require_model("m-2")


def test_an_empty_collection_says_so(store: Store) -> None:
    collection = create(store)
    with pytest.raises(CollectionError, match="is empty"):
        Searcher(collection).search(vectors(1)[0])


@pytest.mark.parametrize(
    ("version", "remedy"), [(9, "export it"), (layout.VERSION + 1, "a newer simdist made it")]
)
def test_another_layout_is_refused_and_does_not_hide_the_others(
    store: Store, version: int, remedy: str
) -> None:
    create(store)
    create(store, "zoo")
    store.call("HSET", layout.Keys("test").meta, "version", version)
    with pytest.raises(LayoutError, match=f"layout version {version}, .*: {remedy}") as caught:
        Collection.open(store, "test")
    described, unreadable = describe_all(store)
    assert [one.name for one in described] == ["zoo"]
    assert unreadable == [Unreadable("test", str(caught.value))]


def test_one_of_an_earlier_layout_can_be_dropped(store: Store) -> None:
    """It had 64 rows in a block: fewer keys than are looked for."""
    collection = create(store)
    collection.add(vectors(130), [ref(i) for i in range(130)])
    store.call("HSET", layout.Keys("test").meta, "version", 9)
    drop(store, "test")
    assert keys(store, "simdist:*") == []


@pytest.mark.parametrize("n", [0, 10_001])
def test_the_number_of_results_is_bounded(store: Store, n: int) -> None:
    collection = create(store)
    collection.add(vectors(3), [ref(i) for i in range(3)])
    with pytest.raises(UsageError, match="between 1 and 10,000"):
        Searcher(collection).search(vectors(1)[0], n=n)


def test_the_estimate_of_memory_is_near_the_growth_of_the_server(store: Store) -> None:
    collection = create(store)
    before = store.used_memory()
    data = vectors(20_000)
    collection.add(data, [ref(i) for i in range(20_000)])
    estimate = describe(collection).memory_bytes
    # What waits for a slow disk is counted by the server, too, until it is written.
    eventually(lambda: estimate == pytest.approx(store.used_memory() - before, rel=0.35))
