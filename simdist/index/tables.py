"""The hash tables of a partition, looked at bucket by bucket: is each image in them, once?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, StoreError
from simdist.hashing import HashFamily
from simdist.index.partition import Partition
from simdist.index.rows import Damage
from simdist.index.state import State
from simdist.store import layout

# Buckets that one round trip reads.
_BUCKETS = 256


@dataclass(frozen=True)
class Tables:
    """What the tables of a partition are like.

    Attributes:
        generation: of these.
        lacking: (tables, n) bool: rows that are not in just one bucket.
        damages: what is wrong with the family and with single buckets.
    """

    generation: int
    lacking: NDArray[np.bool_]
    damages: list[Damage] = field(default_factory=list)


def read_tables(partition: Partition, count: int) -> tuple[State, list[Tables]]:
    """Look at the tables in use, and at those that are being filled.

    Args:
        count: rows that are looked for.

    Returns:
        The state that they are of, and the tables.
    """
    while True:
        state = partition.state()
        found = [_read(partition, generation, count) for generation in _generations(state)]
        # Tables that were replaced meanwhile have lost their buckets.
        if _generations(partition.state()) == _generations(state):
            return state, found


def _generations(state: State) -> list[int]:
    return [generation for generation in (state.generation, state.following) if generation]


def _read(partition: Partition, generation: int, count: int) -> Tables:
    key = partition.keys.family(generation)
    data = partition.store.call("GET", key)
    try:
        family = partition.families.loaded(generation, data or b"")
    except (StoreError, CollectionError):
        damage = Damage(key, "it is no hash family" if data else "it is not there")
        return Tables(generation, np.zeros((0, count), np.bool_), [damage])
    tables = Tables(generation, np.zeros((family.tables, count), np.bool_))
    for table in range(family.tables):
        tables.lacking[table] = _counts(partition, tables, table, family, count) != 1
    return tables


def _counts(
    partition: Partition, tables: Tables, table: int, family: HashFamily, count: int
) -> NDArray[np.uint16]:
    """(n,) how often each row is in a table."""
    counts = np.zeros(count, np.uint16)
    for start in range(0, family.size, _BUCKETS):
        keys = [
            partition.keys.bucket(tables.generation, table, bucket)
            for bucket in range(start, min(start + _BUCKETS, family.size))
        ]
        known = 0
        for key, packed in zip(
            keys, partition.store.call_many([("GET", key) for key in keys]), strict=True
        ):
            value = packed or b""
            whole = len(value) // layout.ROW_DTYPE.itemsize * layout.ROW_DTYPE.itemsize
            rows = np.frombuffer(value[:whole], layout.ROW_DTYPE)
            if rows.max(initial=0) >= max(count, known):
                # Of images that were added meanwhile, or of none.
                known = partition.state().rows
            if whole < len(value) or rows.max(initial=0) >= max(known, count, 1):
                tables.damages.append(Damage(key, "it holds what are no rows"))
            np.add.at(counts, rows[rows < count], 1)
    return counts
