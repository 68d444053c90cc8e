"""What is read of hash tables: of each bucket what its reader does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.store import layout
from simdist.vectors.codec import Codec, alive

# A table and a bucket in it.
Place = tuple[int, int]


class OutdatedError(Exception):
    """The tables have another generation by now; never leaves simdist."""


@dataclass(frozen=True)
class BucketTail:
    """What a bucket holds beyond what its reader had.

    Attributes:
        place: which bucket.
        start, known: how much of it the reader had, and has from now on.
        complete: whether that is all.
        rows: (n,) uint32, without those of deleted images.
        vectors: (n, width) uint8, stored vectors (`Codec.unpack`).
    """

    place: Place
    start: int
    known: int
    complete: bool
    rows: NDArray[np.uint32]
    vectors: NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """An answer of `Partition.read`.

    Attributes:
        moment: of which it is (`scripts.Seen`).
        rows: numbers given out until then.
        dead: (n,) uint32, rows deleted or replaced since the reader's last reading.
    """

    moment: bytes
    rows: int
    dead: NDArray[np.uint32]
    tails: list[BucketTail]


def unpack_reading(
    reply: Sequence[Any], wanted: Mapping[Place, int], *, codec: Codec, limit: int
) -> Reading:
    """What `scripts.read` answers.

    Args:
        wanted: for each bucket, how much of it the reader has.
        limit: rows that were read at most.

    Raises:
        StoreError: what is stored is damaged.
    """
    moment, known_rows, dead, *buckets = reply
    parts = chain.from_iterable(vectors for _, *vectors in buckets)
    try:
        rows = np.frombuffer(b"".join(packed for packed, *_ in buckets), layout.ROW_DTYPE)
        matrix = codec.matrix(b"".join(parts))
        dead_rows = np.frombuffer(dead, layout.ROW_DTYPE)
    except ValueError as error:
        raise StoreError("the buckets hold broken rows or vectors") from error
    if max(rows.max(initial=0), dead_rows.max(initial=0)) >= max(known_rows, 1):
        raise StoreError("the buckets name rows that there are not")
    # The compiled loops check no bounds.
    if len(rows) != len(matrix):
        raise StoreError(f"of {len(rows)} vectors in the blocks {len(matrix)} are there")
    codec.check(matrix)
    ends = list(accumulate((len(packed) // 4 for packed, *_ in buckets), initial=0))
    there = alive(matrix)
    intact = there.all()
    tails = []
    # Fewer than were wanted, where the limit was reached.
    for (place, known), (first, last) in zip(wanted.items(), pairwise(ends), strict=False):
        new = slice(first, last) if intact else first + np.flatnonzero(there[first:last])
        tails.append(
            BucketTail(place, known, known + last - first, last < limit, rows[new], matrix[new])
        )
    return Reading(moment, known_rows, dead_rows, tails)
