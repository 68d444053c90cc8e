"""What is in a store: its collections, in figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from simdist.errors import CollectionError, LayoutError, StoreError
from simdist.index import catalogue
from simdist.index.collection import Collection
from simdist.index.offloading import offloaded
from simdist.index.partition import Partition
from simdist.store import Store, layout

_SAMPLED_KEYS = 64
# Of a hash.
_SAMPLED_ENTRIES = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Description:
    """A collection in figures.

    Attributes:
        licence: of the model's weights; empty where nobody says.
        memory_bytes: an estimate from a sample of its keys.
        moved_to: where vectors and records are that are in files, or None.
        bits: of each value that stay in Redis then.
    """

    name: str
    images: int
    model: str
    licence: str
    dim: int
    family: str | None
    tables: int
    buckets: int
    memory_bytes: int
    moved_to: str | None
    bits: int | None


@dataclass(frozen=True)
class Unreadable:
    """A collection that this simdist cannot read: what is wrong, and what to do."""

    name: str
    problem: str


def describe_all(store: Store) -> tuple[list[Description], list[Unreadable]]:
    """Every collection of a store, by name, and those that cannot be read."""
    return of_each(store, describe)


def of_each(store: Store, look: Callable[[Collection], T]) -> tuple[list[T], list[Unreadable]]:
    """What is found of every collection, by name; what is dropped meanwhile is left out.

    Returns:
        That, and the collections that cannot be read: the others are not to suffer for them.
    """
    found: list[T] = []
    unreadable: list[Unreadable] = []
    for name in catalogue.names(store):
        try:
            found.append(look(Collection.open(store, name)))
        except LayoutError as error:
            unreadable.append(Unreadable(name, str(error)))
        except CollectionError:
            if name in catalogue.names(store):
                raise
    return found, unreadable


def describe(collection: Collection) -> Description:
    """One collection in figures; of several partitions, the first one's tables.

    On the way it is made searchable for users who may only do that, if this one may.
    """
    with suppress(StoreError):
        catalogue.keep_searchable(
            collection.store, collection.home_name, len(collection.partitions)
        )
    first = collection.partitions[0]
    family = first.families.now().family if first.is_fitted() else None
    moved_to, bits = offloaded(collection) or (None, None)
    return Description(
        name=collection.name,
        images=collection.count(),
        model=collection.model_id,
        licence=collection.licence,
        dim=collection.dim,
        family=family.kind if family else None,
        tables=family.tables if family else 0,
        buckets=family.size if family else 0,
        memory_bytes=sum(
            _memory(partition) for partition in collection.partitions if partition.is_fitted()
        ),
        moved_to=moved_to,
        bits=bits,
    )


def _memory(partition: Partition) -> int:
    hashing = partition.families.now()
    family, rows = hashing.family, partition.state().rows
    blocks = -(-rows // layout.BLOCK)
    kinds: list[tuple[int, list[str]]] = [
        (blocks, [partition.keys.vectors(block) for block in _picked(blocks)]),
        (blocks, [partition.keys.records(block) for block in _picked(blocks)]),
        (blocks, [partition.keys.moved(block) for block in _picked(blocks)]),
        (2**partition.uri_bits, [partition.keys.uris(n) for n in _picked(2**partition.uri_bits)]),
    ]
    for table in range(family.tables):
        picked = [partition.keys.bucket(hashing.generation, table, n) for n in _picked(family.size)]
        kinds.append((family.size, picked))
    return round(sum(count * _mean_memory(partition.store, keys) for count, keys in kinds))


def _picked(count: int) -> list[int]:
    sample = np.random.default_rng(0).choice(count, min(count, _SAMPLED_KEYS), replace=False)
    return [int(number) for number in sample]


def _mean_memory(store: Store, keys: Sequence[str]) -> float:
    if not keys:
        return 0.0
    sizes = store.call_many([("MEMORY", "USAGE", key, "SAMPLES", _SAMPLED_ENTRIES) for key in keys])
    return float(np.mean([size or 0 for size in sizes]))
