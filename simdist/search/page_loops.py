"""The compiled loops of a search over pages. They hold no lock.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.codec import INVERSE_LENGTH
from simdist.vectors.compiled import compiled
from simdist.vectors.headers import fetch
from simdist.vectors.products import dot_bytes, dot_codes

_SUMS = {"reassoc", "contract", "nsz"}
# What a score may be wrong by, as floats are added.
_AHEAD = 3
# So few of the best are compared one by one.
_LINEAR = 32
_UNSURE = np.float32(1e-5)


class Query(NamedTuple):
    """A query, exact and rounded.

    Attributes:
        exact: (d,) float32, of length 1.
        whole: (`products.padded_width`,) int16, the same in bytes.
        step: by what these are to be multiplied.
        lost: the length of what was lost by it.
    """

    exact: NDArray[np.float32]
    whole: NDArray[np.int16]
    step: np.float32
    lost: np.float32


class Pages(NamedTuple):
    """Where rows lie: pages of r rows, those of a bucket in a chain.

    Attributes:
        following: (pages,) int32, the next page of the chain, of all but the last.
        rows: (pages, r) uint32.
        values: (pages, r, d) int8 or float32; or (pages, r, w) uint8, codes.
        inverse_lengths: (pages, r) float32; of codes their factors.
        bits: those of a code (`simdist.vectors.codes`), or 0.
    """

    following: NDArray[np.int32]
    rows: NDArray[np.uint32]
    values: NDArray[Any]
    inverse_lengths: NDArray[np.float32]
    bits: int


@compiled(fastmath=_SUMS)
def cosine(
    query: NDArray[np.float32], values: NDArray[np.generic], inverse_length: np.float32
) -> np.float32:
    """The cosine of a query of length 1 and stored values."""
    total = np.float32(0)
    for i in range(query.shape[0]):
        total += query[i] * np.float32(values[i])
    return min(total * inverse_length, np.float32(1))


@compiled()
def _middles(whole: NDArray[np.int16], bits: int) -> tuple[np.float32, np.float32]:
    """What the middles of codes are: so many times the code, and the rest for a whole query."""
    step, total = 1 << (8 - bits), np.int64(0)
    for i in range(len(whole)):
        total += whole[i]
    return np.float32(step), np.float32((step / 2 - 128) * total)


@compiled()
def insert(
    row: np.uint32,
    score: np.float32,
    found: int,
    best_rows: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Put a row among the best, in its place; returns how many there are by then."""
    limit = best_rows.shape[0]
    slot, first = found, 0
    # Of many the place is found by halves.
    while slot - first > _LINEAR:
        middle = (first + slot) // 2
        if best_scores[middle] < score or (
            best_scores[middle] == score and best_rows[middle] > row
        ):
            slot = middle
        else:
            first = middle + 1
    while slot > first and (
        best_scores[slot - 1] < score
        or (best_scores[slot - 1] == score and best_rows[slot - 1] > row)
    ):
        slot -= 1
    # In several tables the same row is met more than once.
    if slot > 0 and best_scores[slot - 1] == score and best_rows[slot - 1] == row:
        return found
    if slot == limit:
        return found
    last: int = min(found, limit - 1)
    for i in range(last, slot, -1):
        best_rows[i] = best_rows[i - 1]
        best_scores[i] = best_scores[i - 1]
    best_rows[slot] = row
    best_scores[slot] = score
    return last + 1


@compiled()
def rank_pages(  # noqa: PLR0917
    query: Query,
    heads: NDArray[np.int32],
    sizes: NDArray[np.int32],
    pages: Pages,
    dead: NDArray[np.uint8],
    found: int,
    best_rows: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Score candidates, and keep the best; returns how many there are by then.

    What cannot be among them is not scored exactly, or a score would take twice as long. Of codes
    the scores are estimates.

    Args:
        query: what they are compared with.
        heads, sizes: (buckets,) int32, each bucket's first page, and its rows.
        pages: where these are.
        dead: (n,) uint8, a bit for each row that is deleted, or is not to be found; beyond it none
            is.
        found: how many of the best there are already.
        best_rows, best_scores: (limit,) uint32 and float32, the best so far: by falling cosine
            similarity, then by row; updated.
    """
    limit, room, width = best_rows.shape[0], pages.rows.shape[1], pages.values.shape[2]
    bits, unsure = pages.bits, query.lost + _UNSURE
    in_bytes = pages.values.itemsize == 1
    times, rest = _middles(query.whole, bits) if bits else (np.float32(0), np.float32(0))
    whole, start = query.whole.ctypes.data, pages.values.ctypes.data
    size, some_dead = width * pages.values.itemsize, dead.shape[0] > 0
    for bucket in range(min(_AHEAD, heads.shape[0])):
        fetch(start + heads[bucket] * room * size, min(room, sizes[bucket]) * size)
    for bucket in range(heads.shape[0]):
        page, left = heads[bucket], sizes[bucket]
        if bucket + _AHEAD < heads.shape[0]:
            later = bucket + _AHEAD
            fetch(start + heads[later] * room * size, min(room, sizes[later]) * size)
        while left > 0:
            if left > room:
                fetch(start + pages.following[page] * room * size, min(room, left - room) * size)
            for i in range(min(left, room)):
                row = pages.rows[page, i] if some_dead else np.uint32(0)
                if some_dead and row >> 3 < dead.shape[0] and (dead[row >> 3] >> (row & 7)) & 1:
                    continue
                row_at, inverse_length = (
                    start + (page * room + i) * width,
                    pages.inverse_lengths[page, i],
                )
                if bits:
                    product = times * np.float32(dot_codes(whole, row_at, width, bits)) + rest
                    score = product * query.step * inverse_length
                else:
                    if in_bytes and found == limit:
                        product = query.step * np.float32(dot_bytes(whole, row_at, width))
                        # A row's length is 1: what the query lost makes no greater difference.
                        if product * inverse_length + unsure < best_scores[limit - 1]:
                            continue
                    score = cosine(query.exact, pages.values[page, i], inverse_length)
                if found == limit and score < best_scores[limit - 1]:
                    continue
                found = insert(pages.rows[page, i], score, found, best_rows, best_scores)
            page, left = pages.following[page], left - room
    return found


@compiled()
def append_rows(
    bucket: Any,
    pages: Pages,
    stock: NDArray[np.int64],
    rows: NDArray[np.uint32],
    vectors: NDArray[np.uint8],
) -> None:
    """Append rows to a bucket.

    Args:
        bucket: (1,) `bucket_loops.BUCKET`.
        stock: (2,) the first free page that was used before, of a chain, or -1; the first that
            never was. There are as many as are needed.
        rows: (n,) uint32.
        vectors: (n, width) uint8, as they are stored (`simdist.vectors.codec`).
    """
    inverse_lengths = pages.inverse_lengths.view(np.uint8)
    values = pages.values.view(np.uint8)
    page, size = bucket[0].last, bucket[0].size
    for i in range(rows.shape[0]):
        slot = (size + i) % pages.rows.shape[1]
        if slot == 0:
            fresh = stock[0]
            if fresh >= 0:
                stock[0] = pages.following[fresh]
            else:
                fresh = stock[1]
                stock[1] += 1
            if size + i:
                pages.following[page] = fresh
            else:
                bucket[0].first = fresh
            page = np.int32(fresh)
        pages.rows[page, slot] = rows[i]
        # Byte by byte: to compile what an assignment of slices may raise takes seconds.
        stored, target = vectors[i], values[page, slot]
        for j in range(INVERSE_LENGTH):
            inverse_lengths[page, INVERSE_LENGTH * slot + j] = stored[j]
        for j in range(target.shape[0]):
            target[j] = stored[INVERSE_LENGTH + j]
    bucket[0].last = page
    bucket[0].size = size + rows.shape[0]
