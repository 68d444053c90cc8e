"""The buckets that a query worker has, in arrays: a compiled query finds them without Python.

A hash table with open addressing: a bucket is found by its place, from where its hash leads on, and
a table is at most half full. This module imports numba, which is heavy: import it within the
functions that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled

# `place` is the bucket's number, plus that of its table times the size of a table, plus 1; 0 is a
# free slot. `first`, `last`: where these rows of it are, or -1. `size`: how many it has. `known`:
# how much of the stored bucket that is. `epoch`: as of which it is complete. `used`: by which query
# last.
BUCKET = np.dtype(
    [
        ("place", "i8"),
        ("epoch", "i8"),
        ("used", "i8"),
        ("first", "i4"),
        ("last", "i4"),
        ("size", "i4"),
        ("known", "i4"),
    ]
)

# The fraction of the golden ratio: multiples of it are spread evenly (Knuth, TAOCP 3, 6.4).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@compiled()
def find_bucket(buckets: Any, place: Any) -> Any:
    """The slot of a bucket; that which it would get, less the number of slots, if there is none."""
    last = len(buckets) - 1
    slot = np.int64((np.uint64(place) * _GOLDEN) >> _HALF) & last
    while buckets[slot].place != np.int64(place) + 1:
        if buckets[slot].place == 0:
            return slot - len(buckets)
        slot = (slot + 1) & last
    return slot


@compiled()
def find_buckets(buckets: Any, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) places -> (n,) `find_bucket` of each."""
    slots = np.empty(len(places), np.int64)
    for i in range(len(places)):
        slots[i] = find_bucket(buckets, places[i])
    return slots


@compiled()
def use_buckets(
    buckets: Any,
    places: NDArray[np.int64],
    clock: int,
    known: NDArray[np.int64],
    epochs: NDArray[np.int64],
) -> None:
    """Use buckets in a query, and see what is there of them.

    Args:
        clock: they have been used by now.
        known, epochs: (n,) filled with how much of each is known, and as of which epoch it is
            complete; 0 and -1 for one that is not here.
    """
    for i in range(len(places)):
        slot = find_bucket(buckets, places[i])
        known[i], epochs[i] = 0, -1
        if slot >= 0:
            known[i], epochs[i] = buckets[slot].known, buckets[slot].epoch
            buckets[slot].used = clock


@compiled()
def put_buckets(buckets: Any, entries: Any) -> None:
    """Put entries of another table into this one, which has none of them and is large enough."""
    for i in range(len(entries)):
        buckets[find_bucket(buckets, entries[i].place - 1)] = entries[i]


@compiled()
def look_up(  # noqa: PLR0917
    places: NDArray[Any],
    buckets: Any,
    epoch: int,
    clock: int,
    heads: NDArray[np.int32],
    sizes: NDArray[np.int32],
) -> int:
    """How many rows these buckets have; -1 if one of them must be read first.

    Args:
        places: (n,) whole numbers.
        epoch: as of which they must be complete.
        clock: they have been used by now.
        heads, sizes: (n,) filled with where each one's first row is, and how many it has.
    """
    total = 0
    for i in range(len(places)):
        slot = find_bucket(buckets, places[i])
        if slot < 0 or buckets[slot].epoch < epoch:
            return -1
        buckets[slot].used = clock
        heads[i], sizes[i] = buckets[slot].first, buckets[slot].size
        total += sizes[i]
    return total
