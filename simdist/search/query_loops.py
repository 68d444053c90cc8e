"""A whole query in one compiled call, as long as nothing must be read for it.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.cell_loops import Ranking, rank_in_cells
from simdist.search.bucket_loops import look_up
from simdist.search.page_loops import Pages, rank_pages
from simdist.vectors.compiled import compiled
from simdist.vectors.loops import hadamard_rows


class View(NamedTuple):
    """What a worker has, and for which query it is looked at.

    Attributes:
        buckets: (slots,) `bucket_loops.BUCKET`.
        pages: their rows.
        dead: (n,) uint8, a bit for each row that is deleted; beyond it none is.
        epoch: as of which buckets must be complete.
        clock: the number of the query.
    """

    buckets: Any
    pages: Pages
    dead: NDArray[np.uint8]
    epoch: int
    clock: int


class Turning(NamedTuple):
    """How vectors come into the space in which they are stored: see `hadamard_rows`."""

    factors: NDArray[np.float32]
    starts: NDArray[np.int64]


class Best(NamedTuple):
    """What is found for q queries: at most n each, by falling cosine similarity, then by row.

    Attributes:
        turned: (q, d) float32, the queries as they are compared.
        rows: (q, n) uint32.
        scores: (q, n) float32.
        found: (q,) int64, how many; `MISSED` where something must be read first, `UNUSABLE` where
            the query's length is zero or not finite.
    """

    turned: NDArray[np.float32]
    rows: NDArray[np.uint32]
    scores: NDArray[np.float32]
    found: NDArray[np.int64]


MISSED, UNUSABLE = -1, -2


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _square(vector: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


@compiled()
def turn(vectors: NDArray[np.float32], turning: Turning, best: Best) -> None:
    """Bring (q, d) queries to length 1, and into the space in which vectors are stored."""
    unit = np.empty(vectors.shape, np.float32)
    for i in range(len(vectors)):
        length = np.sqrt(_square(vectors[i]))
        # The square overflows before the values do.
        best.found[i] = 0 if np.float32(0) < length < np.float32(np.inf) else UNUSABLE
        for j in range(vectors.shape[1]):
            unit[i, j] = vectors[i, j] / length if best.found[i] == 0 else 1
    turned = hadamard_rows(unit, turning.factors, turning.starts)
    for i in range(len(vectors)):
        for j in range(vectors.shape[1]):
            best.turned[i, j] = turned[i, j]


@compiled()
def rank_places(places: NDArray[Any], view: View, best: Best) -> tuple[int, int]:
    """Score what is in buckets, and keep the best.

    Args:
        places: (q, p) whole numbers, the buckets for each query.
        best: `turn` has filled it in.

    Returns:
        How many rows were scored, and the least of `best.found`.
    """
    heads, sizes = np.empty(places.shape[1], np.int32), np.empty(places.shape[1], np.int32)
    scored, least = 0, best.found[0]
    for i in range(len(places)):
        if best.found[i] != UNUSABLE:
            size = look_up(places[i], view.buckets, view.epoch, view.clock, heads, sizes)
            if size < 0:
                best.found[i] = MISSED
            else:
                scored += size
                query, rows, scores = best.turned[i], best.rows[i], best.scores[i]
                best.found[i] = rank_pages(
                    query, heads, sizes, view.pages, view.dead, 0, rows, scores
                )
        least = min(least, best.found[i])
    return scored, least


@compiled()
def rank_vectors(  # noqa: PLR0917
    vectors: NDArray[np.float32],
    turning: Turning,
    ranking: Ranking,
    view: View,
    places: NDArray[np.uint32],
    best: Best,
) -> tuple[int, int]:
    """`turn`, then the choice of the buckets, then `rank_places`, whose answer is returned.

    Args:
        vectors: (q, d) float32.
        places: (q, p) filled in.
    """
    turn(vectors, turning, best)
    rank_in_cells(best.turned, ranking, places)
    return rank_places(places, view, best)
