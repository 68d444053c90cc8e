"""The k-means hash family: the bucket is the nearest of K learned centroids.

L. Pauleve, H. Jegou, L. Amsaleg, 'Locality sensitive hashing: a comparison of hash function types
and querying mechanisms', Pattern Recognition Letters 31 (2010).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.cells import Cells
from simdist.hashing.components import principal_components
from simdist.hashing.family import Buckets, Vectors
from simdist.hashing.lloyd import fit_cells
from simdist.hashing.projection import Projection, rounded, rounded_centroids
from simdist.hashing.ranked import RankedCells, inverse_lengths_of, pack_cells, unpack_cells

if TYPE_CHECKING:
    from simdist.hashing.ranking_loops import Ranking

VECTORS_A_CENTROID = 8
# They take 25 MB in Redis, and 50 in a worker. A partition of 17 million images has as many.
MAX_CENTROIDS = 1 << 18
_MILLION = 1_000_000


def centroids_for(images: int) -> int:
    """How many centroids suit a collection: 32 times the root of its size, if that leaves enough.

    From a million images on, where rows cost more than ranking centroids does, their number rises
    faster: four times as many for six times the images. The more centroids, the fewer rows hold the
    same neighbours; docs/families.md has the figures.
    """
    wanted = 32 * math.sqrt(images) * math.sqrt(math.sqrt(max(1.0, images / _MILLION)))
    return max(1, min(images // VECTORS_A_CENTROID, round(wanted), MAX_CENTROIDS))


@dataclass(frozen=True)
class KMeansFamily:
    """Centroids in the space of the leading principal components; one table.

    Attributes:
        axes: (c, d) int8, the principal components, stretched and rounded. Nothing is taken off
            before: distances are the same.
        scales: (c,) float32, 1 / the axes' lengths.
        packed: (groups, pairs, 32) int8, the K centroids, as `ranked.pack_cells` has them. A
            worker has them once: they are a share of all that it keeps.
        cells: (C, c) float32, the centres of the cells through which centroids are found.
        starts: (C + 1,) int64: cell i has the centroids from starts[i] up to starts[i + 1].
    """

    axes: NDArray[np.int8]
    scales: NDArray[np.float32]
    packed: NDArray[np.int8]
    cells: NDArray[np.float32]
    starts: NDArray[np.int64]

    kind: ClassVar[str] = "kmeans"
    tables: ClassVar[int] = 1

    @classmethod
    def of(
        cls,
        axes: NDArray[np.int8],
        scales: NDArray[np.float32],
        centroids: NDArray[np.int8],
        cells: NDArray[np.float32],
        starts: NDArray[np.int64],
    ) -> KMeansFamily:
        """A family with these centroids, (K, c) int8, those of a cell side by side.

        Each stands for the point of length 1 in its direction: all that `fit_cells` finds are
        there.
        """
        return cls(axes, scales, pack_cells(centroids, starts), cells, starts)

    @classmethod
    def fit(cls, sample: Vectors, *, centroids: int | None = None, seed: int = 0) -> KMeansFamily:
        """Learn from a sample; the same sample and seed give the same family.

        Args:
            sample: (n, d) float32, n >= 1.
            centroids: K, by default what suits a collection of n images; fewer are made if
                fewer vectors of the sample differ.
        """
        wanted = centroids or centroids_for(len(sample))
        sample = _different(sample)
        generator = np.random.default_rng(seed)
        axes, scales = rounded(principal_components(sample, generator).basis.T)
        count = min(wanted, len(sample))
        found = fit_cells(Projection(axes, scales).points(*rounded(sample)), count, generator)
        cells = found.centres.astype(np.float16).astype(np.float32)  # as they are stored
        return cls.of(axes, scales, rounded_centroids(found.centroids), cells, found.starts)

    @property
    def size(self) -> int:
        return int(self.starts[-1])

    def buckets(self, vectors: NDArray[Any], inverse_lengths: Vectors | None = None) -> Buckets:
        if inverse_lengths is None or vectors.dtype != np.int8:
            vectors, inverse_lengths = rounded(vectors)
        nearest = self._grouped.nearest(self.projection.points(vectors, inverse_lengths))
        return nearest.astype(np.uint32)[:, None]

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        return self._ranked.ranked(vectors, min(count, self.size))[:, None]

    def around(self, count: int) -> NDArray[np.int32]:
        """(K, count) the buckets around each, the nearest first, itself before all; count <= K."""
        return self._grouped.around(count)

    def ranking(self, count: int) -> tuple[Ranking, int]:
        return self._ranked.ranking, self._ranked.cells_for(count)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {
            "axes": self.axes,
            "scales": self.scales,
            "centroids": self.centroids,
            "cells": self.cells.astype(np.float16),
            "starts": self.starts,
        }

    @cached_property
    def projection(self) -> Projection:
        """By which vectors become points among the centroids."""
        return Projection(self.axes, self.scales)

    @property
    def centroids(self) -> NDArray[np.int8]:
        """(K, c) int8, as `of` takes them."""
        return unpack_cells(self.packed, self.starts)[:, : len(self.scales)]

    @property
    def points(self) -> Vectors:
        """(K, c) the centroids, of length 1."""
        centroids = self.centroids
        return centroids * inverse_lengths_of(centroids)[:, None]

    @cached_property
    def _grouped(self) -> Cells:
        """For those who write: it takes four times what the centroids do."""
        return Cells(self.points, self.cells, self.starts)

    @cached_property
    def _ranked(self) -> RankedCells:
        return RankedCells(self.packed, self.cells, self.starts, self.projection)


def _different(sample: Vectors) -> Vectors:
    """The sample with one vector of each that are equal; two equal centroids would share them.

    Sums with random weights tell vectors apart.
    """
    weights = np.random.default_rng(0).standard_normal(sample.shape[1])
    # Not a product by BLAS, which may round equal rows differently.
    _, first = np.unique(np.einsum("nd,d->n", sample, weights), return_index=True)
    return sample if len(first) == len(sample) else sample[np.sort(first)]
