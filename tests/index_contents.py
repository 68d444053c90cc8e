"""A look at all that a collection keeps in Redis."""

from __future__ import annotations

import numpy as np

from simdist.index.collection import Collection
from simdist.index.partition import Partition
from simdist.store import layout
from tests.servers import keys


def contents(collection: Collection) -> list[str]:
    """The URIs in a collection's hash tables, sorted; checks that all its parts agree."""
    return sorted(uri for partition in collection.partitions for uri in _uris(partition))


def _uris(partition: Partition) -> list[str]:
    state = partition.state()
    rows, live = state.rows, state.live
    stored = partition.rows(np.arange(rows, dtype=np.uint32))
    uris = {
        row: layout.unpack_record(pair[1]).uri
        for row, pair in enumerate(stored)
        if pair is not None
    }
    assert len(uris) == live
    assert len(set(uris.values())) == live
    dead = partition.store.call("GET", partition.keys.dead) or b""
    assert sorted(set(range(rows)) - set(uris)) == sorted(np.frombuffer(dead, layout.ROW_DTYPE))
    slots = keys(partition.store, partition.keys.pattern("uris"))
    entries = partition.store.call_many([("HGETALL", slot) for slot in slots])
    pairs = sorted((field, entry[:4]) for slot in entries for field, entry in slot.items())
    assert pairs == sorted(
        (layout.uri_digest(uri)[3:], row.to_bytes(4, "little")) for row, uri in uris.items()
    )

    postings: dict[bytes, list[int]] = {}
    buckets = keys(partition.store, partition.keys.pattern("bucket"))
    packed = partition.store.call_many([("GET", bucket) for bucket in buckets])
    for bucket, rows_in_it in zip(buckets, packed, strict=True):
        posted = np.frombuffer(rows_in_it, layout.ROW_DTYPE).tolist()
        postings.setdefault(bucket.rpartition(b":")[0], []).extend(posted)
    generation, following, filled = state.generation, state.following, state.filled
    for name, posted in postings.items():
        number = int(name.split(b":")[-2])
        if number == generation:
            assert sorted(row for row in posted if row in uris) == sorted(uris)
        elif number == following:
            assert {row for row in uris if row < filled} <= set(posted)
    assert postings or not uris
    return list(uris.values())


def stored_vectors(collection: Collection) -> dict[str, tuple[str | None, bytes]]:
    """URI -> label and stored vector, of all images."""
    found = {}
    for partition in collection.partitions:
        for pair in partition.rows(np.arange(partition.state().rows, dtype=np.uint32)):
            if pair is not None:
                record = layout.unpack_record(pair[1])
                found[record.uri] = record.label, pair[0].tobytes()
    return found
