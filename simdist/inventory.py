"""What is in a store: its collections, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simdist.collection import Collection, list_collections
from simdist.store import Store, layout
from simdist.tables import Hashing

_SAMPLED_KEYS = 64
_URI_KEYS = 2**16


@dataclass(frozen=True)
class Description:
    """A collection in figures. `memory_bytes` is an estimate from a sample of its keys."""

    name: str
    images: int
    model: str
    dim: int
    family: str | None
    tables: int
    buckets: int
    memory_bytes: int


def describe_all(store: Store) -> list[Description]:
    """Every collection of a store, by name."""
    return [describe(Collection.open(store, name)) for name in list_collections(store)]


def describe(collection: Collection) -> Description:
    """One collection in figures."""
    hashing = collection.tables.hashing() if collection.fitted else None
    family = hashing.family if hashing else None
    images, rows = (
        int(value)
        for value in collection.store.call(
            "HMGET", layout.meta_key(collection.name), "live", "rows"
        )
    )
    return Description(
        name=collection.name,
        images=images,
        model=collection.model_id,
        dim=collection.dim,
        family=family.kind if family else None,
        tables=family.tables if family else 0,
        buckets=family.size if family else 0,
        memory_bytes=_memory(collection, rows, hashing) if hashing else 0,
    )


def _memory(collection: Collection, rows: int, hashing: Hashing) -> int:
    name, family = collection.name, hashing.family
    buckets = [
        layout.key(name, "bucket", hashing.generation, table, bucket)
        for table in range(family.tables)
        for bucket in _picked(family.size)
    ]
    records = [layout.key(name, "row", row) for row in _picked(rows)]
    uris = [layout.uri_key(name, slot.to_bytes(2, "big")) for slot in _picked(_URI_KEYS)]
    return round(
        _mean_memory(collection.store, records) * rows
        + _mean_memory(collection.store, buckets) * family.size * family.tables
        + _mean_memory(collection.store, uris) * _URI_KEYS
    )


def _picked(count: int) -> list[int]:
    sample = np.random.default_rng(0).choice(count, min(count, _SAMPLED_KEYS), replace=False)
    return [int(number) for number in sample]


def _mean_memory(store: Store, keys: Sequence[str | bytes]) -> float:
    if not keys:
        return 0.0
    sizes = store.call_many([("MEMORY", "USAGE", key) for key in keys])
    return float(np.mean([size or 0 for size in sizes]))
