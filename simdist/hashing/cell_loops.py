"""The compiled loops of `Cells`. They hold no lock, and are kept on disk once compiled.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled
from simdist.vectors.loops import round_rows

Floats = NDArray[np.float32]

# A point is compared with the centroids of the nearest cells: at most so many, and only of those
# whose squared distance is at most so many times that of the nearest. 99 % of real embeddings
# then find the nearest of all centroids, in 2.8 cells on average; with 8 it would be 99.4 % in 3.3.
_NEAR_CELLS = 5
_FARTHEST = np.float32(1.4)
# So many times fewer than all are few.
_FEW = 4
# Rows of a matrix that are gone through at once.
_ROWS = 16

# Sums in any order, as vector instructions need it.
_SUMS = {"reassoc", "contract", "nsz"}
_MINIMA = _SUMS | {"nnan"}


class Groups(NamedTuple):
    """Centroids in cells: what `Cells` has of them, and half of their squared lengths."""

    centroids: Floats
    halves: Floats
    centres: Floats
    centre_halves: Floats
    starts: NDArray[np.int64]


@compiled(fastmath=_MINIMA)
def _half_square(point: Floats) -> np.float32:
    total = np.float32(0)
    for i in range(len(point)):
        total += point[i] * point[i]
    return np.float32(0.5) * total


@compiled(fastmath=_MINIMA)
def _smallest(distances: Floats) -> np.float32:
    smallest: np.float32 = distances[0]
    for i in range(len(distances)):
        smallest = min(smallest, distances[i])
    return smallest


@compiled()
def _near_cells(point: Floats, distances: Floats, near: NDArray[np.int32]) -> int:
    """Fill `near` with the cells to look into, the nearest first; returns how many.

    A distance is half the squared one less half the point's squared length.
    """
    half = _half_square(point)
    limit = _FARTHEST * (_smallest(distances) + half) - half
    found = 0
    for cell in range(len(distances)):
        far = distances[cell]
        if far > limit or (found == len(near) and far >= distances[near[found - 1]]):
            continue
        found = min(found + 1, len(near))
        slot = found - 1
        while slot > 0 and distances[near[slot - 1]] > far:
            near[slot] = near[slot - 1]
            slot -= 1
        near[slot] = cell
    return found


@compiled()
def nearest_in_cells(points: Floats, groups: Groups) -> NDArray[np.int64]:
    """`Cells.nearest`: all points near a cell are compared with its centroids at once."""
    count, cells = points.shape[0], groups.centres.shape[0]
    near = np.empty((count, min(_NEAR_CELLS, cells)), np.int32)
    found, sizes = np.empty(count, np.int32), np.zeros(cells, np.int64)
    distances = np.dot(points, groups.centres.T)
    for point in range(count):
        row = distances[point]
        for cell in range(cells):
            row[cell] = groups.centre_halves[cell] - row[cell]
        found[point] = _near_cells(points[point], row, near[point])
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
        # Number by number: to compile what an assignment of rows may raise takes seconds.
        for i in range(len(here)):
            for j in range(points.shape[1]):
                gathered[i, j] = points[here[i], j]
        first, last = groups.starts[cell], groups.starts[cell + 1]
        close = np.dot(gathered[: len(here)], groups.centroids[first:last].T)
        for i in range(len(here)):
            nearest_yet, winner, row = distance[here[i]], best[here[i]], close[i]
            for j in range(last - first):
                far = groups.halves[first + j] - row[j]
                if far < nearest_yet:
                    nearest_yet, winner = far, first + j
            distance[here[i]], best[here[i]] = nearest_yet, winner
    return best


@compiled(fastmath=_SUMS)
def _distances(point: Floats, centres: Floats, halves: Floats, first: int, out: Floats) -> None:
    for i in range(out.shape[0]):
        total = np.float32(0)
        for j in range(point.shape[0]):
            total += point[j] * centres[first + i, j]
        out[i] = halves[first + i] - total


@compiled(fastmath=_SUMS)
def _products(values: Floats, columns: Floats, point: Floats) -> None:
    """The point to which a vector is projected: its products with columns side by side."""
    # Some rows at a time: the sums are loaded and stored less often. They are whole numbers, and
    # exact up to 2^24.
    rows = columns.shape[0] // _ROWS * _ROWS
    point[:] = 0
    for i in range(0, rows, _ROWS):
        for j in range(columns.shape[1]):
            total = np.float32(0)
            for k in range(_ROWS):
                total += values[i + k] * columns[i + k, j]
            point[j] += total
    for i in range(rows, columns.shape[0]):
        for j in range(columns.shape[1]):
            point[j] += values[i] * columns[i, j]


class Ranking(NamedTuple):
    """By what centroids are ranked.

    Attributes:
        columns, scales: of the projection.
        groups: the centroids.
        cells: how many cells are looked into.
    """

    columns: Floats
    scales: Floats
    groups: Groups
    cells: int


@compiled()
def rank_in_cells(vectors: Floats, ranking: Ranking, best: NDArray[np.uint32]) -> None:
    """`Cells.ranked`: for each query, NumPy's calls would cost more than its arithmetic.

    Args:
        vectors: (n, d).
        best: (n, count), filled in.
    """
    groups, width = ranking.groups, ranking.columns.shape[1]
    values = np.empty(vectors.shape, np.int8)
    inverse_lengths = np.empty(len(vectors), np.float32)
    round_rows(vectors, values, inverse_lengths)
    whole, point = np.empty(vectors.shape[1], np.float32), np.empty(width, np.float32)
    to_cells = np.empty(len(groups.centre_halves), np.float32)
    near = np.empty(min(_NEAR_CELLS, len(to_cells)), np.int32)
    for query in range(len(vectors)):
        for i in range(len(whole)):
            whole[i] = values[query, i]
        _products(whole, ranking.columns, point)
        # In this order, as they are when it is stored.
        for j in range(width):
            point[j] = (point[j] * ranking.scales[j]) * inverse_lengths[query]
        _distances(point, groups.centres, groups.centre_halves, 0, to_cells)
        home_cells = _near_cells(point, to_cells, near)
        _rank_centroids(point, groups, to_cells, home_cells, ranking.cells, best[query])


@compiled()
def _rank_centroids(  # noqa: PLR0917
    point: Floats,
    groups: Groups,
    to_cells: Floats,
    home_cells: int,
    wanted: int,
    best: NDArray[np.uint32],
) -> None:
    """Rank the centroids of so many cells, of which the first few may have the point's own."""
    cells, starts = np.empty(min(wanted, len(to_cells)), np.uint32), groups.starts
    _least(to_cells, cells)
    size = 0
    for cell in cells:
        size += starts[cell + 1] - starts[cell]
    members, far = np.empty(size, np.uint32), np.empty(size, np.float32)
    at = home = 0
    for slot, cell in enumerate(cells):
        first, end = starts[cell], starts[cell + 1]
        _distances(point, groups.centroids, groups.halves, first, far[at : at + end - first])
        for member in range(first, end):
            members[at] = member
            # A centroid of a later cell can be nearer still, but a point is stored here.
            if slot < home_cells and far[at] < far[home]:
                home = at
            at += 1
    far[home] = -np.inf
    _least(far, best)
    for i in range(len(best)):
        best[i] = members[best[i]]


@compiled()
def _least(values: Floats, least: NDArray[np.uint32]) -> None:
    """Fill `least` with where the least values are, from the least up."""
    count = len(least)
    if count * _FEW > len(values):
        order = np.argsort(values)
        for i in range(count):
            least[i] = order[i]
        return
    # Of few among many the best are found without sorting the rest. What is no number is none.
    least[:] = 0
    kept = np.full(count, np.float32(np.inf))
    for i in range(len(values)):
        if values[i] < kept[count - 1]:
            slot = count - 1
            while slot > 0 and kept[slot - 1] > values[i]:
                kept[slot] = kept[slot - 1]
                least[slot] = least[slot - 1]
                slot -= 1
            kept[slot] = values[i]
            least[slot] = i
