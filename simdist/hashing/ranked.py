"""What a query worker has of centroids in cells: bytes, a quarter of what `Cells` takes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.cells import cells_for, half_norms
from simdist.hashing.family import Vectors
from simdist.hashing.projection import Projection

if TYPE_CHECKING:
    from simdist.hashing.ranking_loops import Ranking

# Centroids that are floats at once.
_BLOCK = 4096


class RankedCells:
    """Centroids in cells, prepared to be ranked for one query after another."""

    def __init__(
        self,
        centroids: NDArray[np.int8],
        centres: Vectors,
        starts: NDArray[np.int64],
        projection: Projection,
    ) -> None:
        """Nothing is computed yet.

        Args:
            centroids: (K, c), each for the point of length 1 in its direction.
            centres, starts: as `Cells` has them.
            projection: by which vectors become points.
        """
        self._centroids, self._centres, self._starts = centroids, centres, starts
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
        from simdist.hashing.ranking_loops import Ranking, pack_cells

        centroids, steps = self._centroids, inverse_lengths_of(self._centroids)
        # To the bit as `Cells` has them, for a vector that all centroids are as far from.
        blocks = [slice(at, at + _BLOCK) for at in range(0, len(steps), _BLOCK)]
        halves = [half_norms(centroids[block] * steps[block, None]) for block in blocks]
        return Ranking(
            self._projection.packed,
            self._projection.scales,
            centroids,
            steps,
            np.concatenate(halves),
            self._centres,
            half_norms(self._centres),
            self._starts,
            *pack_cells(centroids, self._starts),
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
