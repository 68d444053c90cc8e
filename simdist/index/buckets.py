"""What is read of hash tables: of each bucket what its reader does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.store import layout

# A table and a bucket in it.
Place = tuple[int, int]


@dataclass(frozen=True)
class BucketTail:
    """What a bucket holds beyond what its reader had.

    Attributes:
        place: which bucket.
        start, known: how much of it the reader had, and has from now on.
        complete: whether that is all.
        rows: (n,) uint32, without those of deleted images.
        vectors: (n, width) uint8, stored vectors (`layout.unpack_vectors`).
    """

    place: Place
    start: int
    known: int
    complete: bool
    rows: NDArray[np.uint32]
    vectors: NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """An answer of `HashTables.read`.

    Attributes:
        epoch: changes that the partition had seen by then.
        dead: (n,) uint32, rows deleted or replaced since the reader's last reading.
    """

    epoch: int
    dead: NDArray[np.uint32]
    tails: list[BucketTail]


def unpack_reading(
    reply: Sequence[Any], wanted: Mapping[Place, int], *, width: int, limit: int
) -> Reading:
    """What `store/read.lua` answers.

    Args:
        wanted: for each bucket, how much of it the reader has.
        width: bytes of a stored vector.
        limit: rows that were read at most.
    """
    epoch, dead, *buckets = reply
    rows = np.frombuffer(b"".join(packed for packed, *_ in buckets), layout.ROW_DTYPE)
    parts = chain.from_iterable(vectors for _, *vectors in buckets)
    matrix = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, width)
    ends = list(accumulate((len(packed) // 4 for packed, *_ in buckets), initial=0))
    alive = layout.alive(matrix)
    intact = alive.all()
    tails = []
    # Fewer than were wanted, where the limit was reached.
    for (place, known), (first, last) in zip(wanted.items(), pairwise(ends), strict=False):
        new = slice(first, last) if intact else first + np.flatnonzero(alive[first:last])
        tails.append(
            BucketTail(place, known, known + last - first, last < limit, rows[new], matrix[new])
        )
    return Reading(epoch, np.frombuffer(dead, layout.ROW_DTYPE), tails)
