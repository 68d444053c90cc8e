"""What is read of hash tables: of each bucket what its reader does not have yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.store import layout
from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes

# What a reader wants of no bucket: tables, buckets, and how much of each it has.
NO_BUCKETS = np.zeros((0, 3), np.int64)


class OutdatedError(Exception):
    """The tables have another generation by now; never leaves simdist."""


@dataclass(frozen=True)
class Reading:
    """An answer of `Partition.read`: what some buckets hold beyond what their reader had.

    Attributes:
        moment: of which it is (`scripts.Seen`).
        known_rows: numbers given out until then.
        bits: of the codes that come in place of vectors; 0 for none.
        dead: (d,) uint32, rows deleted or replaced since the reader's last reading.
        known: (b,) int64, how much of each bucket the reader has from now on.
        complete: (b,) bool, whether that is all.
        ends: (b,) int64, where its rows end among those of all.
        rows: (n,) uint32, without those of deleted images.
        vectors: (n, width) uint8, stored vectors (`Codec.unpack`), or with bits their codes
            (`Codes.unpack`).
        inverse_lengths: (n,) float32, of these, or their factors.
    """

    moment: bytes
    known_rows: int
    bits: int
    dead: NDArray[np.uint32]
    known: NDArray[np.int64]
    complete: NDArray[np.bool_]
    ends: NDArray[np.int64]
    rows: NDArray[np.uint32]
    vectors: NDArray[np.uint8]
    inverse_lengths: NDArray[np.float32]


def unpack_reading(
    reply: Sequence[Any], starts: NDArray[np.int64], *, codec: Codec, limit: int
) -> Reading:
    """What `scripts.read` answers.

    Args:
        starts: (w,) how much of each wanted bucket the reader has. Fewer come where the limit was
            reached.
        limit: rows that were read at most.

    Raises:
        StoreError: what is stored is damaged.
    """
    moment, known_rows, bits, dead, sizes, row_bytes, are_codes, coded, whole = reply
    stored = Codes.of(codec, bits) if bits else codec
    try:
        rows = np.frombuffer(row_bytes, layout.ROW_DTYPE)
        vectors = codec.matrix(b"".join(whole))
        if isinstance(stored, Codes):
            mask = np.frombuffer(are_codes, np.uint8) > 0
            vectors = _coded(mask, stored.matrix(b"".join(coded)), vectors, codes=stored)
        dead_rows = np.frombuffer(dead, layout.ROW_DTYPE)
        counts = np.frombuffer(sizes, layout.ROW_DTYPE).astype(np.int64)
    except ValueError as error:
        raise StoreError("the buckets hold broken rows or vectors") from error
    if max(rows.max(initial=0), dead_rows.max(initial=0)) >= max(known_rows, 1):
        raise StoreError("the buckets name rows that there are not")
    # The compiled loops check no bounds.
    if len(rows) != len(vectors):
        raise StoreError(f"of {len(rows)} vectors in the blocks {len(vectors)} are there")
    if len(counts) > len(starts) or counts.sum() != len(rows):
        raise StoreError("the buckets have other sizes than they say")
    inverse_lengths = stored.check(vectors)
    ends = np.cumsum(counts)
    known, complete = starts[: len(counts)] + counts, ends < limit
    there = inverse_lengths > 0
    if not there.all():
        ends = np.append(0, np.cumsum(there))[ends]
        rows, vectors, inverse_lengths = rows[there], vectors[there], inverse_lengths[there]
    return Reading(
        moment,
        known_rows,
        bits,
        dead_rows,
        known,
        complete,
        ends,
        rows,
        vectors,
        inverse_lengths,
    )


def _coded(
    are_codes: NDArray[np.bool_],
    coded: NDArray[np.uint8],
    whole: NDArray[np.uint8],
    *,
    codes: Codes,
) -> NDArray[np.uint8]:
    """Codes, and stored vectors between them -> (n, codes.width) bytes, all of them codes.

    Args:
        are_codes: (n,) which.

    Raises:
        ValueError: they are not as many as is said.
    """
    if are_codes.sum() != len(coded) or len(are_codes) != len(coded) + len(whole):
        raise ValueError("codes are missing")
    if not len(whole):
        return coded
    codes.codec.check(whole)
    both = np.empty((len(are_codes), codes.width), np.uint8)
    both[are_codes], both[~are_codes] = coded, codes.pack(whole)
    return both
