"""Bytes in Redis that are damaged: an error that says so, never a crash or a wrong answer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdist.errors import CollectionError, StoreError
from simdist.hashing import FAMILIES, HashFamily, dump_family, fit_family, load_family
from simdist.index.collection import Collection
from simdist.index.rehash import rehash
from simdist.ingest import failures
from simdist.search.searcher import Searcher
from simdist.store import Store, layout
from tests.collections import create, family_key, ref, vectors

COUNT = 300
DIM = vectors(1).shape[1]
FAMILY = {kind: fit_family(vectors(COUNT), kind=kind, images=COUNT, size=5) for kind in FAMILIES}


def with_arrays(family: HashFamily, **changed: Any) -> bytes:
    """A family's bytes, some arrays of which are others."""
    buffer = io.BytesIO()
    np.savez(buffer, **{**family.arrays(), **changed})
    return family.kind.encode() + b"\0" + buffer.getvalue()


def compressed(family: HashFamily) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **family.arrays())
    return family.kind.encode() + b"\0" + buffer.getvalue()


@given(kind=st.sampled_from(sorted(FAMILIES)), data=st.data())
def test_any_byte_of_a_family_may_change(kind: str, data: st.DataObject) -> None:
    """It is refused, or it is a family of the same form, which reads nothing outside of it."""
    packed = bytearray(dump_family(FAMILY[kind]))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = packed[: data.draw(st.just(len(packed)) | st.integers(0, len(packed)))]
    try:
        family = load_family(bytes(cut), dim=DIM)
    except (StoreError, CollectionError):
        return
    queries = vectors(3, seed=2)
    assert family.probes(queries, 4).max() < family.size
    assert family.buckets(queries).max() < family.size


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("kmeans", {"starts": np.array([0, 400_000])}),
        ("kmeans", {"starts": np.array([-5, 5])}),
        ("kmeans", {"starts": np.array([5])}),
        ("kmeans", {"starts": np.array([0.0, 5.0])}),
        ("kmeans", {"axes": np.ones((1, 400_000), np.int8)}),
        ("kmeans", {"scales": np.ones(1, np.float32)}),
        ("kmeans", {"centroids": np.full((5, 2), np.nan, np.float16)}),
        ("kmeans", {"centroids": np.empty((0, 2), np.float16)}),
        ("kmeans", {"more": np.ones(1)}),
        ("hyperplanes", {"thresholds": np.ones((1, 5), np.float32)}),
        ("hyperplanes", {"planes": np.ones((1, 40, DIM), np.float32)}),
        ("gaussian", {"planes": np.ones((1, 33, DIM))}),
        ("gaussian", {"planes": np.ones((1, 5, DIM + 1))}),
        ("gaussian", {"planes": np.ones((1, 5, DIM), complex)}),
    ],
)
def test_a_family_whose_arrays_do_not_fit_is_refused(kind: str, changed: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="a hash family is damaged"):
        load_family(with_arrays(FAMILY[kind], **changed), dim=DIM)


def test_a_family_is_not_unpacked() -> None:
    with pytest.raises(StoreError, match="it is compressed"):
        load_family(compressed(FAMILY["gaussian"]), dim=DIM)


def test_a_family_for_vectors_of_another_dimension_is_refused() -> None:
    for family in FAMILY.values():
        with pytest.raises(StoreError, match="damaged"):
            load_family(dump_family(family), dim=DIM + 1)


def cut(store: Store, key: str, *, by: int) -> None:
    """Cut bytes off a string's end."""
    value = store.call("GET", key)
    assert len(value) > by
    store.call("SET", key, value[:-by])


def everything(collection: Collection) -> None:
    """Search with every image, then look at each."""
    searcher = Searcher(collection)
    for vector in vectors(COUNT):
        searcher.search(vector, n=5)
    list(collection.images())


DAMAGE: dict[str, Callable[[Store, layout.Keys], object]] = {
    "a family of another dimension": lambda store, keys: store.call(
        "SET",
        family_key(Collection.open(store, "test")),
        with_arrays(FAMILY["gaussian"], planes=np.ones((1, 5, DIM + 1))),
    ),
    "a family cut short": lambda store, keys: cut(
        store, family_key(Collection.open(store, "test")), by=100
    ),
    "a block of vectors cut within one": lambda store, keys: cut(store, keys.vectors(2), by=5),
    "a block of vectors cut to whole ones": lambda store, keys: cut(
        store, keys.vectors(2), by=3 * Collection.open(store, "test").partitions[0].codec.width
    ),
    "a vector whose length is no number": lambda store, keys: store.call(
        "SETRANGE", keys.vectors(1), 0, np.array([np.nan], "<f4").tobytes()
    ),
    "a record that is not text": lambda store, keys: store.call(
        "SETRANGE", keys.records(1), 4 * layout.BLOCK + 8, b"\xff"
    ),
    "a record whose length is another": lambda store, keys: store.call(
        "SETRANGE", keys.records(1), 0, b"\x05"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_contents_are_an_error_of_the_store(store: Store, damage: str) -> None:
    collection = create(store)
    collection.add(vectors(COUNT), [ref(i) for i in range(COUNT)])
    everything(collection)
    DAMAGE[damage](store, collection.partitions[0].keys)
    with pytest.raises(StoreError, match="damaged"):
        everything(Collection.open(store, "test"))


@pytest.mark.parametrize(
    ("at", "number"), [(0, np.nan), (0, np.inf), (0, -1), (4, np.nan), (4, -np.inf)]
)
def test_a_vector_of_no_numbers_is_not_answered_from(store: Store, at: int, number: float) -> None:
    """It would be the best hit of any search, or none could be sorted."""
    collection = Collection.create(
        store, "test", model="m", model_id="m-1", dim=DIM, dtype="float32"
    )
    collection.add(vectors(COUNT), [ref(i) for i in range(COUNT)])
    packed = np.array([number], "<f4").tobytes()
    store.call("SETRANGE", collection.partitions[0].keys.vectors(0), at, packed)
    with pytest.raises(StoreError, match="damaged"):
        everything(collection)
    with pytest.raises(StoreError, match="damaged"):
        list(collection.images())


NO_JSON = ("{", "[1", "7", '["a"]', "[{}]", "[" * 3000, '{"wish": {}}', b"\xff")


@pytest.mark.parametrize("written", NO_JSON)
def test_damaged_notes_on_a_collection_are_an_error_of_the_store(
    store: Store, written: str | bytes
) -> None:
    collection = create(store)
    collection.add(vectors(COUNT), [ref(i) for i in range(COUNT)])
    meta = collection.partitions[0].keys.meta
    store.call("HSET", meta, "tuning", written, "asked", written)
    with pytest.raises(StoreError, match="damaged"):
        Searcher(collection).search(vectors(1)[0], recall=0.9)
    with pytest.raises(StoreError, match="damaged"):
        rehash(collection)


@pytest.mark.parametrize("written", NO_JSON)
def test_a_damaged_failure_is_named(store: Store, written: str | bytes) -> None:
    collection = create(store)
    failures.keep(collection, [failures.Failure("file:///a", "decode", "odd")], source="folder")
    store.call("HSET", collection.partitions[0].keys.failures, "file:///b", written)
    with pytest.raises(StoreError, match="failures is damaged"):
        failures.kept(collection)
    failures.forget(collection, ["file:///b"])
    assert len(failures.kept(collection)) == 1
