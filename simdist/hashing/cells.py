"""The search for the nearest of many centroids, through cells that hold them in groups.

As the inverted file of H. Jegou, M. Douze, C. Schmid, 'Product quantization for nearest neighbor
search', TPAMI 33 (2011), but over centroids: a point is compared with the cells' centres, then
with the centroids of the nearest few cells.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors
from simdist.hashing.projection import Projection

if TYPE_CHECKING:
    from simdist.hashing.cell_loops import Groups
    from simdist.hashing.ranking_loops import Ranking

Indices = NDArray[np.intp]

# The first centroids are ranked among those of at least so many cells, a twelfth of them up to so
# many, and among at least so many times as many, if there are: among fewer, more probes would
# hardly find more, and among more, as many find no more.
_RANKED_CELLS, _RANKED_SHARE, _RANKED_ENOUGH = 10, 12, 16
_CANDIDATES_EACH = 12
# Points that are compared at once.
_FLAT_BLOCK = 1024
_CELLS_BLOCK = 8192


class Cells:
    """Centroids in cells, prepared for the search.

    Attributes:
        centroids: (K, c) float32, those of a cell side by side.
        centres: (C, c) float32, of the cells.
        starts: (C + 1,) int64: cell i has the centroids from starts[i] up to starts[i + 1],
            at least one.
    """

    def __init__(self, centroids: Vectors, centres: Vectors, starts: NDArray[np.int64]) -> None:
        self.centroids, self.centres, self.starts = centroids, centres, starts
        # How many centroids so many cells have at the least, whichever cells they are.
        self._least = np.cumsum(np.sort(np.diff(starts))).tolist()
        # By what they were ranked last, and where that is.
        self._described: tuple[Projection, NDArray[np.int64]] | None = None

    def nearest(self, points: Vectors) -> Indices:
        """(n, c) -> (n,) the nearest centroid in the near cells."""
        from simdist.hashing.cell_loops import nearest_in_cells

        if len(self.centres) == 1:
            return nearest_centroids(points, self.centroids)
        nearest = np.empty(len(points), np.intp)
        for start in range(0, len(points), _CELLS_BLOCK):
            block = np.ascontiguousarray(points[start : start + _CELLS_BLOCK])
            nearest[start : start + _CELLS_BLOCK] = nearest_in_cells(block, self._groups)
        return nearest

    def ranked(self, vectors: Vectors, projection: Projection, count: int) -> NDArray[np.uint32]:
        """(n, d) -> (n, count) centroids: what `nearest` says of a vector, then others by distance.

        They are ranked among several times as many, those of the nearest cells; all of them if
        `count` is their number.

        Args:
            projection: by which vectors become points.
        """
        from simdist.hashing.ranking_loops import rank_many
        from simdist.vectors.headers import headers

        best = np.empty((len(vectors), count), np.int64)
        if self._described is None or self._described[0] is not projection:
            self._described = projection, headers(*self.ranking(projection))
        described = self._described[1]
        rank_many(np.ascontiguousarray(vectors), described, self.cells_for(count), best)
        return best.astype(np.uint32)

    def around(self, count: int) -> NDArray[np.int32]:
        """(K, count) for each centroid itself, then others by distance, at most K in all.

        They are ranked among several times as many, those of the cells near its own.
        """
        halves, starts = half_norms(self.centroids), self.starts.tolist()
        to_cells = half_norms(self.centres) - self.centres @ self.centres.T
        # Twice as many cells as for a query: a cell's are those near its centre, not its border.
        near = np.argsort(to_cells, axis=1, kind="stable")[:, : 2 * self.cells_for(count)]
        ranked = np.empty((len(self.centroids), count), np.int32)
        for cell, (first, last) in enumerate(pairwise(starts)):
            some = [np.arange(starts[one], starts[one + 1]) for one in near[cell].tolist()]
            others = np.sort(np.concatenate(some))
            distances = halves[others] - self.centroids[first:last] @ self.centroids[others].T
            own = np.arange(last - first)
            distances[own, np.searchsorted(others, first) + own] = -np.inf
            nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
            close = np.take_along_axis(distances, nearest, axis=1)
            order = np.argsort(close, axis=1, kind="stable")
            ranked[first:last] = others[np.take_along_axis(nearest, order, axis=1)]
        return ranked

    def ranking(self, projection: Projection) -> Ranking:
        """What `rank_centroids` ranks centroids by."""
        from simdist.hashing.ranking_loops import Ranking

        groups = self._groups
        return Ranking(
            projection.packed,
            projection.scales,
            groups.centroids,
            groups.halves,
            groups.centres,
            groups.centre_halves,
            groups.starts,
            *self._rounded,
        )

    @cached_property
    def _groups(self) -> Groups:
        from simdist.hashing.cell_loops import Groups

        return Groups(
            centroids=self.centroids,
            halves=half_norms(self.centroids),
            centres=self.centres,
            centre_halves=half_norms(self.centres),
            starts=self.starts,
        )

    @cached_property
    def _rounded(self) -> tuple[NDArray[Any], ...]:
        from simdist.hashing.ranking_loops import round_centroids

        return round_centroids(self.centroids, self.starts)

    def cells_for(self, count: int) -> int:
        """How many cells hold several times `count` centroids on average, and `count` surely."""
        average = len(self.centroids) / len(self.centres)
        wanted = int(count * _CANDIDATES_EACH / average) + 1
        share = min(len(self.centres) // _RANKED_SHARE, _RANKED_ENOUGH)
        return max(_RANKED_CELLS, share, wanted, bisect_left(self._least, count) + 1)


def nearest_centroids(points: Vectors, centroids: Vectors) -> Indices:
    """(n, c) and (K, c) -> (n,) the nearest of all centroids."""
    halves = half_norms(centroids)
    nearest = np.empty(len(points), np.intp)
    for start in range(0, len(points), _FLAT_BLOCK):
        block = slice(start, start + _FLAT_BLOCK)
        closeness = points[block] @ centroids.T
        closeness -= halves
        nearest[block] = closeness.argmax(axis=1)
    return nearest


def half_norms(centroids: Vectors) -> Vectors:
    """(K, c) -> (K,), such that |c|^2 / 2 - p c is least for the centroid c nearest to p."""
    halves: Vectors = np.float32(0.5) * np.einsum("kc,kc->k", centroids, centroids)
    return halves
