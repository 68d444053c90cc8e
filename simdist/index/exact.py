"""Exact search over a collection's stored vectors, and where in the tables its finds are met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.index.snapshot import Snapshot
from simdist.store import layout
from simdist.vectors.checks import checked, normalised
from simdist.vectors.codec import Codec

# Called with what is being done, and how many rows of how many it is done with.
OnProgress = Callable[[str, int, int], None]

# Rows, or keys, that one round trip asks for.
_ROWS = 1024
_KEYS = 8192
# Queries whose probes are compared with their neighbours' buckets at once.
_QUERIES = 64


@dataclass(frozen=True)
class Queries:
    """Vectors to search with: (q, dim) float32, and where each is stored, (q,) int64, or -1."""

    vectors: NDArray[np.float32]
    snapshots: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: ArrayLike, codec: Codec) -> Queries:
        """Those of somebody else, who has not stored them.

        Raises:
            VectorError: a wrong shape, not finite or of length zero.
        """
        units = normalised(checked(np.asarray(vectors), dim=codec.dim))
        nowhere = np.full(len(units), -1, np.int64)
        return cls(codec.turned(units), nowhere, nowhere)


@dataclass(frozen=True)
class Neighbours:
    """What exact search finds: (q, k) scores, and the side and row of each, int64."""

    scores: NDArray[np.float32]
    snapshots: NDArray[np.int64]
    rows: NDArray[np.int64]


def draw_queries(
    snapshots: Sequence[Snapshot], count: int, generator: np.random.Generator
) -> Queries:
    """Some of the stored vectors, from each side its share; all of them if there are no more."""
    live = sum(snapshot.live for snapshot in snapshots)
    vectors, owners, rows = [], [], []
    for number, snapshot in enumerate(snapshots):
        wanted = min(snapshot.live, -(-count * snapshot.live // max(live, 1)))
        # A few more, for those that turn out to be deleted.
        drawn = min(snapshot.rows, wanted * snapshot.rows // max(snapshot.live, 1) * 5 // 4 + 20)
        numbers = generator.choice(snapshot.rows, drawn, replace=False).astype(np.uint32)
        found = [(row, packed) for row, packed in _stored(snapshot, numbers) if packed is not None]
        found = found[:wanted]
        vectors += [packed for _, packed in found]
        rows += [row for row, _ in found]
        owners += [number] * len(found)
    codec = snapshots[0].partition.codec
    packed = np.array(vectors, np.uint8).reshape(-1, codec.width)
    return Queries(codec.restore(packed), np.array(owners, np.int64), np.array(rows, np.int64))


def exact_neighbours(
    snapshots: Sequence[Snapshot], queries: Queries, count: int, on_progress: OnProgress
) -> Neighbours:
    """The `count` most similar stored vectors of each query, itself excluded, in no order.

    Every vector is read once; where there are fewer, their scores are -inf.
    """
    shape = (len(queries.rows), count)
    best = Neighbours(
        np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    )
    total, done = sum(snapshot.rows for snapshot in snapshots), 0
    for number, snapshot in enumerate(snapshots):
        own = queries.snapshots == number
        for rows, vectors in snapshot.partition.blocks.vectors(0, snapshot.rows):
            if len(rows) and count:
                scores = queries.vectors @ vectors.T
                asked, here = np.nonzero((queries.rows[:, None] == rows) & own[:, None])
                scores[asked, here] = -np.inf
                _improve(best, scores, number, rows)
            done += len(rows)
            on_progress("measuring recall", done, total)
    return best


def _improve(
    best: Neighbours, scores: NDArray[np.float32], snapshot: int, rows: NDArray[np.int64]
) -> None:
    """Put (q, n) scores of further rows among the best."""
    count = best.rows.shape[1]
    # After the first blocks few queries meet anything better.
    better = np.flatnonzero(scores.max(axis=1) > best.scores.min(axis=1))
    together = np.hstack([best.scores[better], scores[better]])
    kept = np.argpartition(-together, count - 1, axis=1)[:, :count]
    old, new_at = kept < count, np.maximum(kept - count, 0)
    earlier = np.where(old, kept, 0)
    for values, new in ((best.snapshots, np.full(kept.shape, snapshot)), (best.rows, rows[new_at])):
        values[better] = np.where(old, np.take_along_axis(values[better], earlier, axis=1), new)
    best.scores[better] = np.take_along_axis(together, kept, axis=1)


def home_buckets(snapshot: Snapshot, number: int, neighbours: Neighbours) -> NDArray[np.int64]:
    """(q, k, tables) the buckets of the neighbours that are of side `number`; -1 for others.

    Also for those that were deleted meanwhile.
    """
    homes = np.full((*neighbours.rows.shape, snapshot.family.tables), -1, np.int64)
    ours = (neighbours.snapshots == number) & np.isfinite(neighbours.scores)
    if not ours.any():
        return homes
    rows, where = np.unique(neighbours.rows[ours], return_inverse=True)
    buckets = np.full((len(rows), snapshot.family.tables), -1, np.int64)
    stored = enumerate(_stored(snapshot, rows.astype(np.uint32)))
    found = [(index, packed) for index, (_, packed) in stored if packed is not None]
    if found:
        vectors = snapshot.partition.codec.restore(np.stack([packed for _, packed in found]))
        buckets[[index for index, _ in found]] = snapshot.family.buckets(vectors)
    homes[ours] = buckets[where]
    return homes


def bucket_sizes(snapshot: Snapshot) -> NDArray[np.int64]:
    """(tables, size) rows in each bucket."""
    family, partition = snapshot.family, snapshot.partition
    sizes = np.zeros(family.tables * family.size, np.int64)
    for start in range(0, len(sizes), _KEYS):
        places = [divmod(n, family.size) for n in range(start, min(start + _KEYS, len(sizes)))]
        keys = [partition.keys.bucket(snapshot.generation, *place) for place in places]
        lengths = partition.store.call_many([("STRLEN", key) for key in keys])
        sizes[start : start + len(lengths)] = lengths
    return sizes.reshape(family.tables, family.size) // layout.ROW_DTYPE.itemsize


def reached(
    snapshot: Snapshot,
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
    table = np.arange(snapshot.family.tables)[:, None]
    for start in range(0, len(vectors), _QUERIES):
        part = slice(start, start + _QUERIES)
        probes = snapshot.family.probes(vectors[part], count)
        met[part] = (homes[part][:, :, :, None] == probes[:, None]).any(axis=(2, 3))
        read += int(sizes[table, probes].sum())
    return met, read


def _stored(
    snapshot: Snapshot, rows: NDArray[np.uint32]
) -> list[tuple[int, NDArray[np.uint8] | None]]:
    """Rows with their stored vectors; None for those that are deleted."""
    pairs = []
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        for row, stored in zip(some.tolist(), snapshot.partition.rows(some), strict=True):
            pairs.append((row, None if stored is None else stored[0]))
    return pairs
