"""Buckets made of bits, each the side of a threshold on which a vector lies.

Probes come in the order of Q. Lv et al., 'Multi-probe LSH', VLDB 2007: a bucket is the less
probable, the larger the squared distances to the thresholds that must be crossed to reach it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.hashing.family import Buckets, Vectors

MAX_BITS = 32


@dataclass(frozen=True)
class SignFamily:
    """Bit i of a bucket, the most significant first, is 1 where the vector is above plane i.

    Attributes:
        planes: (tables, k, d) float.
    """

    planes: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        check_bits(self.planes.shape[1])

    @property
    def tables(self) -> int:
        return len(self.planes)

    @property
    def size(self) -> int:
        return int(2 ** self.planes.shape[1])

    def buckets(self, vectors: NDArray[Any], inverse_lengths: Vectors | None = None) -> Buckets:
        if inverse_lengths is not None:
            from simdist.vectors.loops import restore_rows

            vectors = restore_rows(vectors, inverse_lengths)
        return home_buckets(self.distances(vectors))

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        return ranked_buckets(self.distances(vectors), count)

    def ranking(self, count: int) -> None:
        return None

    def distances(self, vectors: Vectors) -> NDArray[np.floating[Any]]:
        """(n, d) -> (n, tables, k) signed distances to the planes."""
        tables, bits, dim = self.planes.shape
        flat: NDArray[np.floating[Any]] = vectors @ self.planes.reshape(tables * bits, dim).T
        return flat.reshape(len(vectors), tables, bits)


def check_bits(bits: int) -> None:
    """Raise a UsageError if buckets cannot have so many bits."""
    if not 1 <= bits <= MAX_BITS:
        raise UsageError(f"a table needs 1 to {MAX_BITS} hyperplanes, not {bits}")


def home_buckets(distances: NDArray[np.floating[Any]]) -> Buckets:
    """(n, tables, bits) signed distances -> (n, tables), the first bit the most significant."""
    packed: Buckets = np.where(distances > 0, _masks(distances.shape[2]), np.uint32(0)).sum(
        axis=2, dtype=np.uint32
    )
    return packed


def ranked_buckets(distances: NDArray[np.floating[Any]], count: int) -> Buckets:
    """(n, tables, bits) signed distances -> (n, tables, min(count, 2 ** bits)), cheapest first.

    The sets of bits to flip are built up bit by bit, from the one that is nearest to its
    threshold. Only the `count` cheapest need be kept on the way: what a set is cheaper by than
    another, it still is when both have got the same bits more.
    """
    n, tables, bits = distances.shape
    order = np.argsort(np.abs(distances), axis=2, kind="stable")
    steps = np.take_along_axis(distances, order, axis=2) ** 2
    masks = _masks(bits)[order]
    costs = np.zeros((n, tables, 1), distances.dtype)
    flips = np.zeros((n, tables, 1), np.uint32)
    # A set with bit i comes after i + 1 sets: the empty one and those of one nearer bit.
    for bit in range(min(bits, count - 1)):
        costs = np.concatenate([costs, costs + steps[:, :, bit, None]], axis=2)
        flips = np.concatenate([flips, flips ^ masks[:, :, bit, None]], axis=2)
        ranking = np.argsort(costs, axis=2, kind="stable")[:, :, :count]
        costs = np.take_along_axis(costs, ranking, axis=2)
        flips = np.take_along_axis(flips, ranking, axis=2)
    buckets: Buckets = home_buckets(distances)[:, :, None] ^ flips
    return buckets


def _masks(bits: int) -> Buckets:
    masks: Buckets = np.left_shift(np.uint32(1), np.arange(bits, dtype=np.uint32)[::-1])
    return masks
