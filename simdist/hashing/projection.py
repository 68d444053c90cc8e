"""Products of vectors with axes, in integers: the same on every machine, and fast.

Half of what hashing a vector costs would be this product in floats; where a processor multiplies
bytes it takes a third of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors
from simdist.vectors.packing import pack_columns

if TYPE_CHECKING:
    from numkong import PackedMatrix


def rounded(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(n, d) float32 -> int8 values such that the greatest of a row is 127, (n,) 1 / lengths.

    What was rounded before, whatever its length is by now, comes to the same values.
    """
    from simdist.vectors.loops import round_rows

    values, inverse_lengths = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    round_rows(np.ascontiguousarray(vectors), values, inverse_lengths)
    return values, inverse_lengths


def rounded_centroids(points: Vectors) -> NDArray[np.int8]:
    """(n, c) float32 -> (n, c) int8, as `rounded`; zeros for what has no length."""
    values, there = np.zeros(points.shape, np.int8), points.any(axis=1)
    values[there] = rounded(points[there])[0]
    return values


@dataclass(frozen=True)
class Projection:
    """Axes to project vectors on.

    Attributes:
        axes: (c, d) int8.
        scales: (c,) float32, 1 / their lengths.
    """

    axes: NDArray[np.int8]
    scales: NDArray[np.float32]

    def points(
        self, values: NDArray[np.int8], inverse_lengths: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Vectors, as `rounded`, (n, d) and (n,) -> (n, c) float32."""
        from numkong import dots_packed

        points = np.asarray(dots_packed(values, self._tiles)).astype(np.float32)
        points *= self.scales
        points *= inverse_lengths[:, None]
        return points

    @cached_property
    def packed(self) -> NDArray[np.int8]:
        """The axes side by side, for one vector: as `pack_columns` has them."""
        return pack_columns(self.axes)

    @cached_property
    def _tiles(self) -> PackedMatrix:
        from numkong import dots_pack

        return dots_pack(self.axes, "int8")
