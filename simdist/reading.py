"""What is read of hash tables: of each bucket what its reader does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    tails, left = [], limit
    # Fewer than were wanted, where the limit was reached.
    for (place, start), (packed, *vectors) in zip(wanted.items(), reply[2:], strict=False):
        rows = np.frombuffer(packed, layout.ROW_DTYPE)
        read = len(rows)
        matrix = np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, width)
        alive = layout.alive(matrix)
        if not alive.all():
            rows, matrix = rows[alive], matrix[alive]
        tails.append(BucketTail(place, start, start + read, read < left, rows, matrix))
        left -= read
    return Reading(reply[0], np.frombuffer(reply[1], layout.ROW_DTYPE), tails)
