"""The compiled loops of `Cells`. They hold no lock, and are kept on disk once compiled.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled

Floats = NDArray[np.float32]

# A point is compared with the centroids of the nearest cells: at most so many, and only of those
# whose squared distance is at most so many times that of the nearest. 99 % of real embeddings
# then find the nearest of all centroids, in 2.8 cells on average; with 8 it would be 99.4 % in 3.3.
NEAR_CELLS = 5
_FARTHEST = np.float32(1.4)

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
def half_square(point: Floats) -> np.float32:
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
def near_cells(point: Floats, distances: Floats, near: NDArray[np.int32]) -> int:
    """Fill `near` with the cells to look into, the nearest first; returns how many.

    A distance is half the squared one less half the point's squared length.
    """
    half = half_square(point)
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
    near = np.empty((count, min(NEAR_CELLS, cells)), np.int32)
    found, sizes = np.empty(count, np.int32), np.zeros(cells, np.int64)
    distances = np.dot(points, groups.centres.T)
    for point in range(count):
        row = distances[point]
        for cell in range(cells):
            row[cell] = groups.centre_halves[cell] - row[cell]
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
def distances_to(point: Floats, centres: Floats, halves: Floats, out: Floats) -> None:
    """Fill (n,) `out` with what `near_cells` takes for the distance of each of (n, c) centres."""
    for i in range(out.shape[0]):
        total = np.float32(0)
        for j in range(point.shape[0]):
            total += point[j] * centres[i, j]
        out[i] = halves[i] - total
