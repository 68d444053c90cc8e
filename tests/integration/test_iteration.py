"""Going through all that a collection holds: by rows, and image by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simdist.index.collection import Collection
from simdist.index.rehash import rehash
from simdist.store import Store, layout
from tests.collections import DIM, create, ref, vectors
from tests.servers import keys, on_every_server

# More than the blocks that one round trip reads.
COUNT = 3000


def filled(store: Store, *, partitions: int = 1) -> Collection:
    """Images with metadata; every seventh is deleted, and the first block is, too."""
    collection = create(store, partitions=partitions)
    refs = [replace(ref(i), metadata={"number": i}) for i in range(COUNT)]
    collection.add(vectors(COUNT), refs)
    collection.delete([ref(i).uri for i in range(COUNT) if is_deleted(i)])
    return collection


def is_deleted(number: int) -> bool:
    return number < 200 or number % 7 == 0


LEFT = [i for i in range(COUNT) if not is_deleted(i)]


@on_every_server
@pytest.mark.parametrize("partitions", [1, 3])
def test_every_image_comes_once_with_all_that_belongs_to_it(store: Store, partitions: int) -> None:
    collection = filled(store, partitions=partitions)
    found = {image.uri: image for image in collection.images()}
    assert sorted(found) == sorted(ref(i).uri for i in LEFT)
    data = vectors(COUNT)
    for i in LEFT[::50]:
        image = found[ref(i).uri]
        assert (image.label, image.metadata) == ("things", {"number": i})
        assert image.vector @ data[i] > 0.999
        one = collection.get(ref(i).uri)
        assert one is not None
        np.testing.assert_array_equal(one.vector, image.vector)


def test_length_and_membership(store: Store) -> None:
    collection = create(store, partitions=2)
    assert (len(collection), bool(collection), list(collection.images())) == (0, True, [])
    assert ref(1).uri not in collection
    collection.add(vectors(20), [ref(i) for i in range(20)])
    collection.delete([ref(3).uri])
    assert len(collection) == collection.count() == 19
    assert ref(1).uri in collection
    assert ref(3).uri not in collection
    assert 1 not in collection


def test_rows_vectors_and_records_belong_together(store: Store) -> None:
    [partition] = filled(store).partitions
    end = partition.state().rows
    blocks = list(partition.images(0, end))
    rows = np.concatenate([block.rows for block in blocks])
    assert len(rows) == len(LEFT) == len(np.unique(rows))
    for block in blocks:
        for row, vector, record in zip(block.rows, block.vectors, block.records, strict=True):
            [stored] = partition.rows(np.array([row], np.uint32))
            assert stored is not None
            assert layout.unpack_record(stored[1]).uri == record.uri
            assert vector.shape == (DIM,)
    # From a row in the midst of a block to one in the midst of another.
    some = [row for block in partition.images(350, 2801) for row in block.rows.tolist()]
    assert some == [row for row in sorted(rows.tolist()) if 350 <= row < 2801]
    of_records = [row for some, _ in partition.blocks.records(0, end) for row in some.tolist()]
    of_vectors = [row for some, _ in partition.blocks.vectors(0, end) for row in some.tolist()]
    assert of_records == of_vectors == sorted(rows.tolist())


@pytest.mark.parametrize(("kind", "tables"), [("kmeans", None), ("hyperplanes", 3)])
def test_each_table_has_every_image_in_its_bucket(
    store: Store, kind: str, tables: int | None
) -> None:
    collection = filled(store)
    rehash(collection, kind=kind, size=None if tables is None else 4, tables=tables)
    [partition] = collection.partitions
    family = partition.families.now().family
    by_table: dict[int, list[int]] = {table: [] for table in range(family.tables)}
    stored = partition.rows(np.arange(COUNT, dtype=np.uint32))
    alive = [row for row, pair in enumerate(stored) if pair is not None]
    for key in keys(store, partition.keys.pattern("bucket")):
        table, number = map(int, key.split(b":")[-2:])
        posted = np.frombuffer(store.call("GET", key), layout.ROW_DTYPE).tolist()
        pairs = [pair for row in posted if (pair := stored[row]) is not None]
        vectors_here = partition.codec.restore(np.stack([vector for vector, *_ in pairs]))
        assert (family.buckets(vectors_here)[:, table] == number).all()
        by_table[table] += [row for row in posted if stored[row] is not None]
    assert [sorted(rows) for rows in by_table.values()] == [alive] * family.tables


def test_iterating_during_writes_misses_nothing(store: Store) -> None:
    collection = filled(store)
    images = collection.images()
    seen = [next(images).uri]
    more = [ref(i) for i in range(COUNT, COUNT + 500)]
    collection.add(vectors(500, seed=1), more)
    # One that was not met yet comes again under a new row.
    collection.add(vectors(1, seed=2), [ref(LEFT[-1], version=1)])
    seen += [image.uri for image in images]
    assert set(seen) == {ref(i).uri for i in LEFT} | {one.uri for one in more}
