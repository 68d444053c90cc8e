"""A whole query in one compiled call, as long as nothing must be read for it.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.ranking_loops import Ranking, rank_centroids, ranking_at
from simdist.search.bucket_loops import BUCKET, look_up
from simdist.search.chain_loops import ROW, Chains, Query, rank_chains
from simdist.vectors.compiled import compiled
from simdist.vectors.headers import headers, matrix_at, vector_at
from simdist.vectors.loops import hadamard_rows
from simdist.vectors.products import padded_width, round_query

MISSED, UNUSABLE = -1, -2


class Batch(NamedTuple):
    """Queries that are answered together: q of them, p buckets for each, the best n found.

    Attributes:
        vectors: (q, d) float32, of any length.
        places: (q, p) int64, the buckets to look into.
        exact, whole, sizes: (q, d) float32, (q, `padded_width`) int16 and (q, 3) float32: the
            queries as they are compared, see `chain_loops.Query`; 1 / the length of the second.
        rows: (q, n) uint32, by falling cosine similarity, then by row.
        scores: (q, n) float32.
        found: (q,) int64, how many; `MISSED` where something must be read first, `UNUSABLE` where
            the query's length is zero or not finite.
    """

    vectors: NDArray[np.float32]
    places: NDArray[np.int64]
    exact: NDArray[np.float32]
    whole: NDArray[np.int16]
    sizes: NDArray[np.float32]
    rows: NDArray[np.uint32]
    scores: NDArray[np.float32]
    found: NDArray[np.int64]

    @classmethod
    def empty(cls, count: int, dim: int, places: int, n: int) -> Batch:
        """Room for so many queries, buckets for each, and results."""
        return cls(
            np.empty((count, dim), np.float32),
            np.empty((count, places), np.int64),
            np.empty((count, dim), np.float32),
            np.empty((count, padded_width(dim)), np.int16),
            np.empty((count, 3), np.float32),
            np.empty((count, n), np.uint32),
            np.empty((count, n), np.float32),
            np.empty(count, np.int64),
        )

    def query(self, i: int) -> Query:
        """The i-th query, as it is compared."""
        return Query(self.exact[i], self.whole[i], self.sizes[i, 0], self.sizes[i, 1])


class Turning(NamedTuple):
    """How vectors come into the space in which they are stored: see `hadamard_rows`."""

    factors: NDArray[np.float32]
    starts: NDArray[np.int64]


class Kept(NamedTuple):
    """What a worker has.

    Attributes:
        buckets: (slots,) `bucket_loops.BUCKET`.
        rows: theirs.
        dead: (n,) uint8, a bit for each row that is deleted; beyond it none is.
    """

    buckets: Any
    rows: Chains
    dead: NDArray[np.uint8]


def all_headers(
    batch: Batch, turning: Turning, kept: Kept, ranking: Ranking | None
) -> NDArray[np.int64]:
    """Where all arrays are but the stored values: what the functions below take."""
    of_rows = kept.rows.leaps, kept.rows.rows
    return headers(*batch, *turning, kept.buckets, *of_rows, kept.dead, *(ranking or ()))


# In the order of `all_headers`.
_TURNING, _KEPT, _RANKING = 8, 10, 14


@compiled()
def _batch_at(headers: NDArray[np.int64]) -> Batch:
    return Batch(
        matrix_at(headers, 0, np.float32),
        matrix_at(headers, 1, np.int64),
        matrix_at(headers, 2, np.float32),
        matrix_at(headers, 3, np.int16),
        matrix_at(headers, 4, np.float32),
        matrix_at(headers, 5, np.uint32),
        matrix_at(headers, 6, np.float32),
        vector_at(headers, 7, np.int64),
    )


@compiled()
def _kept_at(headers: NDArray[np.int64], values: NDArray[Any], bits: int) -> Kept:
    rows = Chains(
        vector_at(headers, _KEPT + 1, np.int32), vector_at(headers, _KEPT + 2, ROW), values, bits
    )
    return Kept(vector_at(headers, _KEPT, BUCKET), rows, vector_at(headers, _KEPT + 3, np.uint8))


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _square(vector: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


@compiled()
def turn(headers: NDArray[np.int64]) -> None:
    """Bring queries to length 1, and into the space in which vectors are stored."""
    batch = _batch_at(headers)
    factors = vector_at(headers, _TURNING, np.float32)
    starts = vector_at(headers, _TURNING + 1, np.int64)
    count, dim = len(batch.vectors), len(factors)
    unit = np.empty((count, dim), np.float32)
    for i in range(count):
        length = np.sqrt(_square(batch.vectors[i]))
        # The square overflows before the values do.
        usable = np.float32(0) < length < np.float32(np.inf)
        batch.found[i] = 0 if usable else UNUSABLE
        for j in range(dim):
            unit[i, j] = batch.vectors[i, j] / length if usable else 1
    turned = hadamard_rows(unit, factors, starts)
    for i in range(count):
        for j in range(dim):
            batch.exact[i, j] = turned[i, j]
        step, lost, inverse_length = round_query(turned[i], batch.whole[i])
        batch.sizes[i, 0], batch.sizes[i, 1], batch.sizes[i, 2] = step, lost, inverse_length


@compiled()
def rank_places(
    values: NDArray[Any], bits: int, headers: NDArray[np.int64], epoch: int, clock: int
) -> tuple[int, int]:
    """Score what is in the buckets of each query, and keep the best.

    Args:
        values, bits: of the rows.
        headers: `turn` has had them, and the batch's places are filled in.
        epoch: as of which buckets must be complete.
        clock: the number of the query.

    Returns:
        How many rows were scored, and the least of `Batch.found`.
    """
    batch, kept = _batch_at(headers), _kept_at(headers, values, bits)
    probes = batch.places.shape[1]
    heads, sizes = np.empty(probes, np.int32), np.empty(probes, np.int32)
    scored, least = 0, batch.rows.shape[1]
    for i in range(len(batch.found)):
        if batch.found[i] != UNUSABLE:
            size = look_up(batch.places[i], kept.buckets, epoch, clock, heads, sizes)
            if size < 0:
                batch.found[i] = MISSED
            else:
                scored += size
                query = Query(batch.exact[i], batch.whole[i], batch.sizes[i, 0], batch.sizes[i, 1])
                rows, scores = batch.rows[i], batch.scores[i]
                batch.found[i] = rank_chains(
                    query, heads, sizes, kept.rows, kept.dead, 0, rows, scores
                )
        least = min(least, int(batch.found[i]))
    return scored, least


@compiled()
def rank_vectors(  # noqa: PLR0917
    values: NDArray[Any],
    bits: int,
    headers: NDArray[np.int64],
    cells: int,
    epoch: int,
    clock: int,
) -> tuple[int, int]:
    """`turn`, then the choice of the buckets, then `rank_places`, whose answer is returned.

    Args:
        cells: how many of them `rank_centroids` looks into.
    """
    turn(headers)
    batch, ranking = _batch_at(headers), ranking_at(headers, _RANKING)
    for i in range(len(batch.found)):
        rank_centroids(batch.whole[i], batch.sizes[i, 2], ranking, cells, batch.places[i])
    return rank_places(values, bits, headers, epoch, clock)
