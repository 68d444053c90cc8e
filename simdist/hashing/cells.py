"""The search for the nearest of many centroids, through cells that hold them in groups.

As the inverted file of H. Jegou, M. Douze, C. Schmid, 'Product quantization for nearest neighbor
search', TPAMI 33 (2011), but over centroids: a point is compared with the cells' centres, then
with the centroids of the nearest few cells.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors

if TYPE_CHECKING:
    from simdist.hashing.cell_loops import Groups

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

    def around(self, count: int) -> NDArray[np.int32]:
        """(K, count) for each centroid itself, then others by distance, at most K in all.

        They are ranked among several times as many, those of the cells near its own.
        """
        halves, starts = half_norms(self.centroids), self.starts.tolist()
        to_cells = half_norms(self.centres) - self.centres @ self.centres.T
        # Twice as many cells as for a query: a cell's are those near its centre, not its border.
        cells = 2 * cells_for(count, self.starts)
        near = np.argsort(to_cells, axis=1, kind="stable")[:, :cells]
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


def cells_for(count: int, starts: NDArray[np.int64]) -> int:
    """How many cells hold several times `count` centroids on average, and `count` surely."""
    sizes = np.sort(np.diff(starts))
    wanted = int(count * _CANDIDATES_EACH * len(sizes) / starts[-1]) + 1
    share = min(len(sizes) // _RANKED_SHARE, _RANKED_ENOUGH)
    # Those with the fewest, for any may be near.
    surely = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    return max(_RANKED_CELLS, share, wanted, surely)


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
