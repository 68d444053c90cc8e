"""The compiled loops that rank centroids for a query. They hold no lock, and are kept on disk.

NumPy's calls would cost more than a query's arithmetic. This module imports numba, which is heavy:
import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.cell_loops import NEAR_CELLS, distances_to, half_square, near_cells
from simdist.vectors.compiled import compiled
from simdist.vectors.headers import cube_at, matrix_at, vector_at
from simdist.vectors.packing import LANES
from simdist.vectors.products import dot_columns, padded_width, round_query

Floats = NDArray[np.float32]

# So many times fewer than all are few.
_FEW = 4
# More than these are not kept sorted while others are compared with them.
_SORTED = 64
# What sums of floats may be wrong by, for each that is added, as a share of the greatest.
_UNSURE = np.float32(1e-5)


class Ranking(NamedTuple):
    """By what centroids are ranked.

    Attributes:
        axes, scales: of the projection, (c, d) int8 as `pack_columns` has them, and (c,).
        packed: the centroids, as `ranked.pack_cells` has them.
        groups: (C,) int64, the first group of each cell's.
        steps: (K,) by what the centroids' bytes are to be multiplied.
        halves: (K,), as `cell_loops.Groups` has them.
        centres, centre_halves: (C, c) and (C,), of their cells.
        starts: (C + 1,) int64, the first centroid of each cell.
    """

    axes: NDArray[np.int8]
    scales: Floats
    packed: NDArray[np.int8]
    groups: NDArray[np.int64]
    steps: Floats
    halves: Floats
    centres: Floats
    centre_halves: Floats
    starts: NDArray[np.int64]


@compiled()
def ranking_at(headers: NDArray[np.int64], first: int) -> Ranking:
    """A ranking whose arrays have these headers from the first on."""
    return Ranking(
        cube_at(headers, first, np.int8),
        vector_at(headers, first + 1, np.float32),
        cube_at(headers, first + 2, np.int8),
        vector_at(headers, first + 3, np.int64),
        vector_at(headers, first + 4, np.float32),
        vector_at(headers, first + 5, np.float32),
        matrix_at(headers, first + 6, np.float32),
        vector_at(headers, first + 7, np.float32),
        vector_at(headers, first + 8, np.int64),
    )


@compiled()
def rank_many(
    vectors: Floats, headers: NDArray[np.int64], cells: int, best: NDArray[np.int64]
) -> None:
    """`rank_centroids` for each of (n, d) vectors, of any length but zero."""
    ranking = ranking_at(headers, 0)
    whole = np.empty(padded_width(vectors.shape[1]), np.int16)
    for i in range(len(vectors)):
        _, _, inverse_length = round_query(vectors[i], whole)
        rank_centroids(whole, inverse_length, ranking, cells, best[i])


@compiled()
def rank_centroids(
    whole: NDArray[np.int16],
    inverse_length: np.float32,
    ranking: Ranking,
    cells: int,
    best: NDArray[np.int64],
) -> None:
    """`RankedCells.ranked` for one query.

    Args:
        whole: the query, and the inverse of its length, as `round_query` has them.
        cells: how many are looked into, those of the nearest centres.
        best: (count,) filled in.
    """
    width = len(ranking.scales)
    products = np.empty(len(ranking.axes) * LANES, np.int32)
    dot_columns(whole, ranking.axes, 0, products)
    point, whole_point = np.empty(width, np.float32), np.empty(padded_width(width), np.int16)
    # In this order, as they are when it is stored.
    for j in range(width):
        point[j] = (np.float32(products[j]) * ranking.scales[j]) * inverse_length
    to_cells = np.empty(len(ranking.centres), np.float32)
    distances_to(point, ranking.centres, ranking.centre_halves, to_cells)
    near = np.empty(min(NEAR_CELLS, len(to_cells)), np.int32)
    homes = near_cells(point, to_cells, near)
    nearest = np.empty(min(cells, len(to_cells)), np.int64)
    _least(to_cells, nearest)

    step, lost, _ = round_query(point, whole_point)
    members, far = _distances(whole_point, step, ranking, nearest)
    # A centroid's length is 1.
    margin = lost + _UNSURE * np.sqrt(np.float32(2) * half_square(point))
    far[_home(point, nearest[:homes], far, ranking, margin)] = -np.inf
    _least(far, best)
    for i in range(len(best)):
        best[i] = members[best[i]]


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _distances(
    whole: NDArray[np.int16], step: np.float32, ranking: Ranking, cells: NDArray[np.int64]
) -> Any:
    """Of these cells the centroids, and nearly the distances to them."""
    starts, size = ranking.starts, 0
    for cell in cells:
        size += starts[cell + 1] - starts[cell]
    members, far = np.empty(size, np.int64), np.empty(size, np.float32)
    products = np.empty(size + LANES, np.int32)
    at = 0
    for cell in cells:
        first, count = starts[cell], starts[cell + 1] - starts[cell]
        groups = (count + LANES - 1) // LANES
        dot_columns(whole, ranking.packed, ranking.groups[cell], products[: groups * LANES])
        for i in range(count):
            product = step * ranking.steps[first + i] * np.float32(products[i])
            far[at + i] = ranking.halves[first + i] - product
            members[at + i] = first + i
        at += count
    return members, far


@compiled()
def _home(
    point: Floats,
    cells: NDArray[np.int64],
    far: Floats,
    ranking: Ranking,
    margin: np.float32,
) -> int:
    """Which centroid of the first few cells has a point of its own, as it is stored.

    Args:
        far: those of the cells' centroids, and others; a distance is wrong by `margin` at the most.
    """
    count = 0
    for cell in cells:
        count += ranking.starts[cell + 1] - ranking.starts[cell]
    limit = far[:count].min() + np.float32(2) * margin
    home, least, at = 0, np.float32(np.inf), 0
    for cell in cells:
        for i in range(ranking.starts[cell + 1] - ranking.starts[cell]):
            if far[at] <= limit:
                exact = _distance(point, ranking, cell, i)
                if exact < least:
                    home, least = at, exact
            at += 1
    return home


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _distance(point: Floats, ranking: Ranking, cell: int, member: int) -> np.float32:
    """As `cell_loops.distances_to` has it, to a centroid of a cell."""
    group, lane = ranking.groups[cell] + member // LANES, 2 * (member % LANES)
    centroid = np.empty(len(point) + 1, np.int8)
    for j in range(0, len(point), 2):
        centroid[j] = ranking.packed[group, j // 2, lane]
        centroid[j + 1] = ranking.packed[group, j // 2, lane + 1]
    first = ranking.starts[cell]
    step, total = ranking.steps[first + member], np.float32(0)
    for j in range(len(point)):
        total += point[j] * (np.float32(centroid[j]) * step)
    far: np.float32 = ranking.halves[first + member] - total
    return far


@compiled()
def _least(values: Floats, least: NDArray[np.int64]) -> None:
    """Fill `least` with where the least values are, from the least up."""
    count = len(least)
    if count * _FEW > len(values):
        order = np.argsort(values)
        for i in range(count):
            least[i] = order[i]
        return
    # Of few among many the best are found without sorting the rest. What is no number is none.
    least[:] = 0
    if count > _SORTED:
        limit, at = np.partition(values, count - 1)[count - 1], 0
        for i in range(len(values)):
            if values[i] < limit:
                least[at] = i
                at += 1
        for i in range(len(values)):
            if at < count and values[i] == limit:
                least[at] = i
                at += 1
        least[:] = least[np.argsort(values[least])]
        return
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
