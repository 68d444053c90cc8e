"""The search for the nearest of many centroids, through cells that hold them in groups.

As the inverted file of H. Jegou, M. Douze, C. Schmid, 'Product quantization for nearest neighbor
search', TPAMI 33 (2011), but over centroids: a point is compared with the cells' centres, then
with the centroids of the nearest few cells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors

Indices = NDArray[np.intp]

# A point is compared with the centroids of at least so many cells.
NEAR_CELLS = 6
# The first centroids are ranked among those of at least so many cells, and among at least so many
# times as many, if there are: among fewer, more probes would hardly find more.
_RANKED_CELLS = 10
_CANDIDATES_EACH = 12
# So many times fewer than all are few.
_FEW = 4
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
        self._halves, self._centre_halves = half_norms(centroids), half_norms(centres)
        bounds = starts.tolist()
        self._slices = [slice(*pair) for pair in pairwise(bounds)]
        self._near = min(NEAR_CELLS, len(centres))
        # How many centroids so many cells have at the least, whichever cells they are.
        self._least = np.cumsum(np.sort(np.diff(starts))).tolist()

    def nearest(self, points: Vectors) -> Indices:
        """(n, c) -> (n,) the nearest centroid in the near cells."""
        if len(self.centres) == 1:
            return nearest_centroids(points, self.centroids)
        nearest = np.empty(len(points), np.intp)
        for start in range(0, len(points), _CELLS_BLOCK):
            block = slice(start, start + _CELLS_BLOCK)
            nearest[block] = self._nearest(points[block])
        return nearest

    def ranked(self, vector: Vectors, basis: Vectors, count: int) -> NDArray[np.uint32]:
        """(d,) -> (count,) centroids: what `nearest` says of it, then the others by distance.

        They are ranked among several times as many, those of the nearest cells; all of them if
        `count` is their number.

        Args:
            basis: (d, c) float32, by which the vector becomes a point.
        """
        ranked: NDArray[np.uint32] = _compiled_ranking()(
            *(vector, basis, self.centres, self._centre_halves, self.centroids, self._halves),
            *(self.starts, self._near, self._cells_for(count), count),
        )
        return ranked

    def _cells_for(self, count: int) -> int:
        """How many cells hold several times `count` centroids on average, and `count` surely."""
        average = len(self.centroids) / len(self.centres)
        wanted = int(count * _CANDIDATES_EACH / average) + 1
        return max(_RANKED_CELLS, wanted, bisect_left(self._least, count) + 1)

    def _nearest(self, points: Vectors) -> Indices:
        distances = self._centre_halves - points @ self.centres.T
        cells = np.argpartition(distances, self._near - 1, axis=1)[:, : self._near].ravel()
        # Pairs of a point and a cell, in the order of the cells: one product a cell.
        order = np.argsort(cells.astype(np.uint16), kind="stable")
        ends = np.cumsum(np.bincount(cells, minlength=len(self.centres))).tolist()
        winners = np.empty(len(cells), np.intp)
        closeness = np.empty(len(cells), np.float32)
        for start, end, fine in zip([0, *ends], ends, self._slices, strict=False):
            pairs = order[start:end]
            close = points[pairs // self._near] @ self.centroids[fine].T
            close -= self._halves[fine]
            best = close.argmax(axis=1)
            winners[pairs] = best + fine.start
            closeness[pairs] = close[np.arange(len(best)), best]
        firsts = np.arange(0, len(cells), self._near)
        nearest: Indices = winners[firsts + closeness.reshape(-1, self._near).argmax(axis=1)]
        return nearest


@cache
def _compiled_ranking() -> Callable[..., NDArray[np.uint32]]:
    """`Cells.ranked`, compiled: for one query, NumPy's calls cost more than its arithmetic."""
    import numba

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
    def distances(point: Any, centres: Any, halves: Any, first: int, out: Any) -> None:
        for i in range(out.shape[0]):
            total = np.float32(0)
            for j in range(point.shape[0]):
                total += point[j] * centres[first + i, j]
            out[i] = halves[first + i] - total

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
    def project(vector: Any, basis: Any, point: Any) -> None:
        # Four rows at a time: the sums are loaded and stored a quarter as often.
        rows = basis.shape[0] // 4 * 4
        for i in range(0, rows, 4):
            four = vector[i : i + 4]
            for j in range(basis.shape[1]):
                point[j] += (four[0] * basis[i, j] + four[1] * basis[i + 1, j]) + (
                    four[2] * basis[i + 2, j] + four[3] * basis[i + 3, j]
                )
        for i in range(rows, basis.shape[0]):
            for j in range(basis.shape[1]):
                point[j] += vector[i] * basis[i, j]

    @numba.njit(nogil=True, cache=True)
    def ranked(  # noqa: PLR0917
        vector: Any,
        basis: Any,
        centres: Any,
        centre_halves: Any,
        centroids: Any,
        halves: Any,
        starts: Any,
        near: int,
        wanted: int,
        count: int,
    ) -> Any:
        point = np.zeros(basis.shape[1], np.float32)
        project(vector, basis, point)
        to_cells = np.empty(len(centres), np.float32)
        distances(point, centres, centre_halves, 0, to_cells)
        cells = np.argsort(to_cells)[:wanted]
        size = 0
        for cell in cells:
            size += starts[cell + 1] - starts[cell]
        members, far = np.empty(size, np.uint32), np.empty(size, np.float32)
        at = home = 0
        for place, cell in enumerate(cells):
            first, end = starts[cell], starts[cell + 1]
            distances(point, centroids, halves, first, far[at : at + end - first])
            for member in range(first, end):
                members[at] = member
                # A centroid of a later cell can be nearer still, but a point is stored here.
                if place < near and far[at] < far[home]:
                    home = at
                at += 1
        far[home] = -np.inf
        if count * _FEW > size:
            return members[np.argsort(far)[:count]]
        # Of few among many the best are found without sorting the rest.
        best, distance = np.empty(count, np.uint32), np.full(count, np.float32(np.inf))
        for i in range(size):
            if far[i] < distance[count - 1]:
                place = count - 1
                while place > 0 and distance[place - 1] > far[i]:
                    distance[place] = distance[place - 1]
                    best[place] = best[place - 1]
                    place -= 1
                distance[place] = far[i]
                best[place] = members[i]
        return best

    compiled: Callable[..., NDArray[np.uint32]] = ranked
    return compiled


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
