"""Fields of the metadata with their types."""

from __future__ import annotations

from typing import Any

import pytest

from simdist.errors import StoreError, UsageError
from simdist.index.blocks import Blocks
from simdist.index.declared import Field, declare, declared
from simdist.ingest.typed import typed
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.sources.reference import ListingFailure
from simdist.store import Store
from tests.collections import create, vectors


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("float", "3.50", 3.5),
        ("float", 3, 3.0),
        ("int", "12", 12),
        ("int", 12.0, 12),
        ("bool", "True", True),
        ("bool", False, False),
        ("text", 4711, "4711"),
        ("text", "a", "a"),
    ],
)
def test_what_is_of_a_type(kind: str, given: object, value: object) -> None:
    found = Field("x", kind).typed(given)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("float", ["cheap", "", "nan", "1e999", True, [1], {}]),
        ("int", ["1.5", 1.5, "", False, float("inf"), []]),
        ("bool", ["yes", 1, "", []]),
        ("text", [[1], {"a": 1}]),
    ],
)
def test_what_is_not(kind: str, given: list[object]) -> None:
    for one in given:
        with pytest.raises(ValueError, match=f"x is .*which is no {kind}"):
            Field("x", kind).typed(one)


def test_how_fields_are_named() -> None:
    assert Field.parse("size:cm:int") == Field("size:cm", "int")
    for text in ("price", "price:", ":float", "price:number", ""):
        with pytest.raises(UsageError, match="no field with its type"):
            Field.parse(text)


def test_entries_that_do_not_fit_are_failures() -> None:
    metadata: list[dict[str, Any]] = [{"price": "3.5", "n": "x"}, {"price": "cheap"}, {}]
    given: list[ImageRef | ListingFailure] = [
        *(ImageRef(f"urn:{i}", "1", 1, None, metadata=one) for i, one in enumerate(metadata)),
        ListingFailure("urn:9", "is gone"),
    ]
    first, second, *rest = typed(iter(given), [Field("price", "float")])
    assert isinstance(first, ImageRef)
    assert first.metadata == {"price": 3.5, "n": "x"}
    assert second == ListingFailure("urn:1", "price is 'cheap', which is no float")
    assert rest == given[2:]


def test_a_collection_keeps_the_types(store: Store) -> None:
    collection = create(store, partitions=2)
    assert declared(collection) == ()
    assert declare(collection, [Field("price", "float")]) == (Field("price", "float"),)
    both = (Field("price", "float"), Field("sale", "bool"))
    assert declare(collection, [Field("sale", "bool"), Field("price", "float")]) == both
    assert declared(collection) == declare(collection, []) == both
    with pytest.raises(UsageError, match="price is float in 'test', not int"):
        declare(collection, [Field("price", "int")])
    store.call("HSET", collection.partitions[0].keys.meta, "fields", "[")
    with pytest.raises(StoreError, match="fields are not types"):
        declared(collection)


def test_fields_are_read_before_a_filter_asks_for_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = create(store, partitions=2)
    refs = [ImageRef(f"urn:{i}", "1", 1, None, metadata={"price": i / 2}) for i in range(40)]
    collection.add(vectors(40), refs)
    declare(collection, [Field("price", "float")])
    searcher = Searcher(collection)
    searcher.search(vectors(1)[0], n=1)
    searcher.prepare()
    monkeypatch.delattr(Blocks, "records")
    hits = searcher.search(vectors(40)[3], n=40, where="price < 2")
    assert {hit.uri for hit in hits} == {f"urn:{i}" for i in range(4)}
