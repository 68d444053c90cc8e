"""New hash tables from the stored vectors, beside the old ones, while everything goes on.

The new family is fitted on a sample of the stored vectors. From the start on, commits write to
the old tables and the new; meanwhile the rows that were there before are filled in, in batches
that are each atomic. Then one write switches all readers over, and the old tables are dropped.
Whoever dies in between, the next process goes on where the filling stopped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import HashFamily, KMeansFamily, dump_family, load_family
from simdist.hashing.kmeans import VECTORS_A_CENTROID, centroids_for
from simdist.store import layout
from simdist.tables import HashTables
from simdist.vectors import normalised

# Tables are rebuilt when a collection has so many times the images that they were fitted on.
GROWTH = 4
FILL_BATCH = 1000
# A process that rebuilds says so for as long; the next may then take over.
LEASE_SECONDS = 60


def grow(tables: HashTables) -> bool:
    """Rebuild the tables if the collection has outgrown them, or if a rebuild was interrupted.

    Returns:
        Whether this call switched to new tables; False also while another process rebuilds.
    """
    following, retired, live, fitted = (
        int(value or 0)
        for value in tables.store.call(
            *("HMGET", tables.meta_key, "next", "retired", "live", "fitted")
        )
    )
    if not (following or retired or live >= GROWTH * fitted):
        return False
    # Families that are drawn, not fitted, suit any size.
    if not isinstance(tables.hashing().family, KMeansFamily):
        return False
    with _lease(tables) as granted:
        return granted and _rehash(tables)


def _rehash(tables: HashTables) -> bool:
    store, meta = tables.store, tables.meta_key
    hashing = tables.hashing()
    retired = store.call("HGET", meta, "retired")
    if retired is not None:
        _drop(tables, int(retired))
    live, fitted = (int(value) for value in store.call("HMGET", meta, "live", "fitted"))
    if hashing.following is None and live >= GROWTH * fitted:
        family = KMeansFamily.fit(_sample(tables, live), centroids=centroids_for(live))
        store.run("rehash_start", [meta], [hashing.generation, live, dump_family(family)])
        hashing = tables.hashing()
    if hashing.following is None:
        return False
    _fill(tables, hashing.generation + 1, hashing.following)
    switched = bool(store.run("rehash_finish", [meta], [hashing.generation + 1]))
    if switched:
        _drop(tables, hashing.generation)
    return switched


def _fill(tables: HashTables, generation: int, family: HashFamily) -> None:
    store, meta = tables.store, tables.meta_key
    while True:
        following, filled, end = store.call("HMGET", meta, "next", "filled", "fill")
        if following is None or int(following) != generation or int(filled) >= int(end):
            return
        first, last = int(filled), min(int(filled) + FILL_BATCH, int(end))
        rows, vectors = _vectors(tables, np.arange(first, last))
        places = np.column_stack([rows, family.buckets(vectors)]).astype(layout.ROW_DTYPE)
        batch = (generation, first, last, family.tables, places.tobytes())
        store.run("rehash_fill", [meta], batch)
        store.call("EXPIRE", _lease_key(tables), LEASE_SECONDS)


def _sample(tables: HashTables, live: int) -> NDArray[np.float32]:
    """Stored vectors, picked at random, as many as the centroids for so many images need."""
    rows = int(tables.store.call("HGET", tables.meta_key, "rows"))
    wanted = min(rows, 2 * VECTORS_A_CENTROID * centroids_for(live))
    picked = np.random.default_rng(0).choice(rows, wanted, replace=False)
    parts = np.array_split(picked, -(-wanted // FILL_BATCH))
    return np.concatenate([_vectors(tables, part)[1] for part in parts])


def _vectors(
    tables: HashTables, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows that still exist, and their vectors, of length 1."""
    records = tables.records(rows.tolist())
    there = np.array([record is not None for record in records], dtype=np.bool_)
    packed = [record for record in records if record is not None]
    if not packed:
        return rows[there], np.empty((0, tables.dim), np.float32)
    values, _ = layout.unpack_vectors(packed, dim=tables.dim, dtype=tables.dtype)
    return rows[there], normalised(values.astype(np.float32))


def _drop(tables: HashTables, generation: int) -> None:
    """Remove the tables of a generation that is no longer in use."""
    store = tables.store
    data = store.call("GET", layout.key(tables.collection, "family", generation))
    # None: the process before had dropped the tables, and died.
    if data is not None:
        family = load_family(data)
        places = product(range(family.tables), range(family.size))
        for batch in iter(lambda: list(islice(places, FILL_BATCH)), []):
            keys = [layout.key(tables.collection, "bucket", generation, *place) for place in batch]
            store.call("UNLINK", *keys)
    store.call("UNLINK", layout.key(tables.collection, "family", generation))
    store.call("HDEL", tables.meta_key, "retired")


@contextmanager
def _lease(tables: HashTables) -> Iterator[bool]:
    """Whether this process alone rebuilds. Two at once would do no harm, only work twice."""
    key, token = _lease_key(tables), secrets.token_hex(8)
    granted = bool(tables.store.call("SET", key, token, "NX", "EX", LEASE_SECONDS))
    try:
        yield granted
    finally:
        if granted and tables.store.call("GET", key) == token.encode():
            tables.store.call("DEL", key)


def _lease_key(tables: HashTables) -> str:
    return layout.key(tables.collection, "rehash")
