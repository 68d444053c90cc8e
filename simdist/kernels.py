"""The compiled loops of a search. They hold no lock: threads may search side by side.

They are compiled when they are first used, for the machine at hand, and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
def hadamard_rows() -> Callable[..., NDArray[np.float32]]:
    """The fast Walsh-Hadamard transform: (vectors (n, d) float32, factors (d,) float32, starts).

    Each vector is multiplied by the factors first. Columns starts[i] to starts[i + 1], (b + 1,)
    int64, a power of two of them, are transformed for themselves.

    Returns:
        (n, d) float32.
    """
    import numba
    import numpy as np

    @numba.njit(nogil=True, cache=True)
    def stage(row: Any, stride: int) -> None:
        for start in range(0, row.shape[0], 2 * stride):
            left, right = row[start : start + stride], row[start + stride : start + 2 * stride]
            for i in range(stride):
                left[i], right[i] = left[i] + right[i], left[i] - right[i]

    @numba.njit(nogil=True, cache=True)
    def two_stages(row: Any, stride: int) -> None:
        quarter = stride // 2
        for start in range(0, row.shape[0], 2 * stride):
            a = row[start : start + quarter]
            b = row[start + quarter : start + stride]
            c = row[start + stride : start + stride + quarter]
            d = row[start + stride + quarter : start + 2 * stride]
            for i in range(quarter):
                above, above_less = a[i] + c[i], a[i] - c[i]
                below, below_less = b[i] + d[i], b[i] - d[i]
                a[i], b[i] = above + below, above - below
                c[i], d[i] = above_less + below_less, above_less - below_less

    # Such short strides would not vectorise.
    @numba.njit(nogil=True, cache=True)
    def last_three_stages(row: Any) -> None:
        eights = row.reshape(-1, 8)
        for i in range(eights.shape[0]):
            a, b, c, d = eights[i, 0], eights[i, 1], eights[i, 2], eights[i, 3]
            e, f, g, h = eights[i, 4], eights[i, 5], eights[i, 6], eights[i, 7]
            a, b, c, d, e, f, g, h = a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h
            a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
            eights[i, 0], eights[i, 1], eights[i, 2], eights[i, 3] = a + b, a - b, c + d, c - d
            eights[i, 4], eights[i, 5], eights[i, 6], eights[i, 7] = e + f, e - f, g + h, g - h

    @numba.njit(nogil=True, cache=True)
    def transform(vectors: Any, factors: Any, starts: Any) -> Any:
        rows = np.empty(vectors.shape, np.float32)
        for n in range(rows.shape[0]):
            for i in range(rows.shape[1]):
                rows[n, i] = vectors[n, i] * factors[i]
            for block in range(starts.shape[0] - 1):
                row = rows[n, starts[block] : starts[block + 1]]
                stride = row.shape[0] // 2
                while stride > 8:
                    two_stages(row, stride)
                    stride //= 4
                if stride == 8:
                    stage(row, stride)
                    stride //= 2
                if stride == 4:
                    last_three_stages(row)
                    stride = 0
                while stride:
                    stage(row, stride)
                    stride //= 2
        return rows

    compiled: Callable[..., NDArray[np.float32]] = transform
    return compiled


@cache
def round_rows() -> Callable[..., None]:
    """Rounding to int8: (rows (n, d) float32, values (n, d) int8, inverse_lengths (n,) float32).

    Fills in the values, such that the greatest of each row is 127, and 1 / their length.
    """
    import numba
    import numpy as np

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
    def rounded(rows: Any, values: Any, inverse_lengths: Any) -> None:
        # The bits of floats, less their sign, are in the order of the floats, and the greatest of
        # integers is found ten times as fast.
        integers, greatest = rows.view(np.int32), np.empty(1, np.int32)
        for n in range(rows.shape[0]):
            row, target, bits = rows[n], values[n], integers[n]
            peak = np.int32(0)
            for i in range(row.shape[0]):
                peak = max(peak, bits[i] & np.int32(0x7FFFFFFF))
            greatest[0] = peak
            scale = np.float32(127) / greatest.view(np.float32)[0]
            square = np.float32(0)
            for i in range(row.shape[0]):
                whole = np.rint(row[i] * scale)
                target[i] = np.int8(whole)
                square += whole * whole
            inverse_lengths[n] = np.float32(1) / np.sqrt(square)

    compiled: Callable[..., None] = rounded
    return compiled


@cache
def restore_rows() -> Callable[..., NDArray[np.float32]]:
    """To length 1: (values (n, d) int8 or float32, inverse_lengths (n,) float32).

    Returns:
        (n, d) float32.
    """
    import numba
    import numpy as np

    @numba.njit(nogil=True, cache=True)
    def restored(values: Any, inverse_lengths: Any) -> Any:
        rows = np.empty(values.shape, np.float32)
        for n in range(values.shape[0]):
            for i in range(values.shape[1]):
                rows[n, i] = values[n, i] * inverse_lengths[n]
        return rows

    compiled: Callable[..., NDArray[np.float32]] = restored
    return compiled
