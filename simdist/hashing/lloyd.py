"""The fitting of centroids: Lloyd's k-means, in two levels where they are many.

The two levels are those of D. Nister, H. Stewenius, 'Scalable recognition with a vocabulary tree',
CVPR 2006, but only the search goes through them: a vector's centroid may lie in any near cell.
"""

from __future__ import annotations

import math

import numpy as np

from simdist.hashing.cells import Cells, Indices, nearest_centroids
from simdist.hashing.family import Vectors

# Up to so many centroids lie in one cell: comparing a point with all of them is as quick.
FLAT = 512
# More of either were measured to find no more neighbours that would be worth their time.
ITERATIONS = 4
REFINEMENTS = 2
# Points that are enough to place a cell's centre.
_POINTS_A_CELL = 128


def fit_cells(points: Vectors, count: int, generator: np.random.Generator) -> Cells:
    """(n, c) float32 -> `count` centroids, at most n, in cells.

    In two levels the points are divided among some cells, each cell gets its share of the
    centroids, and Lloyd's iterations run within the cells. Some iterations over all points then
    smooth the borders between cells, and the centroids are grouped anew.

    In the end all centroids have length 1, as those of I. Dhillon, D. Modha, 'Concept
    decompositions for large sparse text data using clustering', Machine Learning 42 (2001): a
    point's nearest is then the one at the smallest angle. The mean of points that differ much is
    short, and by distance such a centroid would be far from everything.
    """
    if count <= FLAT:
        centroids = _directions(_lloyd(points, count, generator))
        return Cells(centroids, centroids[:1], np.array([0, count]))
    cells = round(math.sqrt(count))
    some = generator.choice(len(points), min(len(points), _POINTS_A_CELL * cells), replace=False)
    centres = _lloyd(points[some], cells, generator)
    order, sizes = _grouped(nearest_centroids(points, centres), cells)
    shares = _shares(sizes, count)
    parts = zip(np.split(points[order], np.cumsum(sizes)[:-1]), shares.tolist(), strict=True)
    centroids = np.concatenate([_lloyd(part, share, generator) for part, share in parts if share])
    found = _cells(centroids, centres, shares)
    for _ in range(REFINEMENTS):
        _recentre(centroids, points, found.nearest(points))
        found = _cells(centroids, centres, shares)
    centroids = _directions(centroids)
    centres = _lloyd(centroids, cells, generator)
    order, sizes = _grouped(nearest_centroids(centroids, centres), cells)
    return _cells(centroids[order], centres, sizes)


def _directions(centroids: Vectors) -> Vectors:
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    directions: Vectors = centroids / np.maximum(lengths, np.finfo(np.float32).tiny)
    return directions


def _cells(centroids: Vectors, centres: Vectors, sizes: Indices) -> Cells:
    filled = sizes > 0
    return Cells(centroids, centres[filled], np.concatenate([[0], np.cumsum(sizes[filled])]))


def _grouped(labels: Indices, count: int) -> tuple[Indices, Indices]:
    """(n,) labels below `count` -> (n,) the order that sorts them, (count,) how many of each."""
    return np.argsort(labels, kind="stable"), np.bincount(labels, minlength=count)


def _shares(sizes: Indices, count: int) -> Indices:
    """`count` divided in proportion to the sizes, none of which is exceeded if their sum is not."""
    ends = np.cumsum(sizes)
    shares: Indices = np.diff(ends * count // ends[-1], prepend=0)
    return shares


def _lloyd(points: Vectors, count: int, generator: np.random.Generator) -> Vectors:
    centroids = points[generator.choice(len(points), count, replace=False)]
    for _ in range(ITERATIONS):
        _recentre(centroids, points, nearest_centroids(points, centroids))
    return centroids


def _recentre(centroids: Vectors, points: Vectors, nearest: Indices) -> None:
    """Move centroids to the means of their points; those without any, to the worst-served."""
    order, sizes = _grouped(nearest, len(centroids))
    filled, empty = np.flatnonzero(sizes), np.flatnonzero(sizes == 0)
    if len(empty):
        worst = np.square(points - centroids[nearest]).sum(axis=1)
        centroids[empty] = points[np.argsort(-worst, kind="stable")[: len(empty)]]
    # Points in the order of their centroids: a sum of rows side by side is quick.
    starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
    sums = np.add.reduceat(points[order], starts, axis=0)
    centroids[filled] = sums / sizes[filled, None]
