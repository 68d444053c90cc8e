"""Exact search over a collection's stored vectors, and where in the tables its finds are met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import HashFamily
from simdist.index.tables import HashTables
from simdist.store import layout

# Called with what is being done, and how many rows of how many it is done with.
OnProgress = Callable[[str, int, int], None]

# Rows, or keys, that one round trip asks for.
_ROWS = 1024
_KEYS = 8192
# Queries whose probes are compared with their neighbours' buckets at once.
_QUERIES = 64


@dataclass(frozen=True)
class Side:
    """The tables of one partition that are measured.

    Attributes:
        generation: of the tables, whose family hashes.
        rows, live: row numbers given out so far, and images.
    """

    tables: HashTables
    generation: int
    family: HashFamily
    rows: int
    live: int


@dataclass(frozen=True)
class Queries:
    """Stored vectors to search with: (q, dim) float32, and where each is stored, (q,) int64."""

    vectors: NDArray[np.float32]
    sides: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """What exact search finds: (q, k) scores, and the side and row of each, int64."""

    scores: NDArray[np.float32]
    sides: NDArray[np.int64]
    rows: NDArray[np.int64]


def draw_queries(sides: Sequence[Side], count: int, generator: np.random.Generator) -> Queries:
    """Some of the stored vectors, from each side its share; all of them if there are no more."""
    live = sum(side.live for side in sides)
    vectors, owners, rows = [], [], []
    for number, side in enumerate(sides):
        wanted = min(side.live, -(-count * side.live // max(live, 1)))
        # A few more, for those that turn out to be deleted.
        drawn = min(side.rows, wanted * side.rows // max(side.live, 1) * 5 // 4 + 20)
        numbers = generator.choice(side.rows, drawn, replace=False).astype(np.uint32)
        found = [(row, packed) for row, packed in _stored(side, numbers) if packed is not None]
        found = found[:wanted]
        vectors += [packed for _, packed in found]
        rows += [row for row, _ in found]
        owners += [number] * len(found)
    tables = sides[0].tables
    packed = np.array(vectors, np.uint8).reshape(-1, tables.width)
    return Queries(tables.restore(packed), np.array(owners, np.int64), np.array(rows, np.int64))


def exact_neighbours(
    sides: Sequence[Side], queries: Queries, count: int, on_progress: OnProgress
) -> Neighbours:
    """The `count` most similar stored vectors of each query, itself excluded, in no order.

    Every vector is read once; where there are fewer, their scores are -inf.
    """
    shape = (len(queries.rows), count)
    best = Neighbours(
        np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    )
    total, done = sum(side.rows for side in sides), 0
    for number, side in enumerate(sides):
        own = queries.sides == number
        for rows, vectors in side.tables.blocks(0, side.rows):
            if len(rows) and count:
                scores = queries.vectors @ vectors.T
                asked, here = np.nonzero((queries.rows[:, None] == rows) & own[:, None])
                scores[asked, here] = -np.inf
                _improve(best, scores, number, rows)
            done += len(rows)
            on_progress("measuring recall", done, total)
    return best


def _improve(
    best: Neighbours, scores: NDArray[np.float32], side: int, rows: NDArray[np.int64]
) -> None:
    """Put (q, n) scores of further rows among the best."""
    count = best.rows.shape[1]
    # After the first blocks few queries meet anything better.
    better = np.flatnonzero(scores.max(axis=1) > best.scores.min(axis=1))
    together = np.hstack([best.scores[better], scores[better]])
    kept = np.argpartition(-together, count - 1, axis=1)[:, :count]
    old, place = kept < count, np.maximum(kept - count, 0)
    earlier = np.where(old, kept, 0)
    for values, new in ((best.sides, np.full(kept.shape, side)), (best.rows, rows[place])):
        values[better] = np.where(old, np.take_along_axis(values[better], earlier, axis=1), new)
    best.scores[better] = np.take_along_axis(together, kept, axis=1)


def home_buckets(side: Side, number: int, neighbours: Neighbours) -> NDArray[np.int64]:
    """(q, k, tables) the buckets of the neighbours that are of side `number`; -1 for others.

    Also for those that were deleted meanwhile.
    """
    homes = np.full((*neighbours.rows.shape, side.family.tables), -1, np.int64)
    ours = (neighbours.sides == number) & np.isfinite(neighbours.scores)
    if not ours.any():
        return homes
    rows, where = np.unique(neighbours.rows[ours], return_inverse=True)
    buckets = np.full((len(rows), side.family.tables), -1, np.int64)
    stored = enumerate(_stored(side, rows.astype(np.uint32)))
    found = [(place, packed) for place, (_, packed) in stored if packed is not None]
    if found:
        vectors = side.tables.restore(np.stack([packed for _, packed in found]))
        buckets[[place for place, _ in found]] = side.family.buckets(vectors)
    homes[ours] = buckets[where]
    return homes


def bucket_sizes(side: Side) -> NDArray[np.int64]:
    """(tables, size) rows in each bucket."""
    family, store = side.family, side.tables.store
    sizes = np.zeros(family.tables * family.size, np.int64)
    for start in range(0, len(sizes), _KEYS):
        places = [divmod(n, family.size) for n in range(start, min(start + _KEYS, len(sizes)))]
        keys = [side.tables.key("bucket", side.generation, *place) for place in places]
        lengths = store.call_many([("STRLEN", key) for key in keys])
        sizes[start : start + len(lengths)] = lengths
    return sizes.reshape(family.tables, family.size) // layout.ROW_DTYPE.itemsize


def reached(
    side: Side,
    vectors: NDArray[np.float32],
    homes: NDArray[np.int64],
    sizes: NDArray[np.int64],
    count: int,
) -> tuple[NDArray[np.bool_], int]:
    """Which neighbours so many probes meet, in any table, and how many rows they read in all.

    Args:
        vectors: (q, dim), the queries.
        homes: (q, k, tables) the neighbours' buckets; -1 for those stored elsewhere.
        sizes: `bucket_sizes`.

    Returns:
        (q, k) whether a neighbour is met, and the rows read by all queries together.
    """
    met, read = np.empty(homes.shape[:2], np.bool_), 0
    table = np.arange(side.family.tables)[:, None]
    for start in range(0, len(vectors), _QUERIES):
        part = slice(start, start + _QUERIES)
        probes = side.family.probes(vectors[part], count)
        met[part] = (homes[part][:, :, :, None] == probes[:, None]).any(axis=(2, 3))
        read += int(sizes[table, probes].sum())
    return met, read


def _stored(side: Side, rows: NDArray[np.uint32]) -> list[tuple[int, NDArray[np.uint8] | None]]:
    """Rows with their stored vectors; None for those that are deleted."""
    pairs = []
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        for row, stored in zip(some.tolist(), side.tables.rows(some), strict=True):
            pairs.append((row, None if stored is None else stored[0]))
    return pairs
