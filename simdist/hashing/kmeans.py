"""The k-means hash family: the bucket is the nearest of K learned centroids.

L. Pauleve, H. Jegou, L. Amsaleg, 'Locality sensitive hashing: a comparison of hash function types
and querying mechanisms', Pattern Recognition Letters 31 (2010).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Buckets, Vectors

COMPONENTS = 128
VECTORS_A_CENTROID = 16
MAX_CENTROIDS = 8192
ITERATIONS = 12
# Rows of a matrix of distances held at once.
_BLOCK = 4096


def centroids_for(images: int) -> int:
    """How many centroids suit a collection: 8 times the root of its size, if it has enough images.

    1,024 for 25,000 images and 8,192 for a million are the sizes that were measured to serve well.
    """
    return max(1, min(images // VECTORS_A_CENTROID, round(8 * math.sqrt(images)), MAX_CENTROIDS))


@dataclass(frozen=True)
class KMeansFamily:
    """Centroids in the space of the leading principal components; one table.

    Attributes:
        mean: (d,) float32, taken off first.
        basis: (d, c) float32, the principal components.
        centroids: (K, c) float32.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    centroids: NDArray[np.float32]

    kind: ClassVar[str] = "kmeans"
    tables: ClassVar[int] = 1

    @classmethod
    def fit(cls, sample: Vectors, *, centroids: int | None = None, seed: int = 0) -> KMeansFamily:
        """Learn from a sample; the same sample and seed give the same family.

        Args:
            sample: (n, d) float32, n >= 1.
            centroids: K, at most n; by default what suits a collection of n images.
        """
        mean, basis = _principal_components(sample)
        points: Vectors = np.asarray((sample - mean) @ basis, np.float32)
        count = min(centroids or centroids_for(len(sample)), len(sample))
        return cls(mean, basis, _lloyd(points, count, np.random.default_rng(seed)))

    @property
    def size(self) -> int:
        return len(self.centroids)

    def buckets(self, vectors: Vectors) -> Buckets:
        nearest = [closeness.argmax(axis=1) for closeness in self._closeness(vectors)]
        return np.concatenate([np.empty(0, np.intp), *nearest]).astype(np.uint32)[:, None]

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        count = min(count, self.size)
        orders = [_best(closeness, count) for closeness in self._closeness(vectors)]
        return np.concatenate([np.empty((0, count), np.uint32), *orders])[:, None, :]

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"mean": self.mean, "basis": self.basis, "centroids": self.centroids}

    def _closeness(self, vectors: Vectors) -> list[NDArray[np.float32]]:
        """In blocks, (n, K): the larger, the nearer the centroid."""
        points: Vectors = np.asarray((vectors - self.mean) @ self.basis, np.float32)
        return [
            _closeness(points[start : start + _BLOCK], self.centroids)
            for start in range(0, len(points), _BLOCK)
        ]


def _closeness(points: Vectors, centroids: Vectors) -> NDArray[np.float32]:
    # |p - c|^2 without |p|^2, which is the same for all centroids, halved and negated.
    halves = np.float32(0.5) * np.einsum("kc,kc->k", centroids, centroids)
    closeness: NDArray[np.float32] = points @ centroids.T - halves
    return closeness


def _best(closeness: NDArray[np.float32], count: int) -> Buckets:
    if count < closeness.shape[1]:
        chosen = np.argpartition(-closeness, count - 1, axis=1)[:, :count]
    else:
        chosen = np.broadcast_to(np.arange(count), closeness.shape)
    order = np.argsort(-np.take_along_axis(closeness, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1).astype(np.uint32)


def _principal_components(sample: Vectors) -> tuple[Vectors, Vectors]:
    mean = sample.mean(axis=0)
    centred = sample - mean
    count = min(COMPONENTS, sample.shape[1])
    if count <= len(sample) < sample.shape[1]:
        # Of few vectors with many numbers the singular vectors come six times cheaper.
        axes = np.linalg.svd(centred, full_matrices=False)[2].T
    else:
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return mean.astype(np.float32), np.ascontiguousarray(axes[:, :count], dtype=np.float32)


def _lloyd(points: Vectors, count: int, generator: np.random.Generator) -> Vectors:
    """Lloyd's iterations from random points; a centroid left empty moves to the worst-served."""
    centroids = points[generator.choice(len(points), count, replace=False)]
    for _ in range(ITERATIONS):
        closeness = _closeness(points, centroids)
        nearest = closeness.argmax(axis=1)
        sizes = np.bincount(nearest, minlength=count)
        filled = np.flatnonzero(sizes)
        # Points in the order of their centroids: a sum of rows side by side is quick.
        starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
        sums = np.add.reduceat(points[np.argsort(nearest, kind="stable")], starts, axis=0)
        centroids[filled] = sums / sizes[filled, None]
        empty = np.flatnonzero(sizes == 0)
        distance = np.einsum("nc,nc->n", points, points) - 2 * closeness.max(axis=1)
        centroids[empty] = points[np.argsort(-distance, kind="stable")[: len(empty)]]
    return centroids
