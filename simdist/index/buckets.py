"""What is read of hash tables: of each bucket what its reader does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, compress, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.store import layout
from simdist.vectors.codec import Codec, alive
from simdist.vectors.codes import Codes

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
        vectors: (n, width) uint8, stored vectors (`Codec.unpack`), or their codes (`Codes.unpack`)
            where the reading has bits.
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
        bits: of the codes that come in place of vectors; 0 for none.
        dead: (n,) uint32, rows deleted or replaced since the reader's last reading.
    """

    moment: bytes
    rows: int
    bits: int
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
    moment, known_rows, bits, dead, *buckets = reply
    parts = list(chain.from_iterable(vectors for _, *vectors in buckets))
    ends = list(accumulate((len(packed) // 4 for packed, *_ in buckets), initial=0))
    try:
        rows = np.frombuffer(b"".join(packed for packed, *_ in buckets), layout.ROW_DTYPE)
        if bits:
            matrix = _coded(parts, rows, ends, Codes.of(codec, bits))
        else:
            matrix = codec.matrix(b"".join(parts))
        dead_rows = np.frombuffer(dead, layout.ROW_DTYPE)
    except ValueError as error:
        raise StoreError("the buckets hold broken rows or vectors") from error
    if max(rows.max(initial=0), dead_rows.max(initial=0)) >= max(known_rows, 1):
        raise StoreError("the buckets name rows that there are not")
    # The compiled loops check no bounds.
    if len(rows) != len(matrix):
        raise StoreError(f"of {len(rows)} vectors in the blocks {len(matrix)} are there")
    if bits:
        Codes.of(codec, bits).check(matrix)
    else:
        codec.check(matrix)
    there = alive(matrix)
    intact = there.all()
    tails = []
    # Fewer than were wanted, where the limit was reached.
    for (place, known), (first, last) in zip(wanted.items(), pairwise(ends), strict=False):
        new = slice(first, last) if intact else first + np.flatnonzero(there[first:last])
        tails.append(
            BucketTail(place, known, known + last - first, last < limit, rows[new], matrix[new])
        )
    return Reading(moment, known_rows, bits, dead_rows, tails)


def _coded(
    parts: Sequence[bytes], rows: NDArray[np.uint32], ends: Sequence[int], codes: Codes
) -> NDArray[np.uint8]:
    """Strings of stored vectors or of codes -> (n, codes.width) bytes, all of them codes.

    Args:
        parts: one for each of the rows that follow each other in a block.
        rows: of all buckets.
        ends: where in them each bucket begins, and the end.

    Raises:
        ValueError: a string is neither.
    """
    begins = np.diff(rows, prepend=rows[:1]) != 1
    begins[[end for end in ends if end < len(rows)]] = True
    counts = np.diff(np.flatnonzero(begins | (rows % layout.BLOCK == 0)), append=len(rows)).tolist()
    are_codes = [
        len(part) == count * codes.width for part, count in zip(parts, counts, strict=True)
    ]
    coded = codes.matrix(b"".join(compress(parts, are_codes)))
    if all(are_codes):
        return coded
    whole = [part for part, is_coded in zip(parts, are_codes, strict=True) if not is_coded]
    matrix = codes.codec.matrix(b"".join(whole))
    codes.codec.check(matrix)
    of_codes = np.repeat(are_codes, counts)
    both = np.empty((len(rows), codes.width), np.uint8)
    both[of_codes], both[~of_codes] = coded, codes.pack(matrix)
    return both
