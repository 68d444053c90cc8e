"""The compiled loops of a search. They hold no lock: threads may search side by side.

They are compiled when they are first used, for the machine at hand, and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

PAGE_ROWS = 8


@cache
def rank_pages() -> Callable[..., int]:
    """The loop that scores candidates and keeps the best.

    Called as (query, first, next_page, fill, rows, values, inverse_lengths, dead, found, best_rows,
    best_scores) -> found:

        query: (d,) float32, of length 1.
        first: (buckets,) int32, each bucket's first page, or -1.
        next_page: (pages,) int32, the page after each, or -1.
        fill: (pages,) int32, rows in each.
        rows: (pages, PAGE_ROWS) uint32.
        values: (pages, PAGE_ROWS, d) int8 or float32.
        inverse_lengths: (pages, PAGE_ROWS) float32.
        dead: (n,) uint8, a bit for each row that is deleted; beyond it none is.
        found: how many of the best there are already.
        best_rows, best_scores: (limit,) uint32 and float32, the best so far: by falling cosine
            similarity, then by row; updated.
    """
    import numba
    import numpy as np

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
    def cosine(query: Any, values: Any, inverse_length: Any) -> Any:
        total = np.float32(0)
        for i in range(query.shape[0]):
            total += query[i] * np.float32(values[i])
        return min(total * inverse_length, np.float32(1))

    @numba.njit(nogil=True, cache=True)
    def insert(row: Any, score: Any, found: int, best_rows: Any, best_scores: Any) -> Any:
        limit = best_rows.shape[0]
        place = found
        while place > 0 and (
            best_scores[place - 1] < score
            or (best_scores[place - 1] == score and best_rows[place - 1] > row)
        ):
            place -= 1
        # In several tables the same row is met more than once.
        if place > 0 and best_scores[place - 1] == score and best_rows[place - 1] == row:
            return found
        if place == limit:
            return found
        last = min(found, limit - 1)
        for i in range(last, place, -1):
            best_rows[i] = best_rows[i - 1]
            best_scores[i] = best_scores[i - 1]
        best_rows[place] = row
        best_scores[place] = score
        return last + 1

    @numba.njit(nogil=True, cache=True)
    def rank(  # noqa: PLR0917
        query: Any,
        first: Any,
        next_page: Any,
        fill: Any,
        rows: Any,
        values: Any,
        inverse_lengths: Any,
        dead: Any,
        found: int,
        best_rows: Any,
        best_scores: Any,
    ) -> int:
        limit = best_rows.shape[0]
        for bucket in range(first.shape[0]):
            page = first[bucket]
            while page >= 0:
                for i in range(fill[page]):
                    score = cosine(query, values[page, i], inverse_lengths[page, i])
                    if found == limit and score < best_scores[limit - 1]:
                        continue
                    row = rows[page, i]
                    if row >> 3 < dead.shape[0] and (dead[row >> 3] >> (row & 7)) & 1:
                        continue
                    found = insert(row, score, found, best_rows, best_scores)
                page = next_page[page]
        return found

    compiled: Callable[..., int] = rank
    return compiled


@cache
def hadamard_rows() -> Callable[..., None]:
    """The fast Walsh-Hadamard transform, in place: (rows (n, d) float32, starts (b + 1,) int64).

    Columns starts[i] to starts[i + 1], a power of two of them, are one block; each is scaled so
    that lengths stay, and transformed again it is what it was.
    """
    import numba
    import numpy as np

    # Every stage has the same shape, without short strides, so that it vectorises: M. Pease, 'An
    # adaptation of the fast Fourier transform for parallel processing', J. ACM 15 (1968).
    @numba.njit(nogil=True, cache=True)
    def transform(rows: Any, starts: Any) -> None:
        spare = np.empty(rows.shape[1], np.float32)
        for n in range(rows.shape[0]):
            for block in range(starts.shape[0] - 1):
                row = rows[n, starts[block] : starts[block + 1]]
                source, target = row, spare[: row.shape[0]]
                half, stage = row.shape[0] // 2, 1
                while stage < row.shape[0]:
                    for i in range(half):
                        left, right = source[i], source[i + half]
                        target[2 * i] = left + right
                        target[2 * i + 1] = left - right
                    source, target = target, source
                    stage *= 2
                scale = np.float32(1 / np.sqrt(row.shape[0]))
                for i in range(row.shape[0]):
                    row[i] = source[i] * scale

    compiled: Callable[..., None] = transform
    return compiled
