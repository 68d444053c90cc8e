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
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, layout
from tests.collections import EXPECTED, create, family_key, filled, ref, vectors
from tests.servers import keys as all_keys
from tests.servers import unrestricted

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
    ("field", "value"),
    [
        ("partitions", "10000000"),
        ("partitions", "0"),
        ("partitions", "x"),
        ("dim", "0"),
        ("dim", "99999999999999"),
        ("dim", "1.5"),
        ("uri_bits", "25"),
        ("dtype", "int9"),
        ("dtype", b"\xff"),
        ("model", b"\xff"),
        ("version", "x"),
        ("expect", "-1"),
    ],
)
def test_what_a_collection_is_made_for_may_be_damaged(store: Store, field: str, value: str) -> None:
    collection = filled(store)
    store.call("HSET", collection.partitions[0].keys.meta, field, value)
    with pytest.raises(StoreError, match=r"simdist:{test/0}:meta is damaged \(its "):
        Collection.open(store, "test")


@pytest.mark.parametrize("field", ["rows", "live", "epoch", "generation", "next"])
def test_a_state_that_cannot_be_is_an_error_of_the_store(store: Store, field: str) -> None:
    collection = filled(store)
    store.call("HSET", collection.partitions[0].keys.meta, field, "x")
    before = stored(store)
    with pytest.raises(StoreError, match=r"simdist:{test/0}:meta is damaged"):
        Collection.open(store, "test").count()
    with pytest.raises(StoreError, match=r"simdist:{test/0}:meta is damaged"):
        Collection.open(store, "test").add(vectors(1, seed=1), [ref(1000)])
    assert stored(store) == before


@pytest.mark.parametrize("field", ["tuning", "asked"])
def test_json_that_cannot_be_is_an_error_of_the_store(store: Store, field: str) -> None:
    collection = filled(store)
    for value in ("x", "7", "[7]", "[" * 99_999, b"\xff"):
        store.call("HSET", collection.partitions[0].keys.meta, field, value)
        with pytest.raises(StoreError, match=r"simdist:{test/0}:meta is damaged"):
            rehash(collection)
        store.call("HDEL", collection.partitions[0].keys.meta, field)


def stored(store: Store) -> dict[bytes, bytes]:
    """All keys, and what is there."""
    names = all_keys(store, "simdist:{*")
    dumps = unrestricted(store).call_many([("DUMP", name) for name in names])
    return dict(zip(names, dumps, strict=True))


def uri_at(collection: Collection, row: int) -> str:
    [block] = collection.partitions[0].images(row, row + 1)
    return block.records[0].uri


HALVING: dict[str, Callable[[Store, layout.Keys, bytes], object]] = {
    "a length": lambda store, keys, _: store.call(
        "SETRANGE", keys.records(2), 0, b"\xff\xff\xff\x7f"
    ),
    "a block of records": lambda store, keys, _: cut(store, keys.records(2), by=1),
    "a block of vectors": lambda store, keys, _: store.call("DEL", keys.vectors(2)),
    "an entry": lambda store, keys, digest: store.call(
        "HSET", hash_of(keys, digest), digest[layout.PREFIX :], b"cut"
    ),
    "an entry's row": lambda store, keys, digest: store.call(
        "HSET", hash_of(keys, digest), digest[layout.PREFIX :], b"\xff" * (4 + layout.FINGERPRINT)
    ),
}


def hash_of(keys: layout.Keys, digest: bytes) -> str:
    number = int.from_bytes(digest[: layout.PREFIX], "big")
    return keys.uris(number >> 8 * layout.PREFIX - layout.uri_bits(EXPECTED))


@pytest.mark.parametrize("damage", HALVING)
def test_what_ends_an_image_beside_damage_changes_nothing(store: Store, damage: str) -> None:
    """Nor does a length that is none keep the server busy with zeros for gigabytes."""
    collection = filled(store)
    uri, other = uri_at(collection, 140), uri_at(collection, 20)
    HALVING[damage](store, collection.partitions[0].keys, layout.uri_digest(uri))
    before = stored(store)
    with pytest.raises(StoreError, match="is damaged"):
        collection.delete([other, uri])
    with pytest.raises(StoreError, match="is damaged"):
        collection.add(vectors(2, seed=1), [ref(2000), ImageRef(uri, "another", 1, None)])
    assert stored(store) == before
    assert collection.delete([other]) == 1


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
