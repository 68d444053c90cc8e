"""What a query worker has of centroids in cells: bytes, a quarter of what `Cells` takes, packed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.cells import cells_for, half_norms
from simdist.hashing.family import Vectors
from simdist.hashing.projection import Projection
from simdist.vectors.packing import LANES, pack_columns, unpack_columns

if TYPE_CHECKING:
    from simdist.hashing.ranking_loops import Ranking

# Centroids that are floats at once.
_BLOCK = 4096


def pack_cells(centroids: NDArray[np.int8], starts: NDArray[np.int64]) -> NDArray[np.int8]:
    """(K, c) centroids, those of a cell side by side -> the groups of each, as `pack_columns`."""
    return np.concatenate([pack_columns(cell) for cell in np.split(centroids, starts[1:-1])])


def unpack_cells(packed: NDArray[np.int8], starts: NDArray[np.int64]) -> NDArray[np.int8]:
    """`pack_cells` undone but for zeros behind each centroid."""
    cells = np.split(packed, groups_of(starts)[1:])
    parts = zip(cells, np.diff(starts).tolist(), strict=True)
    return np.concatenate([unpack_columns(cell)[:count] for cell, count in parts])


def groups_of(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C,) the first group of each cell's."""
    groups = -(-np.diff(starts) // LANES)
    first: NDArray[np.int64] = np.cumsum(groups) - groups
    return first


class RankedCells:
    """Centroids in cells, prepared to be ranked for one query after another."""

    def __init__(
        self,
        packed: NDArray[np.int8],
        centres: Vectors,
        starts: NDArray[np.int64],
        projection: Projection,
    ) -> None:
        """Nothing is computed yet.

        Args:
            packed: the K centroids, as `pack_cells`.
            centres, starts: as `Cells` has them.
            projection: by which vectors become points.
        """
        self._packed, self._centres, self._starts = packed, centres, starts
        self._projection = projection

    def ranked(self, vectors: Vectors, count: int) -> NDArray[np.uint32]:
        """(n, d) -> (n, count) centroids: `Cells.nearest` of a vector, then others by distance.

        They are ranked among several times as many, those of the nearest cells; all of them if
        `count` is their number.
        """
        from simdist.hashing.ranking_loops import rank_many

        best = np.empty((len(vectors), count), np.int64)
        rank_many(np.ascontiguousarray(vectors), self._headers, self.cells_for(count), best)
        return best.astype(np.uint32)

    def cells_for(self, count: int) -> int:
        """How many cells are looked into for so many centroids."""
        return cells_for(count, self._starts)

    @cached_property
    def ranking(self) -> Ranking:
        """What `rank_centroids` ranks centroids by."""
        from simdist.hashing.ranking_loops import Ranking

        centroids = unpack_cells(self._packed, self._starts)
        steps = inverse_lengths_of(centroids)
        # To the bit as `Cells` has them, for a vector that all centroids are as far from.
        blocks = [slice(at, at + _BLOCK) for at in range(0, len(steps), _BLOCK)]
        halves = [half_norms(centroids[block] * steps[block, None]) for block in blocks]
        return Ranking(
            self._projection.packed,
            self._projection.scales,
            self._packed,
            groups_of(self._starts),
            steps,
            np.concatenate(halves),
            self._centres,
            half_norms(self._centres),
            self._starts,
        )

    @cached_property
    def _headers(self) -> NDArray[np.int64]:
        from simdist.vectors.headers import headers

        return headers(*self.ranking)


def inverse_lengths_of(values: NDArray[np.int8]) -> NDArray[np.float32]:
    """(n, c) int8 -> (n,) float32, 1 / their lengths; 0 for what has none."""
    blocks = [values[at : at + _BLOCK].astype(np.int32) for at in range(0, len(values), _BLOCK)]
    squares = np.concatenate([np.einsum("nc,nc->n", block, block) for block in blocks])
    lengths = np.sqrt(squares.astype(np.float32))
    return np.divide(np.float32(1), lengths, out=np.zeros_like(lengths), where=squares > 0)
