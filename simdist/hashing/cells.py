"""The search for the nearest of many centroids, through cells that hold them in groups.

As the inverted file of H. Jegou, M. Douze, C. Schmid, 'Product quantization for nearest neighbor
search', TPAMI 33 (2011), but over centroids: a point is compared with the cells' centres, then
with the centroids of the nearest few cells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors
from simdist.hashing.projection import Projection

Indices = NDArray[np.intp]

# A point is compared with the centroids of the nearest cells: at most so many, and only of those
# whose squared distance is at most so many times that of the nearest. 99 % of real embeddings
# then find the nearest of all centroids, in 2.8 cells on average; with 8 it would be 99.4 % in 3.3.
NEAR_CELLS = 5
_FARTHEST = np.float32(1.4)
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
        self._near = min(NEAR_CELLS, len(centres))
        # How many centroids so many cells have at the least, whichever cells they are.
        self._least = np.cumsum(np.sort(np.diff(starts))).tolist()

    def nearest(self, points: Vectors) -> Indices:
        """(n, c) -> (n,) the nearest centroid in the near cells."""
        if len(self.centres) == 1:
            return nearest_centroids(points, self.centroids)
        nearest = np.empty(len(points), np.intp)
        for start in range(0, len(points), _CELLS_BLOCK):
            block = np.ascontiguousarray(points[start : start + _CELLS_BLOCK])
            nearest[start : start + _CELLS_BLOCK] = _compiled_nearest()(
                *(block, self.centres, self._centre_halves, self.centroids, self._halves),
                *(self.starts, self._near),
            )
        return nearest

    def ranked(
        self,
        values: NDArray[np.int8],
        inverse_length: np.float32,
        projection: Projection,
        count: int,
    ) -> NDArray[np.uint32]:
        """(count,) centroids: what `nearest` says of a vector, then the others by distance.

        They are ranked among several times as many, those of the nearest cells; all of them if
        `count` is their number.

        Args:
            values, inverse_length: the vector, as `rounded`.
            projection: by which it becomes a point.
        """
        ranked: NDArray[np.uint32] = _compiled_ranking()(
            *(values, inverse_length, projection.columns, projection.scales),
            *(self.centres, self._centre_halves, self.centroids, self._halves, self.starts),
            *(self._near, self._cells_for(count), count),
        )
        return ranked

    def _cells_for(self, count: int) -> int:
        """How many cells hold several times `count` centroids on average, and `count` surely."""
        average = len(self.centroids) / len(self.centres)
        wanted = int(count * _CANDIDATES_EACH / average) + 1
        return max(_RANKED_CELLS, wanted, bisect_left(self._least, count) + 1)


@cache
def _compiled_nearest() -> Callable[..., Indices]:
    """`Cells.nearest`, compiled: all points near a cell are compared with its centroids at once."""
    import numba

    near_cells = _compiled_near_cells()

    @numba.njit(nogil=True, cache=True)
    def nearest(  # noqa: PLR0917
        points: Any,
        centres: Any,
        centre_halves: Any,
        centroids: Any,
        halves: Any,
        starts: Any,
        most: int,
    ) -> Any:
        count, cells = points.shape[0], centres.shape[0]
        near, found = np.empty((count, most), np.int32), np.empty(count, np.int32)
        sizes = np.zeros(cells, np.int64)
        distances = np.dot(points, centres.T)
        for point in range(count):
            row = distances[point]
            for cell in range(cells):
                row[cell] = centre_halves[cell] - row[cell]
            found[point] = near_cells(points[point], row, near[point])
            for cell in near[point, : found[point]]:
                sizes[cell] += 1
        # The points of a cell side by side.
        ends = np.cumsum(sizes)
        free = ends - sizes
        members = np.empty(ends[-1], np.int64)
        for point in range(count):
            for cell in near[point, : found[point]]:
                members[free[cell]] = point
                free[cell] += 1
        best, distance = np.zeros(count, np.int64), np.full(count, np.float32(np.inf))
        gathered = np.empty((sizes.max(), points.shape[1]), np.float32)
        for cell in range(cells):
            here = members[ends[cell] - sizes[cell] : ends[cell]]
            if not len(here):
                continue
            for i in range(len(here)):
                gathered[i] = points[here[i]]
            first, last = starts[cell], starts[cell + 1]
            close = np.dot(gathered[: len(here)], centroids[first:last].T)
            for i in range(len(here)):
                nearest_yet, winner, row = distance[here[i]], best[here[i]], close[i]
                for j in range(last - first):
                    far = halves[first + j] - row[j]
                    if far < nearest_yet:
                        nearest_yet, winner = far, first + j
                distance[here[i]], best[here[i]] = nearest_yet, winner
        return best

    compiled: Callable[..., Indices] = nearest
    return compiled


@cache
def _compiled_near_cells() -> Callable[..., int]:
    """(point, distances of the cells' centres, near): fill `near` with those to look into.

    The nearest comes first; returns how many. A distance is half the squared one less half the
    point's squared length.
    """
    import numba

    fast = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "nnan"})

    @fast
    def half_square(point: Any) -> Any:
        total = np.float32(0)
        for i in range(len(point)):
            total += point[i] * point[i]
        return np.float32(0.5) * total

    @fast
    def least(distances: Any) -> Any:
        smallest = distances[0]
        for i in range(len(distances)):
            smallest = min(smallest, distances[i])
        return smallest

    @numba.njit(nogil=True, cache=True)
    def near_cells(point: Any, distances: Any, near: Any) -> int:
        half = half_square(point)
        limit = _FARTHEST * (least(distances) + half) - half
        found = 0
        for cell in range(len(distances)):
            far = distances[cell]
            if far > limit or (found == len(near) and far >= distances[near[found - 1]]):
                continue
            found = min(found + 1, len(near))
            place = found - 1
            while place > 0 and distances[near[place - 1]] > far:
                near[place] = near[place - 1]
                place -= 1
            near[place] = cell
        return found

    compiled: Callable[..., int] = near_cells
    return compiled


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
    def products(values: Any, columns: Any, point: Any) -> None:
        # Four rows at a time: the sums are loaded and stored a quarter as often. They are whole
        # numbers, and exact up to 2^24.
        rows = columns.shape[0] // 4 * 4
        for i in range(0, rows, 4):
            four = values[i : i + 4]
            for j in range(columns.shape[1]):
                point[j] += (four[0] * columns[i, j] + four[1] * columns[i + 1, j]) + (
                    four[2] * columns[i + 2, j] + four[3] * columns[i + 3, j]
                )
        for i in range(rows, columns.shape[0]):
            for j in range(columns.shape[1]):
                point[j] += values[i] * columns[i, j]

    near_cells = _compiled_near_cells()

    @numba.njit(nogil=True, cache=True)
    def ranked(  # noqa: PLR0917
        values: Any,
        inverse_length: Any,
        columns: Any,
        scales: Any,
        centres: Any,
        centre_halves: Any,
        centroids: Any,
        halves: Any,
        starts: Any,
        most: int,
        wanted: int,
        count: int,
    ) -> Any:
        point = np.zeros(columns.shape[1], np.float32)
        products(values.astype(np.float32), columns, point)
        # In this order, as they are when it is stored.
        for j in range(len(point)):
            point[j] = (point[j] * scales[j]) * inverse_length
        to_cells = np.empty(len(centres), np.float32)
        distances(point, centres, centre_halves, 0, to_cells)
        cells = np.argsort(to_cells)[:wanted]
        near = near_cells(point, to_cells, np.empty(most, np.int32))
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
