"""Searches among the images that pass a filter find what a plain list of them would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simdist.index import rehash
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.where import Where
from simdist.search import partition_searcher
from simdist.search.filtering import Passing
from simdist.search.question import Hit, Question
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, connect
from tests.collections import create, ref, vectors
from tests.servers import empty, on_every_server

BRANDS = ("Acme", "Ajax", "Apex")
FILTERS = (
    'label = "odd"',
    'label != "odd"',
    "price < 50",
    "price >= 10 and price < 12.5",
    'brand in ("Acme", "Apex") and not price > 90',
    "brand exists or price = 3",
    'uri ^= "file:///photographs/00"',
    "colour exists",
    "price >= 0",
)


def image(i: int, *, price: float | None = None) -> ImageRef:
    metadata: dict[str, Any] = {"price": i % 100 if price is None else price}
    if i % 4:
        metadata["brand"] = BRANDS[i % 3]
    return replace(ref(i), label="odd" if i % 2 else None, metadata=metadata)


@pytest.fixture
def valkey_store(valkey_url: str) -> Iterator[Store]:
    store = connect(valkey_url)
    empty(store)
    yield store
    store.close()


@pytest.fixture(params=["flat", "buckets"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all rows that pass are scored, or buckets are looked into."""
    flat = request.param == "flat"
    monkeypatch.setattr(Passing, "are_few", lambda *_: flat)


@dataclass
class Plain:
    """Images in a dictionary: what is found is looked for among all."""

    images: dict[str, tuple[ImageRef, NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, refs: list[ImageRef], data: NDArray[np.float32]) -> None:
        self.images |= {one.uri: (one, vector) for one, vector in zip(refs, data, strict=True)}

    def best(self, query: NDArray[np.float32], n: int, text: str) -> list[str]:
        where = Where.parse(text)
        passing = [
            (float(vector @ query) / float(np.linalg.norm(vector)), one.uri)
            for one, vector in self.images.values()
            if where.has(one.uri, one.label, one.metadata)
        ]
        return [uri for _, uri in sorted(passing, reverse=True)[:n]]


@on_every_server
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("partitions", [1, 3])
def test_all_that_pass_are_found(store: Store, partitions: int) -> None:
    collection, plain = create(store, partitions=partitions), Plain()
    refs, data = [image(i) for i in range(1200)], vectors(1200)
    collection.add(data, refs)
    plain.add(refs, data)
    gone = [one.uri for one in refs[::7]]
    collection.delete(gone)
    for uri in gone:
        del plain.images[uri]
    searcher = Searcher(collection)
    for text in FILTERS:
        where = Where.parse(text)
        for query in vectors(3, seed=5):
            hits = searcher.search(query, n=300, recall=1, where=text)
            expected = plain.best(query, 300, text)
            assert {hit.uri for hit in hits} == set(expected) or overlap(hits, expected) > 0.99
            assert len(hits) == len(expected)
            assert all(where.has(hit.uri, hit.label, hit.metadata) for hit in hits)


def overlap(hits: list[Any], expected: list[str]) -> float:
    """Vectors are stored in bytes: of two that are nearly as near, the other may be the last."""
    return len({hit.uri for hit in hits} & set(expected)) / len(expected)


@pytest.mark.usefixtures("way")
def test_as_many_as_are_wanted_are_found(valkey_store: Store) -> None:
    """With the probes that are usual: of a rare label all images, though they lie anywhere."""
    collection = create(valkey_store)
    refs = [image(i) for i in range(3000)]
    rare = [replace(one, label="rare") if i % 100 == 50 else one for i, one in enumerate(refs)]
    collection.add(vectors(3000), rare)
    searcher = Searcher(collection)
    for query in vectors(5, seed=5):
        question = Question(vector=query, n=10, label="rare")
        hits = searcher.ask(question)
        assert [hit.label for hit in hits] == ["rare"] * 10
        exact = searcher.ask(replace(question, recall=1))
        assert len({hit.uri for hit in hits} & {hit.uri for hit in exact}) >= 9
        assert len(searcher.ask(replace(question, n=50))) == 30
        both = replace(question, where="price < 51 and price > 49")
        assert len(searcher.ask(both)) == 10
        assert searcher.ask(replace(question, where="price > 50")) == []


@pytest.mark.parametrize("how", ["kmeans", "tables", "float32"])
def test_what_passes_far_from_the_query_is_found(valkey_store: Store, how: str) -> None:
    """Images that pass lie in a corner, and the queries anywhere; also in several tables."""
    data = vectors(4000)
    collection = Collection.create(
        valkey_store,
        "test",
        model="m",
        model_id="m",
        dim=data.shape[1],
        dtype="float32" if how == "float32" else "int8",
    )
    numbers = np.argsort(np.argsort(data[:, 0]))
    collection.add(data, [image(i, price=float(numbers[i])) for i in range(4000)])
    if how == "tables":
        rehash.rehash(collection, kind="hyperplanes", tables=2)
    searcher = Searcher(collection)
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passing, "are_few", lambda *_: False)
        found = {}
        for share in (1.0, 0.5, 0.1, 0.01):
            passing, found[share] = np.flatnonzero(numbers < share * 4000), 0
            for query in vectors(20, seed=5):
                where = None if share == 1 else f"price < {share * 4000}"
                hits = searcher.search(query, n=10, where=where)
                best = passing[np.argsort(-(unit[passing] @ query))[:10]]
                found[share] += len({hit.uri for hit in hits} & {ref(i).uri for i in best.tolist()})
                assert len(hits) == 10
        # No fewer of the best ten than a search among all finds, but for a few.
        assert min(found.values()) >= found[1.0] - 6, found


def test_n_are_found_where_there_are_n(valkey_store: Store) -> None:
    collection = create(valkey_store)
    collection.add(vectors(3000), [ref(i) for i in range(3000)])
    searcher = Searcher(collection)
    query = vectors(1, seed=5)[0]
    assert len(searcher.search(query, n=1000)) == 1000
    assert len(searcher.search(query, n=1000, probes=4)) < 200


def test_no_more_is_read_than_holds_n(valkey_store: Store) -> None:
    """More buckets are looked into only where the usual ones do not hold enough."""
    collection = create(valkey_store)
    collection.add(vectors(3000), [ref(i) for i in range(3000)])
    read = []
    for probes in (None, partition_searcher.PROBES):
        searcher = Searcher(collection)
        searcher.search_many(vectors(8, seed=5), n=10, probes=probes)
        searcher.search(vectors(1, seed=6)[0], n=10, probes=probes)
        read.append(searcher.rows_read)
    assert read[0] == read[1]


@pytest.mark.usefixtures("way")
def test_what_changes_is_noticed(valkey_store: Store) -> None:
    """New images, new metadata, deleted ones, a rebuild; and nothing is read twice for nothing."""
    collection = create(valkey_store)
    refs, data = [image(i) for i in range(600)], vectors(600)
    collection.add(data, refs)
    searcher = Searcher(collection, max_staleness=0)
    query = data[40]

    def uris(text: str) -> list[str]:
        return [hit.uri for hit in searcher.search(query, n=20, recall=1, where=text)]

    assert uris("price = 40")[0] == ref(40).uri
    collection.add(data[40:41], [image(40, price=7)], force=True)
    assert uris("price = 7")[0] == ref(40).uri
    assert ref(40).uri not in uris("price = 40")
    collection.delete([ref(40).uri])
    assert ref(40).uri not in uris("price = 7")
    assert len(uris("price = 7")) == 6
    collection.add(data[40:41], [image(40)])
    assert uris("price = 40")[0] == ref(40).uri
    before = uris("price < 20")
    rehash.rehash(collection, size=30)
    assert uris("price < 20") == before


def filters() -> st.SearchStrategy[str]:
    """Any filter made of some tests."""
    return st.recursive(
        st.sampled_from(FILTERS),
        lambda inner: st.one_of(
            inner.map(lambda one: f"not ({one})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
                lambda both: f"({both[0]}) {both[1]} ({both[2]})"
            ),
        ),
        max_leaves=4,
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "delete", "replace", "amend", "rehash"]),
            st.integers(0, 150),
            st.integers(1, 40),
        ),
        min_size=1,
        max_size=8,
    ),
    texts=st.lists(filters(), min_size=1, max_size=2),
    few=st.booleans(),
)
def test_any_history_is_answered_as_by_a_plain_list(
    valkey_store: Store, steps: list[tuple[str, int, int]], texts: list[str], few: bool
) -> None:
    """At once and in pages, when all buckets are looked into."""
    empty(valkey_store)
    collection, plain, data = create(valkey_store), Plain(), vectors(200)
    collection.add(data[:1], [image(0)])
    plain.add([image(0)], data[:1])
    searcher = Searcher(collection, max_staleness=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passing, "are_few", lambda *_: few)
        for what, first, count in steps:
            change(collection, plain, what, list(range(first, first + count)), data)
            for text in texts:
                question = Question(vector=data[first], n=200, recall=1, where=text)
                hits = searcher.ask(question)
                expected = plain.best(data[first], 200, text)
                assert {hit.uri for hit in hits} == set(expected)
                assert list(in_pages(searcher, replace(question, n=20))) == hits


def in_pages(searcher: Searcher, question: Question) -> Iterator[Hit]:
    page = searcher.ask(question)
    yield from page
    while page.next is not None:
        page = searcher.ask(replace(question, after=page.next))
        yield from page


def change(
    collection: Collection,
    plain: Plain,
    what: str,
    numbers: list[int],
    data: NDArray[np.float32],
) -> None:
    """Do the same to both."""
    uris = [ref(i).uri for i in numbers]
    if what == "delete":
        collection.delete(uris)
        for uri in uris:
            plain.images.pop(uri, None)
    elif what == "amend":
        amend(collection, uris, Amendment(label="odd", metadata={"price": 11, "colour": "red"}))
        for uri in set(uris) & set(plain.images):
            old, vector = plain.images[uri]
            metadata = {**old.metadata, "price": 11, "colour": "red"}
            plain.images[uri] = replace(old, label="odd", metadata=metadata), vector
    elif what == "rehash":
        # Of nothing there is nothing to rebuild, and that is said.
        if plain.images:
            rehash.rehash(collection)
    else:
        price = 55.0 if what == "replace" else None
        refs = [image(i, price=price) for i in numbers]
        collection.add(data[numbers], refs, force=True)
        plain.add(refs, data[numbers])
